"""What authenticators have to say besides yes or no: annotations for the audit log, warnings for the client.

Token authenticators see a token, not the request: TokenReview asks them too. They note things here; the link that
asks on behalf of a request collects them, and a review, which nobody collects for, leaves none.
"""

from __future__ import annotations

from contextvars import ContextVar

from tiphys.base.http.types import Request

_request: ContextVar[Request | None] = ContextVar("request being authenticated", default=None)


class noting:  # noqa: N801 - used like a function; a generator would cost every request ten times as much
    """While it lasts, notes are about `request`."""

    __slots__ = ("_request", "_token")

    def __init__(self, request: Request) -> None:
        self._request = request

    def __enter__(self) -> None:
        self._token = _request.set(self._request)

    def __exit__(self, *exc: object) -> None:
        _request.reset(self._token)


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
