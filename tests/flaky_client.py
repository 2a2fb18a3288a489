"""A client on which calls fail, answers get lost, lists are old and watches end, at random but the same every run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from random import Random
from typing import Any

from tiphys.base.clock import Clock
from tiphys.base.errors import ApiError, Conflict, Gone, InternalError, Timeout, TooManyRequests
from tiphys.base.http.types import Handler
from tiphys.base.identity import User
from tiphys.client.calls import Call
from tiphys.client.local import LocalClient
from tiphys.client.streams import closing
from tiphys.testing.cluster import ADMIN, Cluster

WRITES = ("POST", "PUT", "PATCH", "DELETE")


class FlakyClient(LocalClient):
    """`share` is a list of one number, the share of calls that go wrong: tests turn it up and down."""

    def __init__(self, handler: Handler, user: User, clock: Clock, random: Random, share: list[float]) -> None:
        super().__init__(handler, user, agent="flaky")
        self._clock, self._random, self._share = clock, random, share
        self._lists: dict[tuple[str, str], Any] = {}

    async def exchange(self, call: Call) -> Any:
        if self._random.random() >= self._share[0]:
            return await self._remembered(call)
        fault: Any = self._random.choice([Conflict, InternalError, TooManyRequests, OSError, "lost", "slow", "old"])
        if fault == "slow":
            await self._clock.sleep(self._random.random() * 5)
            return await self._remembered(call)
        if fault == "old":
            known = self._lists.get(_target(call))
            return known if known is not None else await self._remembered(call)
        if fault == "lost":
            await super().exchange(call)
            raise Timeout("the answer was lost")
        if fault is Conflict and call.method not in WRITES:
            fault = InternalError
        if fault is TooManyRequests:
            raise TooManyRequests("too many", retry_after=1.0)
        raise fault("at random")

    async def events(self, call: Call) -> AsyncIterator[Mapping[str, Any]]:
        source = super().events(call)
        if self._random.random() < self._share[0]:
            raise self._random.choice([Gone("at random"), InternalError("at random"), OSError("at random")])
        async with closing(source) as events:
            async for event in events:
                fate = self._random.random() / self._share[0] if self._share[0] else 1.0
                if fate < 0.05:
                    return
                if fate < 0.1:
                    raise OSError("the connection broke")
                if fate < 0.15:
                    yield {"type": "ERROR", "object": Gone("at random").status()}
                if fate < 0.5:
                    await self._clock.sleep(fate)
                yield event

    async def _remembered(self, call: Call) -> Any:
        """Lists are kept, to be answered again when they are old."""
        answer = await super().exchange(call)
        if call.method == "GET" and isinstance(answer, Mapping) and str(answer.get("kind", "")).endswith("List"):
            self._lists[_target(call)] = answer
        return answer


class FlakyCluster(Cluster):
    """A cluster of whose calls by others than the administrator the share `flaky[0]` goes wrong."""

    def __init__(self, clock: Clock, seed: int, **options: Any) -> None:
        super().__init__(clock, **options)
        self.flaky = [0.0]
        self._seed = seed

    def connect(self, user: User) -> LocalClient:
        if user == ADMIN:
            return LocalClient(self.server.handler, user)
        random = Random(f"{self._seed} {user.name}")
        return FlakyClient(self.server.handler, user, self.clock, random, self.flaky)


def _target(call: Call) -> tuple[str, str]:
    return call.path, str(sorted(call.query.items()))


def refused(error: Exception) -> bool:
    """Whether a test's own call failed for a reason that random treatment may have."""
    return isinstance(error, ApiError | OSError)
