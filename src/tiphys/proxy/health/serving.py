"""Serves what a proxy tells of itself, on sockets that somebody else opens (in the node's network namespace)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

from tiphys.base.clock import Clock
from tiphys.base.http.server import BACKLOG, serve_on
from tiphys.base.http.types import Handler

log = logging.getLogger(__name__)

AGAIN = 5.0
"""Seconds until the next try to have a port that somebody else has."""
Open = Callable[[], list[socket.socket]]
"""Listening sockets. Raises OSError."""

HEALTH_PORT, METRICS_PORT = 10256, 10249


def listeners(host: str, port: int) -> list[socket.socket]:
    """A listening socket of an address; "::" is that of IPv4, too. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if host == "::":
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind((host, port))
        made.listen(BACKLOG)
    except OSError:
        made.close()
        raise
    return [made]


async def serve_plainly(opened: Open, handler: Handler, what: str, clock: Clock, *, must: bool = False) -> None:
    """Serve without TLS until cancelled. As long as somebody else has the port it is tried again, or, if it `must` be
    had, OSError is raised."""
    told = False
    while True:
        try:
            sockets = opened()
        except OSError as error:
            if must:
                raise
            if not told:
                log.warning("%s is not served, trying again: %s", what, error)
            told = True
            await clock.sleep(AGAIN)
            continue
        async with contextlib.AsyncExitStack() as stack:
            for listener in sockets:
                await stack.enter_async_context(serve_on(handler, listener, clock=clock, grace=1.0))
            await asyncio.get_running_loop().create_future()
