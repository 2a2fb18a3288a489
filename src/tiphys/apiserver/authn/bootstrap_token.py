"""Bootstrap tokens: abcdef.0123456789abcdef, kept as Secrets of kube-system, for nodes that join."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Sequence

from tiphys.apiserver.types import Object, Reader
from tiphys.base.clock import Clock, SystemClock, parse_rfc3339
from tiphys.base.identity import User

TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
GROUP = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]")
TYPE = "bootstrap.kubernetes.io/token"


class BootstrapTokens:
    """Authenticates by the Secrets bootstrap-token-<id> whose usage-bootstrap-authentication is "true"."""

    def __init__(self, reader: Reader, clock: Clock | None = None) -> None:
        self._reader = reader
        self._clock = clock or SystemClock()

    async def authenticate_token(self, token: str, audiences: Sequence[str]) -> tuple[User, tuple[str, ...]] | None:
        parts = TOKEN.fullmatch(token)
        if parts is None:
            return None
        secret = self._reader.get("", "secrets", "kube-system", f"bootstrap-token-{parts[1]}")
        if secret is None or secret.get("type") != TYPE or secret["metadata"].get("deletionTimestamp"):
            return None
        data = _texts(secret)
        groups = [group for group in data.get("auth-extra-groups", "").split(",") if group]
        if not self._good(data, parts[1], parts[2]) or not all(GROUP.fullmatch(group) for group in groups):
            return None
        user = User(f"system:bootstrap:{parts[1]}", groups=("system:bootstrappers", *sorted(groups)))
        return user, tuple(audiences)

    def _good(self, data: dict[str, str], token_id: str, token_secret: str) -> bool:
        if data.get("token-id") != token_id or data.get("usage-bootstrap-authentication") != "true":
            return False
        if not hmac.compare_digest(data.get("token-secret", "").encode(), token_secret.encode()):
            return False
        expiration = data.get("expiration", "")
        try:
            return not expiration or parse_rfc3339(expiration) > self._clock.time()
        except ValueError:
            return False


def _texts(secret: Object) -> dict[str, str]:
    texts: dict[str, str] = {}
    for key, value in (secret.get("data") or {}).items():
        try:
            texts[key] = base64.b64decode(value).decode()
        except (binascii.Error, UnicodeDecodeError):
            continue
    return texts
