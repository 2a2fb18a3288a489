"""Who may use the node API: client certificates of the cluster's CA, and bearer tokens that the API server knows.

Every request must be somebody's; what that somebody may do is asked of the API server (SubjectAccessReview on
nodes/proxy, nodes/stats, nodes/metrics, nodes/log), but for system:masters. Answers are kept for a while, as
upstream does (5 minutes yes, 30 seconds no).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from tiphys.base.clock import Clock
from tiphys.base.errors import ApiError, Forbidden, Unauthorized
from tiphys.base.http.types import Request
from tiphys.base.identity import User
from tiphys.client.types import Client, Resource

TOKEN_REVIEWS = Resource("authentication.k8s.io", "v1", "tokenreviews", namespaced=False)
ACCESS_REVIEWS = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", namespaced=False)

_ALLOWED_FOR, _DENIED_FOR, _TOKEN_FOR = 300.0, 30.0, 120.0
_LIMIT = 4096
_VERBS = {"POST": "create", "GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_SUBRESOURCES = {"stats": "stats", "metrics": "metrics", "logs": "log", "checkpoint": "checkpoint"}
_FINE = {"pods": "pods", "runningpods": "pods", "healthz": "healthz", "configz": "configz"}


class Gate:
    """Authenticates and authorizes; raises Unauthorized or Forbidden."""

    def __init__(self, client: Client, clock: Clock, node_name: str) -> None:
        self._client = client
        self._clock = clock
        self._node = node_name
        self._decisions: dict[tuple[str, ...], tuple[float, bool]] = {}
        self._tokens: dict[str, tuple[float, User]] = {}

    async def pass_(self, request: Request) -> User:
        """Whose request it is, if it may be served."""
        user = await self._who(request)
        if "system:masters" in user.groups:
            return user
        verb = _VERBS.get(request.method, "")
        top = request.path.strip("/").partition("/")[0]
        asked = [_FINE[top]] if top in _FINE else []
        asked.append(_SUBRESOURCES.get(top, "proxy"))
        for subresource in asked:
            if await self._allowed(user, verb, subresource):
                return user
        raise Forbidden(
            f"Forbidden (user={user.name}, verb={verb}, resource=nodes, subresource(s)=[{' '.join(asked)}])"
        )

    async def _who(self, request: Request) -> User:
        if request.peer.certificate is not None:
            return certificate_user(request.peer.certificate)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthorized("Unauthorized")
        return await self._token_user(token.strip())

    async def _token_user(self, token: str) -> User:
        key = hashlib.sha256(token.encode()).hexdigest()
        until, user = self._tokens.get(key, (0.0, None))
        if user is not None and self._clock.monotonic() < until:
            return user
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        try:
            status: Mapping[str, Any] = (await self._client.create(TOKEN_REVIEWS, review)).get("status") or {}
        except (ApiError, OSError) as error:
            raise Unauthorized(f"Unauthorized: the token cannot be checked: {error}") from error
        if not status.get("authenticated"):
            raise Unauthorized("Unauthorized")
        found = status.get("user") or {}
        user = User(found.get("username", ""), found.get("uid", ""), tuple(found.get("groups") or ()))
        _keep(self._tokens, key, (self._clock.monotonic() + _TOKEN_FOR, user))
        return user

    async def _allowed(self, user: User, verb: str, subresource: str) -> bool:
        key = (user.name, *user.groups, verb, subresource)
        until, known = self._decisions.get(key, (0.0, False))
        if self._clock.monotonic() < until:
            return known
        attributes = {"verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource}
        spec = {
            "user": user.name,
            "uid": user.uid,
            "groups": list(user.groups),
            "resourceAttributes": {**attributes, "name": self._node},
        }
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        try:
            answer = await self._client.create(ACCESS_REVIEWS, review)
        except (ApiError, OSError) as error:
            raise Forbidden(f"Forbidden: the API server cannot be asked: {error}") from error
        allowed = bool((answer.get("status") or {}).get("allowed"))
        kept = _ALLOWED_FOR if allowed else _DENIED_FOR
        _keep(self._decisions, key, (self._clock.monotonic() + kept, allowed))
        return allowed


def _keep(table: dict[Any, Any], key: Any, value: Any) -> None:
    table.pop(key, None)
    table[key] = value
    while len(table) > _LIMIT:
        del table[next(iter(table))]


def certificate_user(certificate: bytes) -> User:
    """The user that a verified client certificate (DER) names: common name and organizations."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    subject = x509.load_der_x509_certificate(certificate).subject
    names = [str(one.value) for one in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    groups = [str(one.value) for one in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    if not names:
        raise Unauthorized("Unauthorized: the certificate names nobody")
    return User(names[0], groups=(*groups, "system:authenticated"))
