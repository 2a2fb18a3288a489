"""The loop that every controller runs: take a key, compare desired with actual, come back when told.

`reconcile(key)` may return a `Result` to be called again later. What it raises says what happens next:
`Conflict` and `AlreadyExists` mean that the cache was behind (tried again quietly), `Retry` names its own delay,
`Permanent` is logged and dropped until the object changes, anything else backs off exponentially.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar

from tiphys.base.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    NotFound,
    Permanent,
    Retry,
    TiphysError,
    TooManyRequests,
)
from tiphys.client.cause import because
from tiphys.client.workqueue import Closed, WorkQueue

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Result:
    """Done for now; look again in `after` seconds (None: when something changes)."""

    after: float | None = None


Reconcile = Callable[[K], Awaitable[Result | None]]


async def run_workers(name: str, queue: WorkQueue[K], reconcile: Reconcile[K], workers: int = 5) -> None:
    """Serve `queue` with so many workers until it is closed or this is cancelled."""
    async with asyncio.TaskGroup() as tasks:
        for number in range(workers):
            tasks.create_task(_work(name, queue, reconcile), name=f"{name} {number}")


async def _work(name: str, queue: WorkQueue[K], reconcile: Reconcile[K]) -> None:
    while True:
        try:
            key = await queue.get()
        except Closed:
            return
        try:
            await reconcile_once(name, queue, reconcile, key)
        finally:
            queue.done(key)


async def reconcile_once(name: str, queue: WorkQueue[K], reconcile: Reconcile[K], key: K) -> None:
    """One pass over `key`, with what follows from its outcome; never raises an Exception."""
    try:
        with because(f"{name} {key}"):
            result = await _alone(reconcile(key))
    except (Conflict, AlreadyExists, NotFound) as error:
        log.debug("%s: %s: the cache is behind, again: %s", name, key, error)
        queue.add_rate_limited(key)
    except Retry as error:
        _again(queue, key, error.after)
    except TooManyRequests as error:
        _again(queue, key, error.retry_after)
    except Permanent as error:
        queue.forget(key)
        log.warning("%s: %s: given up until it changes: %s", name, key, error)
    except (ApiError, OSError) as error:
        delay = queue.add_rate_limited(key)
        log.warning("%s: %s: next try in %.3f s: %s", name, key, delay, error)
    except Exception:  # a fault in handling one object must not stop the others
        queue.add_rate_limited(key)
        log.exception("%s: %s: unexpected failure", name, key)
    else:
        queue.forget(key)
        if result is not None and result.after is not None:
            queue.add_after(key, result.after)


async def _alone(work: Awaitable[Result | None]) -> Result | None:
    """Of several calls side by side that failed as calls may, the first failure speaks for all."""
    try:
        return await work
    except ExceptionGroup as group:
        _, unexpected = group.split((TiphysError, OSError))
        if unexpected is not None:
            raise
        raise _first(group) from group


def _first(group: ExceptionGroup[Exception]) -> Exception:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error


def _again(queue: WorkQueue[K], key: K, after: float | None) -> None:
    if after is None:
        queue.add_rate_limited(key)
    else:
        queue.add_after(key, after)
