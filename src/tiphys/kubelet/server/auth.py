"""Who may use the node API: client certificates of the cluster's CA, and bearer tokens that the API server knows.

What that somebody may do is asked of the API server (SubjectAccessReview on nodes and its subresources, the fine ones
first). Answers are kept for as long as the configuration says, certificates are verified at each request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from tiphys.base.certificates import ClientVerifier, Unverified, Verified
from tiphys.base.clock import Clock
from tiphys.base.errors import ApiError, Forbidden, InternalError, Unauthorized
from tiphys.base.http.types import Request
from tiphys.base.identity import User
from tiphys.client.types import Client, Resource
from tiphys.kubelet.server.settings import ServerSettings

TOKEN_REVIEWS = Resource("authentication.k8s.io", "v1", "tokenreviews", namespaced=False)
ACCESS_REVIEWS = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", namespaced=False)

ANONYMOUS = User("system:anonymous", groups=("system:unauthenticated",))
_LIMIT = 4096
_BAD_CERTIFICATES = 64
_VERBS = {"POST": "create", "GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_FINE = {"pods": "pods", "runningpods": "pods", "healthz": "healthz", "configz": "configz"}
_COARSE = {
    "stats": "stats",
    "metrics": "metrics",
    "logs": "log",
    "checkpoint": "checkpoint",
    "statusz": "statusz",
    "flagz": "configz",
}


def subresources(path: str) -> list[str]:
    """What of a node a path is, the finest first: one of them must be allowed."""
    top = path.strip("/").partition("/")[0]
    return [*([_FINE[top]] if top in _FINE else []), _COARSE.get(top, "proxy")]


class Gate:
    """Authenticates and authorizes; raises Unauthorized, Forbidden or InternalError."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        node_name: str,
        settings: ServerSettings,
        authorities: Callable[[], bytes] = lambda: b"",
    ) -> None:
        self._client, self._clock, self._node, self._settings = client, clock, node_name, settings
        self._decisions: dict[tuple[object, ...], tuple[float, bool]] = {}
        self._tokens: dict[str, tuple[float, User | None]] = {}
        self._authorities = authorities
        self._pem = b""
        self._verifier = ClientVerifier(b"")
        self._certificates: dict[tuple[bytes, ...], Verified | str] = {}

    async def pass_(self, request: Request) -> User:
        """Whose request it is, if it may be served."""
        user = await self._who(request)
        if self._settings.always_allow:
            return user
        verb = _VERBS.get(request.method, "")
        asked = subresources(request.path)
        for subresource in asked:
            if await self._allowed(user, verb, subresource):
                return user
        shown = " ".join(asked)
        raise Forbidden(f"Forbidden (user={user.name}, verb={verb}, resource=nodes, subresource(s)=[{shown}])\n")

    async def _who(self, request: Request) -> User:
        """As a union of authenticators: what is there but no good is refused, unless another one knows it."""
        refused = False
        if request.peer.certificate is not None:
            return certificate_user(request.peer.certificate)
        if request.peer.presented:
            if self._verified(request.peer.presented):
                return certificate_user(request.peer.presented[0])
            refused = True
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token.strip() and self._settings.tokens:
            user = await self._token_user(token.strip())
            if user is not None:
                return user
            refused = True
        if refused or not self._settings.anonymous:
            raise Unauthorized("Unauthorized")
        return ANONYMOUS

    def _verified(self, chain: tuple[bytes, ...]) -> bool:
        """Whether a presented certificate is good at this moment; the signatures are looked at once."""
        pem = self._authorities()
        if pem != self._pem:
            self._pem, self._verifier = pem, ClientVerifier(pem)
            self._certificates.clear()
        found = self._certificates.get(chain)
        if found is None:
            try:
                found = self._verifier.verify(chain)
            except Unverified as error:
                found = str(error)
            _keep(self._certificates, chain, found, _BAD_CERTIFICATES)
        if isinstance(found, str):
            return False
        try:
            found.check(self._clock.time())
        except Unverified:
            return False
        return True

    async def _token_user(self, token: str) -> User | None:
        key = hashlib.sha256(token.encode()).hexdigest()
        until, user = self._tokens.get(key, (0.0, None))
        if self._clock.monotonic() < until:
            return user
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        try:
            status: Mapping[str, Any] = (await self._client.create(TOKEN_REVIEWS, review)).get("status") or {}
        except (ApiError, OSError) as error:
            raise Unauthorized("Unauthorized") from error
        known: User | None = None
        if status.get("authenticated"):
            found = status.get("user") or {}
            extra = {name: tuple(values) for name, values in (found.get("extra") or {}).items()}
            known = User(found.get("username", ""), found.get("uid", ""), tuple(found.get("groups") or ()), extra)
        _keep(self._tokens, key, (self._clock.monotonic() + self._settings.token_seconds, known))
        return known

    async def _allowed(self, user: User, verb: str, subresource: str) -> bool:
        extra = {name: list(values) for name, values in user.extra.items()}
        facts = tuple((name, *values) for name, values in extra.items())
        key = (user.name, user.uid, user.groups, facts, verb, subresource)
        until, known = self._decisions.get(key, (0.0, False))
        if self._clock.monotonic() < until:
            return known
        attributes = {"verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource}
        spec: dict[str, Any] = {
            "user": user.name,
            "uid": user.uid,
            "groups": list(user.groups),
            "resourceAttributes": {**attributes, "name": self._node},
        }
        if extra:
            spec["extra"] = extra
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        try:
            answer = await self._client.create(ACCESS_REVIEWS, review)
        except (ApiError, OSError) as error:
            what = f"user={user.name}, verb={verb}, resource=nodes, subresource={subresource}"
            raise InternalError(f"Authorization error ({what})") from error
        allowed = bool((answer.get("status") or {}).get("allowed"))
        kept = self._settings.allowed_seconds if allowed else self._settings.denied_seconds
        _keep(self._decisions, key, (self._clock.monotonic() + kept, allowed))
        return allowed


def _keep(table: dict[Any, Any], key: Any, value: Any, limit: int = _LIMIT) -> None:
    table.pop(key, None)
    table[key] = value
    while len(table) > limit:
        del table[next(iter(table))]


def certificate_user(certificate: bytes) -> User:
    """The user that a client certificate (DER) names: common name and organizations. Raises Unauthorized."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    subject = x509.load_der_x509_certificate(certificate).subject
    names = [str(one.value) for one in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    groups = [str(one.value) for one in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    if not names:
        raise Unauthorized("Unauthorized")
    return User(names[-1], groups=(*groups, "system:authenticated"))
