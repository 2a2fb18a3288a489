"""Which media types a route takes and gives: the refusals that come before anything else is looked at.

Upstream's router compares types literally, without ranges or parameters, before the endpoint negotiates which form of
an object it sends. Custom resources have no such routes: their endpoint alone decides.
"""

from __future__ import annotations

from functools import lru_cache

from tiphys.api.patch.request import APPLY, JSON, MERGE, STRATEGIC
from tiphys.apiserver import negotiate
from tiphys.apiserver.resource import Call
from tiphys.base.errors import MethodNotAllowed, NotAcceptable, UnsupportedMediaType
from tiphys.base.http.types import Request

OBJECTS = (negotiate.JSON, negotiate.YAML, negotiate.PROTOBUF)
STREAMS = (*OBJECTS, f"{negotiate.JSON};stream=watch", f"{negotiate.PROTOBUF};stream=watch")
LOG = ("text/plain", *OBJECTS)
PATCHES = frozenset((JSON, MERGE, STRATEGIC, APPLY))
CONNECTING = frozenset(("exec", "attach", "portforward", "proxy"))
EASY = frozenset(("", "*/*", negotiate.JSON))
"""Accept headers that every endpoint that sends JSON can meet."""


def check_types(call: Call) -> None:
    """Whether the route of a stored resource takes this body and gives what is accepted.

    Raises UnsupportedMediaType, NotAcceptable."""
    request, info = call.request, call.info
    if request.local or info.subresource in CONNECTING:
        return
    if info.verb == "patch" and not call.resource.custom:
        _check_patch(request)
    accept = request.headers.get("accept", "")
    if accept in EASY:
        return
    if not call.resource.custom:
        check_accept(request, _produced(info.verb, info.subresource))
    if not info.subresource:
        negotiate.accepted(request, call.resource.form.api_version, call.resource.form.kind)


def check_accept(request: Request, produced: tuple[str, ...]) -> None:
    """Whether the header names one of the types or anything at all. Raises NotAcceptable."""
    if not _matches(request.headers.get("accept", ""), produced):
        raise NotAcceptable(
            f"406: Not Acceptable\n\nAvailable representations: {', '.join(produced)}",
            details={},
        )


def check_read(request: Request, produced: tuple[str, ...] = OBJECTS) -> None:
    """As `check_accept`, for a path that has no method but GET. Raises MethodNotAllowed, NotAcceptable."""
    if request.local:
        return
    if request.method != "GET":
        raise not_allowed()
    check_accept(request, produced)


def not_allowed() -> MethodNotAllowed:
    """405 in upstream's words."""
    return MethodNotAllowed("the server does not allow this method on the requested resource", details={})


def _check_patch(request: Request) -> None:
    if request.headers.get("content-type", "").partition(";")[0].strip() not in PATCHES:
        raise UnsupportedMediaType("415: Unsupported Media Type", details={})


def _produced(verb: str, subresource: str) -> tuple[str, ...]:
    if subresource == "log":
        return LOG
    return STREAMS if verb in ("list", "watch") else OBJECTS


@lru_cache(maxsize=negotiate.REMEMBERED)
def _matches(accept: str, produced: tuple[str, ...]) -> bool:
    named = {part.partition(";")[0].strip() for part in (accept or "*/*").split(",")}
    return "*/*" in named or not named.isdisjoint(produced)
