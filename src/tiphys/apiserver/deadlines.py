"""One timer for the limit of all requests that are under way.

All have the same limit, so the first to begin is the first whose time is over, and a timer for that one is enough:
`asyncio.timeout` would make and cancel one a request. Its semantics are kept: the task of a request that lasts too long
is cancelled once, and that cancellation ends at the request.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from tiphys.base.errors import Timeout


class Deadline:
    """The limit of one request: `with deadlines.of_request() as deadline`. Raises Timeout at the end of the block."""

    __slots__ = ("_cancelling", "_expired", "_running", "_task", "when")

    def __init__(self, task: asyncio.Task[Any], when: float, running: dict[Deadline, None]) -> None:
        self._task, self.when, self._running = task, when, running
        self._cancelling = task.cancelling()
        self._expired = False
        running[self] = None

    def expired(self) -> bool:
        """Whether it took too long."""
        return self._expired

    def expire(self) -> None:
        """Stop the request where it waits."""
        self._expired = True
        self._task.cancel()

    def __enter__(self) -> Deadline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.pop(self, None)
        # More cancellations than ours: somebody else wants the task to end, and it does.
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise Timeout("Timeout: request did not complete within the allotted timeout", details={}) from None


class Deadlines:
    """The requests under way, the oldest first. `seconds` is how long one may take."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running: dict[Deadline, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def of_request(self) -> Deadline:
        """For the request that the current task begins."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None, "requests are served in tasks"
        deadline = Deadline(task, loop.time() + self._seconds, self._running)
        if self._timer is None:
            self._timer = loop.call_at(deadline.when, self._look, loop)
        return deadline

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Stop those whose time is over; the timer goes on only if others run."""
        self._timer = None
        now = loop.time()
        for deadline in list(self._running):
            if deadline.when > now:
                self._timer = loop.call_at(deadline.when, self._look, loop)
                return
            del self._running[deadline]
            deadline.expire()
