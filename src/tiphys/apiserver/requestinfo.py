"""What a request is about, read from its method and path: the first link of the handler chain.

The rules are those of the API reference's URL scheme: /api/v1/... and /apis/GROUP/VERSION/... are resource
requests, `namespaces/NS/RESOURCE` is namespaced, GET without a name is a list, DELETE without one a
deletecollection, `watch=true` (and the old /watch/ prefix) a watch. Everything else is a plain path whose verb is
the HTTP method.
"""

from __future__ import annotations

from tiphys.apiserver.query import flag
from tiphys.apiserver.types import RequestInfo
from tiphys.base.http.types import Handler, Request, Response

VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
PREFIXES = {"api", "apis"}
NAMESPACE_SUBRESOURCES = {"status", "finalize"}
SELECTING = {"list", "watch", "deletecollection"}


def parse(request: Request) -> RequestInfo:
    """The request in the API's terms; never fails: what is no resource request is a plain path."""
    path = request.path
    parts = path.strip("/").split("/")
    if parts[0] not in PREFIXES or len(parts) < (3 if parts[0] == "api" else 4):
        return RequestInfo(request.method.lower(), path)
    group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
    verb = VERBS.get(request.method, "")
    by_prefix = rest[0] in ("watch", "proxy")
    if by_prefix:
        if len(rest) < 2:
            return RequestInfo(request.method.lower(), path)
        verb, rest = rest[0], rest[1:]
    info = RequestInfo(verb, path, True, group, version)
    _resource(info, rest)
    if not info.name:
        _collection_verb(info, request)
    # Of one object, and behind the old prefix, selectors do not narrow what is answered: nobody may rely on them.
    if info.verb in SELECTING and request.query_string and not by_prefix:
        info.field_selector, info.label_selector = request.param("fieldSelector"), request.param("labelSelector")
    return info


def _resource(info: RequestInfo, rest: list[str]) -> None:
    if rest[0] == "namespaces" and len(rest) > 1:
        info.namespace = rest[1]
        if len(rest) > 2 and rest[2] not in NAMESPACE_SUBRESOURCES:
            rest = rest[2:]
    info.resource = rest[0]
    if len(rest) > 1:
        info.name = rest[1]
        if len(rest) > 2 and info.verb != "proxy":
            info.subresource = rest[2]
            info.rest = "/".join(rest[3:])


def _collection_verb(info: RequestInfo, request: Request) -> None:
    if info.verb == "delete":
        info.verb = "deletecollection"
    elif info.verb == "get":
        info.verb = "watch" if flag(request, "watch") else "list"
        if request.query_string:
            info.name = _only_name(request.param("fieldSelector"))


def _only_name(selector: str) -> str:
    """The name that a field selector demands, so that who may read one object may list and watch it."""
    if "metadata.name=" not in selector or "\\" in selector:
        return ""
    for term in selector.split(","):
        field, _, name = term.partition("=")
        if field == "metadata.name":
            name = name.removeprefix("=")
            return "" if name in (".", "..") or "/" in name or "%" in name else name
    return ""


def request_info(handler: Handler) -> Handler:
    """The link that sets `request.attributes["info"]`."""

    async def link(request: Request) -> Response:
        request.attributes["info"] = parse(request)
        return await handler(request)

    return link
