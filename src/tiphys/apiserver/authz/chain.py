"""The link that authorizes, and authorizers made of others."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tiphys.api import errors
from tiphys.apiserver.types import Authorizer, RequestInfo
from tiphys.base.errors import Forbidden
from tiphys.base.http.types import Handler, Middleware, Request, Response
from tiphys.base.identity import ANONYMOUS, User

MASTERS = "system:masters"
ALWAYS_ALLOWED_PATHS = frozenset({"/healthz", "/livez", "/readyz"})
"""Paths that everybody may read, upstream's --authorization-always-allow-paths."""

_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class AlwaysAllow:
    """Everybody may do everything."""

    async def authorize(self, user: User, info: RequestInfo) -> tuple[bool, str]:
        return True, ""


class Union:
    """Members of system:masters may do everything; for others the first authorizer that allows decides."""

    def __init__(self, authorizers: Sequence[Authorizer]) -> None:
        self.authorizers = tuple(authorizers)

    async def authorize(self, user: User, info: RequestInfo) -> tuple[bool, str]:
        if MASTERS in user.groups:
            return True, ""
        reasons = []
        for authorizer in self.authorizers:
            allowed, reason = await authorizer.authorize(user, info)
            if allowed:
                return True, reason
            if reason:
                reasons.append(reason)
        return False, "\n".join(reasons)


def authorize(authorizer: Authorizer, always_allowed: Collection[str] = ALWAYS_ALLOWED_PATHS) -> Middleware:
    """The link: 403 for what `authorizer` does not allow. Needs `request.user` and the request's RequestInfo."""

    def middleware(handler: Handler) -> Handler:
        async def link(request: Request) -> Response:
            info: RequestInfo = request.attributes["info"]
            if info.resource_request or info.path not in always_allowed:
                user = request.user or ANONYMOUS
                allowed, reason = await authorizer.authorize(user, info)
                if not allowed:
                    raise refusal(user, info, reason)
            return await handler(request)

        return link

    return middleware


def refusal(user: User, info: RequestInfo, reason: str = "") -> Forbidden:
    """The error that says what the user may not do."""
    detail = _describe(user, info).translate(_HTML)
    if reason:
        detail = f"{detail}: {reason}"
    if not info.resource_request:
        return Forbidden(f"forbidden: {detail}", details={})
    return errors.forbidden(info.group, info.resource, info.name, detail)


def _describe(user: User, info: RequestInfo) -> str:
    if not info.resource_request:
        return f'User "{user.name}" cannot {info.verb} path "{info.path}"'
    resource = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    where = f'in the namespace "{info.namespace}"' if info.namespace else "at the cluster scope"
    return f'User "{user.name}" cannot {info.verb} resource "{resource}" in API group "{info.group}" {where}'
