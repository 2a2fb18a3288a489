"""Service account tokens: a JWT is good while its account, and what it is bound to, exist with the same UID."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Awaitable, Callable, Sequence

from tiphys.apiserver.authn.certificate import CREDENTIAL_ID
from tiphys.apiserver.authn.chain import Refused
from tiphys.apiserver.authn.notes import annotate, warn
from tiphys.apiserver.tokens import LEGACY_ISSUER, PREFIX, Claims, InvalidToken, TokenIssuer
from tiphys.apiserver.types import Object, Reader
from tiphys.base.clock import Clock, SystemClock, parse_rfc3339, utc
from tiphys.base.identity import User

POD_NAME, POD_UID = "authentication.kubernetes.io/pod-name", "authentication.kubernetes.io/pod-uid"
NODE_NAME, NODE_UID = "authentication.kubernetes.io/node-name", "authentication.kubernetes.io/node-uid"
LAST_USED, INVALID_SINCE = "kubernetes.io/legacy-token-last-used", "kubernetes.io/legacy-token-invalid-since"
NOTE = "authentication.k8s.io/"
LEEWAY = 60.0
"""Seconds after its deletion timestamp that an object still counts."""
DAY = 86400.0

MarkUsed = Callable[[Object, str], Awaitable[None]]
"""(secret, date) -> writes the date as its label of last use; errors are its own business."""


class ServiceAccounts:
    """Authenticates the tokens that `issuer` signed. Without `mark_used` nobody learns which Secrets are in use."""

    def __init__(
        self, issuer: TokenIssuer, reader: Reader, clock: Clock | None = None, mark_used: MarkUsed | None = None
    ) -> None:
        self._issuer = issuer
        self._reader = reader
        self._clock = clock or SystemClock()
        self._mark_used = mark_used

    async def authenticate_token(self, token: str, audiences: Sequence[str]) -> tuple[User, tuple[str, ...]] | None:
        if not self._issuer.ours(token):
            return None
        try:
            claims = self._issuer.verify(token)
        except InvalidToken as error:
            raise Refused(str(error)) from error
        of_token = _audiences(claims)
        if not of_token:
            annotate(NOTE + "legacy-token", str(claims.get("sub", "")))
            of_token = self._issuer.audiences
        common = self._common(of_token, audiences or self._issuer.audiences)
        if claims["iss"] == LEGACY_ISSUER:
            return await self._legacy_user(token, claims), common
        return self._user(claims), common

    def _common(self, of_token: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
        common = tuple(audience for audience in of_token if audience in wanted)
        if not common:
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
            extra |= {POD_NAME: (pod["name"],), POD_UID: (pod.get("uid", ""),)}
        if node is not None:
            if pod is None:
                self._check_bound("nodes", "", node, "node")
            extra[NODE_NAME] = (node["name"],)
            if node.get("uid"):
                extra[NODE_UID] = (node["uid"],)
        self._note_staleness(claims)
        return account_user(namespace, account["name"], account.get("uid", ""), extra)

    def _note_staleness(self, claims: Claims) -> None:
        after = claims["kubernetes.io"].get("warnafter")
        if isinstance(after, int) and 0 < after < self._clock.time():
            late = int(self._clock.time()) - after
            text = f"subject: {claims.get('sub', '')}, seconds after warning threshold: {late}"
            annotate(NOTE + "stale-token", text)

    async def _legacy_user(self, token: str, claims: Claims) -> User:
        namespace, secret_name, name, uid = _legacy_claims(claims)
        secret = self._reader.get("", "secrets", namespace, secret_name)
        if secret is None or secret["metadata"].get("deletionTimestamp"):
            raise Refused("Token has been invalidated")
        if not hmac.compare_digest(_secret_token(secret), token.encode()):
            raise Refused("Token does not match server's copy")
        account = self._reader.get("", "serviceaccounts", namespace, name)
        if account is None:
            raise Refused(f'serviceaccounts "{name}" not found')
        if account["metadata"].get("deletionTimestamp"):
            raise Refused(f"ServiceAccount {namespace}/{name} has been deleted")
        if account["metadata"].get("uid", "") != uid:
            raise Refused(f"ServiceAccount UID ({account['metadata'].get('uid', '')}) does not match claim ({uid})")
        await self._track(secret, account)
        return account_user(namespace, name, uid, {})

    async def _track(self, secret: Object, account: Object) -> None:
        """Tell who watches that the Secret's token is in use. Raises Refused when it has been switched off."""
        metadata = secret["metadata"]
        labels, where = metadata.get("labels") or {}, f"{metadata.get('namespace', '')}/{metadata['name']}"
        if labels.get(INVALID_SINCE):
            annotate(NOTE + "legacy-token-invalidated", f"{metadata['name']}/{metadata.get('namespace', '')}")
            await self._mark(secret)
            raise Refused(
                f"the token in secret {where} for service account {metadata.get('namespace', '')}/"
                f"{account['metadata']['name']} has been marked invalid. Use tokens from the TokenRequest API or "
                f"manually created secret-based tokens, or remove the '{INVALID_SINCE}' label from the secret to "
                "temporarily allow use of this token"
            )
        if any(each.get("name") == metadata["name"] for each in account.get("secrets") or ()):
            warn(
                "Use tokens from the TokenRequest API or manually created secret-based tokens instead of "
                "auto-generated secret-based tokens."
            )
            annotate(NOTE + "legacy-token-autogenerated-secret", metadata["name"])
        else:
            annotate(NOTE + "legacy-token-manual-secret", metadata["name"])
        await self._mark(secret)

    async def _mark(self, secret: Object) -> None:
        now = self._clock.time()
        today, tomorrow = (utc(moment).strftime("%Y-%m-%d") for moment in (now, now + DAY))
        used = (secret["metadata"].get("labels") or {}).get(LAST_USED)
        if self._mark_used is not None and used not in (today, tomorrow):
            await self._mark_used(secret, today)

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
        if obj is None:
            raise Refused("service account token has been invalidated")
        have, wanted = obj["metadata"].get("uid", ""), reference.get("uid", "")
        if have != wanted:
            raise Refused(f"{word} UID ({have}) does not match service account {word} ref claim ({wanted})")
        if self._deleted(obj):
            raise Refused("service account token has been invalidated")

    def _deleted(self, obj: Object) -> bool:
        """Whether it was to be gone more than the leeway ago."""
        moment = obj["metadata"].get("deletionTimestamp")
        return moment is not None and parse_rfc3339(moment) < self._clock.time() - LEEWAY


def account_user(namespace: str, name: str, uid: str, extra: dict[str, tuple[str, ...]]) -> User:
    """The user that a service account is."""
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    return User(f"system:serviceaccount:{namespace}:{name}", uid, groups, extra)


def _audiences(claims: Claims) -> Sequence[str]:
    found = claims.get("aud") or ()
    return (found,) if isinstance(found, str) else tuple(each for each in found if isinstance(each, str))


def _legacy_claims(claims: Claims) -> tuple[str, str, str, str]:
    """Namespace, secret, account and its UID. Raises Refused for what is missing, in upstream's order."""
    if not claims.get("sub"):
        raise Refused("sub claim is missing")
    fields = {
        "namespace": "namespace",
        "secret.name": "secretName",
        "service-account.name": "serviceAccountName",
        "service-account.uid": "serviceAccountUID",
    }
    found = [claims.get(PREFIX + field) for field in fields]
    for value, word in zip(found, fields.values(), strict=True):
        if not value or not isinstance(value, str):
            raise Refused(f"{word} claim is missing")
    namespace, secret, name, uid = (str(value) for value in found)
    if claims["sub"] != f"system:serviceaccount:{namespace}:{name}":
        raise Refused("sub claim is invalid")
    return namespace, secret, name, uid


def _secret_token(secret: Object) -> bytes:
    return base64.b64decode((secret.get("data") or {}).get("token", ""))


def _go_list(items: Sequence[str]) -> str:
    """A list as Go's %q prints it."""
    return "[" + " ".join(f'"{item}"' for item in items) + "]"
