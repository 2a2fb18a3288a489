"""Service account tokens: a JWT is good while its account, and what it is bound to, exist with the same UID."""

from __future__ import annotations

from collections.abc import Sequence

from tiphys.apiserver.authn.certificate import CREDENTIAL_ID
from tiphys.apiserver.authn.chain import Refused
from tiphys.apiserver.tokens import LEGACY_ISSUER, PREFIX, Claims, InvalidToken, TokenIssuer
from tiphys.apiserver.types import Object, Reader
from tiphys.base.clock import Clock, SystemClock, parse_rfc3339
from tiphys.base.identity import User

POD_NAME, POD_UID = "authentication.kubernetes.io/pod-name", "authentication.kubernetes.io/pod-uid"
NODE_NAME, NODE_UID = "authentication.kubernetes.io/node-name", "authentication.kubernetes.io/node-uid"
LEEWAY = 60.0
"""Seconds after its deletion timestamp that an object still counts."""


class ServiceAccounts:
    """Authenticates the tokens that `issuer` signed."""

    def __init__(self, issuer: TokenIssuer, reader: Reader, clock: Clock | None = None) -> None:
        self._issuer = issuer
        self._reader = reader
        self._clock = clock or SystemClock()

    async def authenticate_token(self, token: str, audiences: Sequence[str]) -> tuple[User, tuple[str, ...]] | None:
        if not self._issuer.ours(token):
            return None
        try:
            claims = self._issuer.verify(token)
        except InvalidToken as error:
            raise Refused(str(error)) from error
        if claims["iss"] == LEGACY_ISSUER:
            return self._legacy_user(token, claims), self._common(self._issuer.audiences, audiences)
        return self._user(claims), self._common(claims.get("aud", ()), audiences)

    def _common(self, of_token: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
        common = tuple(audience for audience in wanted if audience in of_token)
        if wanted and not common:
            raise Refused(
                f"token audiences {_go_list(of_token)} is invalid for the target audiences {_go_list(wanted)}"
            )
        return common

    def _user(self, claims: Claims) -> User:
        private = claims["kubernetes.io"]
        namespace, account = private["namespace"], private["serviceaccount"]
        self._check_account(namespace, account["name"], account.get("uid", ""))
        extra: dict[str, tuple[str, ...]] = {}
        if claims.get("jti"):
            extra[CREDENTIAL_ID] = (f"JTI={claims['jti']}",)
        pod, node, secret = private.get("pod"), private.get("node"), private.get("secret")
        if secret is not None:
            self._check_bound("secrets", namespace, secret, "secret")
        if pod is not None:
            self._check_bound("pods", namespace, pod, "pod")
            extra |= {POD_NAME: (pod["name"],), POD_UID: (pod["uid"],)}
        if node is not None:
            if pod is None:
                self._check_bound("nodes", "", node, "node")
            extra[NODE_NAME] = (node["name"],)
            if node.get("uid"):
                extra[NODE_UID] = (node["uid"],)
        return account_user(namespace, account["name"], account.get("uid", ""), extra)

    def _legacy_user(self, token: str, claims: Claims) -> User:
        namespace, name = claims.get(PREFIX + "namespace", ""), claims.get(PREFIX + "service-account.name", "")
        secret = self._reader.get("", "secrets", namespace, claims.get(PREFIX + "secret.name", ""))
        if secret is None or self._deleted(secret):
            raise Refused("service account token has been invalidated")
        if _secret_token(secret) != token:
            raise Refused("service account token does not match server's copy")
        uid = claims.get(PREFIX + "service-account.uid", "")
        self._check_account(namespace, name, uid)
        return account_user(namespace, name, uid, {})

    def _check_account(self, namespace: str, name: str, uid: str) -> None:
        account = self._reader.get("", "serviceaccounts", namespace, name)
        if account is None:
            raise Refused(f'serviceaccounts "{name}" not found')
        have = account["metadata"].get("uid", "")
        if have != uid:
            raise Refused(f"service account UID ({have}) does not match claim ({uid})")
        if self._deleted(account):
            raise Refused(f"service account {namespace}/{name} has been deleted")

    def _check_bound(self, plural: str, namespace: str, reference: Object, word: str) -> None:
        obj = self._reader.get("", plural, namespace, reference["name"])
        if obj is None or self._deleted(obj):
            raise Refused("service account token has been invalidated")
        have, wanted = obj["metadata"].get("uid", ""), reference.get("uid", "")
        if have != wanted:
            raise Refused(f"{word} UID ({have}) does not match service account {word} ref claim ({wanted})")

    def _deleted(self, obj: Object) -> bool:
        """Whether it was to be gone more than the leeway ago."""
        moment = obj["metadata"].get("deletionTimestamp")
        return moment is not None and parse_rfc3339(moment) < self._clock.time() - LEEWAY


def account_user(namespace: str, name: str, uid: str, extra: dict[str, tuple[str, ...]]) -> User:
    """The user that a service account is."""
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    return User(f"system:serviceaccount:{namespace}:{name}", uid, groups, extra)


def _secret_token(secret: Object) -> str:
    import base64

    return base64.b64decode((secret.get("data") or {}).get("token", "")).decode("utf-8", "replace")


def _go_list(items: Sequence[str]) -> str:
    """A list as Go's %q prints it."""
    return "[" + " ".join(f'"{item}"' for item in items) + "]"
