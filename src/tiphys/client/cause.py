"""Why a component writes: which reconciler, over which object. The store keeps it with every revision, so that
history can say not only who changed an object but what made them do it (docs/architecture.md, principle 6)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

HEADER = "x-tiphys-cause"
"""Read by the API server from callers in its own process only."""

_cause: ContextVar[str] = ContextVar("cause", default="")


def current() -> str:
    """The cause of what is being done now, e.g. "replicaset-controller default/web"; "" for none."""
    return _cause.get()


@contextmanager
def because(cause: str) -> Iterator[None]:
    """Everything called inside, tasks started there included, is done for `cause`."""
    token = _cause.set(cause)
    try:
        yield
    finally:
        _cause.reset(token)
