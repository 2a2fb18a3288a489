"""Secrets of type kubernetes.io/service-account-token: filled with a token that never expires, gone with the account.

The setting "service-account-token" is what signs: (account, secret) -> token. Without it, nothing is done, as upstream
does without a private key. The setting "root-ca" is the PEM text that goes with the token.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Iterable
from typing import Any

from tiphys.base.errors import Conflict, NotFound
from tiphys.base.identity import User
from tiphys.client.informer import key_of
from tiphys.client.reconcile import Result
from tiphys.client.resources import SECRETS, SERVICE_ACCOUNTS
from tiphys.client.types import Object
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import annotations_of, deleting, name, namespace, uid

log = logging.getLogger(__name__)

TYPE = "kubernetes.io/service-account-token"
ACCOUNT_NAME = "kubernetes.io/service-account.name"
ACCOUNT_UID = "kubernetes.io/service-account.uid"

Sign = Callable[[Object, Object], str]


def belongs(secret: Object, account: Object | None) -> bool:
    """Whether `account` is the one that the secret names, and not a later one of the same name."""
    notes = annotations_of(secret)
    if account is None or notes.get(ACCOUNT_NAME) != name(account):
        return False
    return notes.get(ACCOUNT_UID) in (None, "", uid(account))


def filled(secret: Object, account: Object, certificate: str, sign: Sign) -> dict[str, Any] | None:
    """The secret as it should be written; None if it lacks nothing."""
    data = dict(secret.get("data") or {})
    if certificate:
        data["ca.crt"] = _encoded(certificate)
    if not data.get("namespace"):
        data["namespace"] = _encoded(namespace(secret))
    if not data.get("token"):
        data["token"] = _encoded(sign(account, secret))
    if data == secret.get("data"):
        return None
    notes = {**annotations_of(secret), ACCOUNT_NAME: name(account), ACCOUNT_UID: uid(account)}
    return {**secret, "metadata": {**secret["metadata"], "annotations": notes}, "data": data}


def without_reference(account: Object, secret_name: str) -> dict[str, Any] | None:
    """The account without its reference to that secret; None if it has none."""
    references = account.get("secrets") or ()
    kept = [each for each in references if each.get("name") != secret_name]
    return {**account, "secrets": kept} if len(kept) < len(references) else None


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class ServiceAccountTokenController(Controller):
    """Keys are secrets."""

    name = "serviceaccount-token-controller"
    account = ""
    workers = 5

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._sign: Sign | None = context.settings.get("service-account-token")
        if self._sign is None:
            return
        self._certificate = str(context.settings.get("root-ca", ""))
        self._accounts = self.watch(SERVICE_ACCOUNTS)
        self._secrets = self.watch(SECRETS, fields=f"type={TYPE}")
        self._secrets.add_index("account", _account_key)
        self._gone: dict[str, Object] = {}
        self._secrets.subscribe(self._secret_changed)
        self._accounts.subscribe(self._account_changed)

    def identity(self) -> User:
        """The manager's own: upstream grants this to no service account, which could else give itself any token."""
        return User("system:kube-controller-manager", groups=("system:authenticated",))

    async def run(self) -> None:
        if self._sign is None:
            log.info("%s does nothing: there is no key to sign with", self.name)
            return
        await super().run()

    async def reconcile(self, key: str) -> Result | None:
        secret = self._secrets.by_key(key)
        gone = self._gone.pop(key, None)
        if gone is not None:
            await self._forget(gone)
        if secret is None or deleting(secret) or self._sign is None or not annotations_of(secret).get(ACCOUNT_NAME):
            return None
        account = await self._account_of(secret)
        if account is None:
            await self._delete(secret)
            return None
        new = filled(secret, account, self._certificate, self._sign)
        if new is not None:
            await self._update(new)
        return None

    async def _account_of(self, secret: Object) -> Object | None:
        """From the cache, or from the server, lest a token be deleted because the cache is behind."""
        account_name = annotations_of(secret).get(ACCOUNT_NAME, "")
        account = self._accounts.get(namespace(secret), account_name)
        if not belongs(secret, account):
            try:
                account = await self.client.get(SERVICE_ACCOUNTS, account_name, namespace(secret))
            except NotFound:
                return None
        return account if belongs(secret, account) else None

    async def _delete(self, secret: Object) -> None:
        try:
            await self.client.delete(SECRETS, name(secret), namespace(secret), uid=uid(secret))
        except (NotFound, Conflict):
            return

    async def _update(self, secret: Object) -> None:
        try:
            await self.client.update(SECRETS, secret)
        except (NotFound, Conflict):  # its next version comes, or its end
            return

    async def _forget(self, secret: Object) -> None:
        """The account need not mention the secret any more."""
        account_name = annotations_of(secret).get(ACCOUNT_NAME, "")
        account = self._accounts.get(namespace(secret), account_name)
        if account is None or not belongs(secret, account):
            return
        new = without_reference(account, name(secret))
        if new is None:
            return
        try:
            await self.client.update(SERVICE_ACCOUNTS, new)
        except Conflict:
            self._gone[key_of(secret)] = secret
            raise
        except NotFound:
            return

    def _secret_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None and old is not None:
            self._gone[key_of(old)] = old
        self.enqueue(old, new)

    def _account_changed(self, old: Object | None, new: Object | None) -> None:
        account = new or old
        if account is not None and (old is None or new is None):
            for secret in self._secrets.by_index("account", key_of(account)):
                self.queue.add(key_of(secret))


def _account_key(secret: Object) -> Iterable[str]:
    named = annotations_of(secret).get(ACCOUNT_NAME)
    return (f"{namespace(secret)}/{named}",) if named else ()
