"""The link that authorizes, and authorizers made of others."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from tiphys.api import errors
from tiphys.apiserver.types import NO_SNIFFING, Authorizer, RequestInfo
from tiphys.base.errors import Forbidden
from tiphys.base.http.types import Handler, Middleware, Request, Response
from tiphys.base.identity import ANONYMOUS, User

log = logging.getLogger(__name__)

MASTERS = "system:masters"
ALWAYS_ALLOWED_PATHS = frozenset({"/healthz", "/livez", "/readyz"})
"""Paths that everybody may read, upstream's --authorization-always-allow-paths."""

_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class Reason(str):
    """Why something is not allowed, where that is not all: a plain string means that others may still allow it."""

    final: bool
    """Nobody else is asked: it is denied."""
    trouble: str
    """It could not be found out, because of this."""

    def __new__(cls, text: str, *, final: bool = False, trouble: str = "") -> Reason:
        made = super().__new__(cls, text)
        made.final, made.trouble = final, trouble
        return made


class AlwaysAllow:
    """Everybody may do everything."""

    allows_all = True

    async def authorize(self, user: User, info: RequestInfo) -> tuple[bool, str]:
        return True, ""


class Union:
    """Members of system:masters may do everything; for others the first authorizer that allows decides."""

    def __init__(self, authorizers: Sequence[Authorizer]) -> None:
        self.authorizers = tuple(authorizers)

    async def authorize(self, user: User, info: RequestInfo) -> tuple[bool, str]:
        if MASTERS in user.groups:
            return True, ""
        reasons, trouble = [], []
        for authorizer in self.authorizers:
            allowed, reason = await authorizer.authorize(user, info)
            if allowed:
                return True, reason
            if isinstance(reason, Reason):
                if reason.trouble:
                    trouble.append(reason.trouble)
                if reason.final:
                    return False, Reason(reason, final=True, trouble=_joined(trouble))
            if reason:
                reasons.append(reason)
        text = "\n".join(reasons)
        return False, Reason(text, trouble=_joined(trouble)) if trouble else text


def _joined(trouble: Sequence[str]) -> str:
    return trouble[0] if len(trouble) == 1 else f"[{', '.join(trouble)}]" if trouble else ""


def authorize(authorizer: Authorizer, always_allowed: Collection[str] = ALWAYS_ALLOWED_PATHS) -> Middleware:
    """The link: 403 for what `authorizer` does not allow. Needs `request.user` and the request's RequestInfo.

    Paths in `always_allowed` are open to all; one that ends with `*` stands for all that begin so."""
    exact = frozenset(path for path in always_allowed if not path.endswith("*"))
    prefixes = tuple(path[:-1] for path in always_allowed if path.endswith("*"))

    def middleware(handler: Handler) -> Handler:
        async def link(request: Request) -> Response:
            info: RequestInfo = request.attributes["info"]
            if info.resource_request or not (info.path in exact or (prefixes and info.path.startswith(prefixes))):
                user = request.user or ANONYMOUS
                allowed, reason = await authorizer.authorize(user, info)
                if "audit" in request.attributes:
                    _annotate(request, allowed, reason)
                if not allowed:
                    if isinstance(reason, Reason) and reason.trouble:
                        return _failure(request, reason.trouble)
                    request.attributes[NO_SNIFFING] = True
                    raise refusal(user, info, reason)
            return await handler(request)

        return link

    return middleware


def _annotate(request: Request, allowed: bool, reason: str) -> None:
    """For the audit log."""
    notes = request.attributes.setdefault("audit-annotations", {})
    failed = isinstance(reason, Reason) and reason.trouble and not allowed
    if not failed:
        notes["authorization.k8s.io/decision"] = "allow" if allowed else "forbid"
    notes["authorization.k8s.io/reason"] = "internal error" if failed else str(reason)


def _failure(request: Request, trouble: str) -> Response:
    """Whether it is allowed cannot be said: not for the client to blame."""
    log.error("cannot authorize %s %s: %s", request.method, request.path, trouble)
    uri = f"{request.path}?{request.query_string}" if request.query_string else request.path
    text = f'Internal Server Error: "{uri}": {trouble}'.translate(_HTML) + "\n"
    headers = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
    return Response(500, headers, text.encode())


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
