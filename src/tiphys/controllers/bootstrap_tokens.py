"""Bootstrap tokens: Secrets kube-system/bootstrap-token-<id>. One controller deletes those that have expired, one signs
the ConfigMap kube-public/cluster-info with them, so that who has a token knows the cluster when it sees it.

Upstream runs neither unless it is asked to by name; kubeadm asks for both.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from tiphys.base.clock import parse_rfc3339
from tiphys.base.errors import Conflict, NotFound
from tiphys.client.reconcile import Result
from tiphys.client.resources import CONFIG_MAPS, SECRETS
from tiphys.client.types import Object
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import name, namespace, uid

TYPE, NAMESPACE = "bootstrap.kubernetes.io/token", "kube-system"
SECRET = re.compile(r"bootstrap-token-([a-z0-9]{6})")
INFO, INFO_NAMESPACE = "cluster-info", "kube-public"
KUBECONFIG, SIGNATURE = "kubeconfig", "jws-kubeconfig-"


def field(secret: Object, key: str) -> str:
    """A value of the Secret as text; "" for none."""
    try:
        return base64.b64decode((secret.get("data") or {}).get(key, "")).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def seconds_left(secret: Object, now: float) -> float | None:
    """Until it expires, not positive when it has; None if it never does. What is no date has expired."""
    expiration = field(secret, "expiration")
    if not expiration:
        return None
    try:
        return parse_rfc3339(expiration) - now
    except ValueError:
        return 0.0


def signing_token(secret: Object, now: float) -> tuple[str, str] | None:
    """ID and secret of a token that may sign."""
    found = SECRET.fullmatch(name(secret))
    token_id, token_secret = field(secret, "token-id"), field(secret, "token-secret")
    left = seconds_left(secret, now)
    expired = left is not None and left <= 0
    if found is None or found[1] != token_id or not token_secret or expired:
        return None
    return (token_id, token_secret) if field(secret, "usage-bootstrap-signing") == "true" else None


def signature(content: str, token_id: str, token_secret: str) -> str:
    """A detached JWS (RFC 7515, appendix F) by HS256."""
    head = _encode(orjson.dumps({"alg": "HS256", "kid": token_id}))
    signed = f"{head}.{_encode(content.encode())}".encode()
    return f"{head}..{_encode(hmac.new(token_secret.encode(), signed, hashlib.sha256).digest())}"


def signed(info: Object, tokens: Iterable[tuple[str, str]]) -> dict[str, Any] | None:
    """The ConfigMap as it should be written; None if it is right."""
    data: Mapping[str, str] = info.get("data") or {}
    if KUBECONFIG not in data:
        return None
    wanted = {key: value for key, value in data.items() if not key.startswith(SIGNATURE)}
    wanted |= {SIGNATURE + token_id: signature(data[KUBECONFIG], token_id, secret) for token_id, secret in tokens}
    return None if wanted == data else {**info, "data": wanted}


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class TokenCleanerController(Controller):
    """Keys are Secrets."""

    name = "token-cleaner-controller"
    account = "token-cleaner"
    workers = 1

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._secrets = self.watch(SECRETS, fields=f"type={TYPE}")
        self._secrets.subscribe(self.enqueue)

    async def reconcile(self, key: str) -> Result | None:
        secret = self._secrets.by_key(key)
        if secret is None or namespace(secret) != NAMESPACE:
            return None
        left = seconds_left(secret, self.clock.time())
        if left is None:
            return None
        if left > 0:
            return Result(left)
        try:
            await self.client.delete(SECRETS, name(secret), namespace(secret), uid=uid(secret))
        except (NotFound, Conflict):
            return None
        return None


class BootstrapSignerController(Controller):
    """The only key is the ConfigMap."""

    name = "bootstrap-signer-controller"
    account = "bootstrap-signer"
    workers = 1

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._secrets = self.watch(SECRETS, fields=f"type={TYPE}")
        self._maps = self.watch(CONFIG_MAPS, fields=f"metadata.name={INFO}")
        self._secrets.subscribe(self._changed)
        self._maps.subscribe(self._changed)

    async def reconcile(self, key: str) -> Result | None:
        info, now = self._maps.get(INFO_NAMESPACE, INFO), self.clock.time()
        if info is None:
            return None
        secrets = list(self._secrets.list(NAMESPACE))
        tokens = [found for secret in secrets if (found := signing_token(secret, now)) is not None]
        new = signed(info, tokens)
        if new is not None:
            await self.client.update(CONFIG_MAPS, new)
        ends = [left for secret in secrets if (left := seconds_left(secret, now)) is not None and left > 0]
        return Result(min(ends)) if ends else None

    def _changed(self, old: Object | None, new: Object | None) -> None:
        self.queue.add(INFO)
