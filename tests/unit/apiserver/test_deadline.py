"""The timeout parameter: durations in Go's notation, and what it does to a request."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tiphys.apiserver.deadline import parse, request_deadline
from tiphys.apiserver.types import RequestInfo
from tiphys.base.errors import BadRequest, Timeout
from tiphys.base.http.types import Request, Response


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0.0), ("5s", 5.0), ("1h15m30.5s", 4530.5), ("-2m", -120.0), ("+1.5s", 1.5), (".5s", 0.5), ("10ms", 0.01)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("invalid", 'time: invalid duration "invalid"'),
        ("5", 'time: missing unit in duration "5"'),
        ("5x", 'time: unknown unit "x" in duration "5x"'),
        ("1s2", 'time: missing unit in duration "1s2"'),
        ("-", 'time: invalid duration "-"'),
        ("9999999999h", 'time: invalid duration "9999999999h"'),
        ('"', 'time: invalid duration "\\""'),
    ],
)
def test_what_is_no_duration(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="time:") as caught:
        parse(text)
    assert str(caught.value) == message


def ask(query: str, verb: str = "list") -> Any:
    async def slow(request: Request) -> Response:
        await asyncio.Event().wait()
        return Response(200)

    async def main() -> Response:
        request = Request("GET", "/api/v1/pods", query)
        request.attributes["info"] = RequestInfo(verb, "/api/v1/pods", True, "", "v1")
        async with asyncio.timeout(1):
            return await request_deadline(slow)(request)

    return asyncio.run(main())


def test_a_client_that_waits_no_longer_is_told() -> None:
    with pytest.raises(Timeout, match="request did not complete within the allotted timeout"):
        ask("timeout=10ms")


def test_a_timeout_that_is_none_is_refused_unless_the_request_may_last() -> None:
    with pytest.raises(BadRequest, match="invalid timeout specified in the request URL - time: invalid duration"):
        ask("timeout=x")
    with pytest.raises(TimeoutError):
        ask("timeout=x", "watch")
