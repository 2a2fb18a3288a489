"""What authenticators have to say besides yes or no: annotations for the audit log, warnings for the client.

Token authenticators see a token, not the request: TokenReview asks them too. They note things here; the link that
asks on behalf of a request collects them, and a review, which nobody collects for, leaves none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tiphys.base.http.types import Request

_request: ContextVar[Request | None] = ContextVar("request being authenticated", default=None)


@contextmanager
def noting(request: Request) -> Iterator[None]:
    """While it lasts, notes are about `request`."""
    token = _request.set(request)
    try:
        yield
    finally:
        _request.reset(token)


def annotate(key: str, value: str) -> None:
    """An annotation of the request's audit event."""
    request = _request.get()
    if request is not None:
        request.attributes.setdefault("audit-annotations", {})[key] = value


def warn(text: str) -> None:
    """A text for the answer's Warning header."""
    request = _request.get()
    if request is not None:
        request.attributes.setdefault("warnings", []).append(text)
