"""The link of the chain that makes requests wait their turn, or sends them away with 429."""

from __future__ import annotations

from collections.abc import Callable

from tiphys.apiserver.fairness.levels import Level, Rejected, Ticket
from tiphys.apiserver.fairness.policy import Classified, Policy
from tiphys.apiserver.fairness.seats import seats
from tiphys.apiserver.feed import Caches
from tiphys.apiserver.guard import FAIRNESS, long_running
from tiphys.apiserver.types import RequestInfo
from tiphys.base.errors import TooManyRequests
from tiphys.base.http.types import Handler, Request, Response
from tiphys.base.identity import ANONYMOUS

MESSAGE = "too many requests, please try again later"


def fairness(policy: Policy, caches: Caches, patience: float) -> Callable[[Handler], Handler]:
    """The link; `patience` is how many seconds a request may wait for its turn."""

    def middleware(handler: Handler) -> Handler:
        async def link(request: Request) -> Response:
            info: RequestInfo = request.attributes["info"]
            # A watch holds its seats while it starts; exec, attach, logs and proxies hold none.
            if long_running(info) and info.verb != "watch":
                return await handler(request)
            user = request.user or ANONYMOUS
            found = policy.classify(user, info)
            if not request.local:
                request.attributes[FAIRNESS] = found.headers
            found.level.dispatched[found.schema.name] += 1
            if found.level.exempt:
                return await _exempt(handler, request, found.level)
            wanted, flow = seats(request, info, caches, found.level.widest), found.flow(user, info)
            ticket = policy.pool.try_enter(found.level, flow, wanted)
            if ticket is None:
                ticket = await _wait(policy, found, flow, wanted, patience)
            try:
                return await handler(request)
            finally:
                policy.pool.leave(found.level, ticket)

        return link

    return middleware


async def _exempt(handler: Handler, request: Request, level: Level) -> Response:
    """Nothing is held back, but it is known how much is under way."""
    level.requests += 1
    level.executing += 1
    try:
        return await handler(request)
    finally:
        level.requests -= 1
        level.executing -= 1


async def _wait(policy: Policy, found: Classified, flow: str, wanted: int, patience: float) -> Ticket:
    try:
        return await policy.pool.wait(found.level, flow, wanted, patience)
    except Rejected as error:
        found.level.dispatched[found.schema.name] -= 1
        found.level.rejected[found.schema.name, error.reason] += 1
        raise TooManyRequests(MESSAGE, retry_after=1) from error
