"""Max-in-flight: how many requests may be under way at once, as upstream's --max-requests-inflight.

Reads and writes have limits of their own; watches and proxies hold no slot. Members of system:masters are never
refused, so that an administrator can get in when everything is stuck.
"""

from __future__ import annotations

from collections.abc import Callable

from tiphys.apiserver.guard import long_running
from tiphys.apiserver.types import RequestInfo
from tiphys.base.errors import TooManyRequests
from tiphys.base.http.types import Handler, Request, Response

READS = {"get", "list", "head", "options"}


def max_in_flight(reads: int, writes: int) -> Callable[[Handler], Handler]:
    """The link; 0 is no limit."""

    def middleware(handler: Handler) -> Handler:
        under_way = [0, 0]
        limits = (reads, writes)

        async def link(request: Request) -> Response:
            info: RequestInfo = request.attributes["info"]
            if long_running(info):
                return await handler(request)
            kind = 0 if info.verb in READS else 1
            if limits[kind] and under_way[kind] >= limits[kind] and not _exempt(request):
                raise TooManyRequests("too many requests, please try again later", retry_after=1)
            under_way[kind] += 1
            try:
                return await handler(request)
            finally:
                under_way[kind] -= 1

        return link

    return middleware


def _exempt(request: Request) -> bool:
    return request.user is not None and "system:masters" in request.user.groups
