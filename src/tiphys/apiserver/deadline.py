"""`?timeout=` on requests: how long a client is ready to wait, as a duration in Go's notation (1h15m30.5s).

It shortens the server's own limit and never lengthens it; 0 is the server's. Watches and connections have other limits.
"""

from __future__ import annotations

import asyncio
import re

from tiphys.apiserver.guard import long_running
from tiphys.base.errors import BadRequest, Timeout
from tiphys.base.http.types import Handler, Request, Response

UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
PIECE = re.compile(r"(\d+\.?\d*|\.\d+)([^\d.]*)")
LONGEST = 2**63 * 1e-9


def request_deadline(handler: Handler) -> Handler:
    """The link. Raises BadRequest, and Timeout when the client's time is over."""

    async def link(request: Request) -> Response:
        if "timeout=" not in request.query_string or long_running(request.attributes["info"]):
            return await handler(request)
        text = request.param("timeout")
        try:
            seconds = parse(text) if text else 0.0
        except ValueError as error:
            raise BadRequest(f"invalid timeout specified in the request URL - {error}") from None
        if seconds <= 0:
            return await handler(request)
        try:
            async with asyncio.timeout(seconds):
                return await handler(request)
        except TimeoutError:
            raise Timeout("Timeout: request did not complete within the allotted timeout", details={}) from None

    return link


def parse(text: str) -> float:
    """Seconds. Raises ValueError in the words of Go's time.ParseDuration."""
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0.0
    total, at = 0.0, 0
    while at < len(rest):
        piece = PIECE.match(rest, at)
        if piece is None:
            raise ValueError(f"time: invalid duration {quoted}")
        number, unit = piece.groups()
        if not unit:
            raise ValueError(f"time: missing unit in duration {quoted}")
        if unit not in UNITS:
            raise ValueError(f'time: unknown unit "{unit}" in duration {quoted}')
        total += float(number) * UNITS[unit]
        at = piece.end()
    if not rest or total >= LONGEST:
        raise ValueError(f"time: invalid duration {quoted}")
    return -total if text[0] == "-" else total
