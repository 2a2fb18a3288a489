"""Where commands ask the control plane about published ports: a Unix socket; whoever connects is told their state.

The configuration is looked at again first, so that a command which changed it hears what came of that.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tiphys.cluster.ports.publisher import Publisher

log = logging.getLogger(__name__)

NAME = "ports.sock"
ANSWER_WITHIN = 20.0


@contextlib.contextmanager
def _reachable(path: Path) -> Iterator[str]:
    """A name of the socket that is short enough (107 bytes, unix(7)) whatever its directory is called."""
    directory = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def listening(path: Path) -> socket.socket:
    """The socket at `path`; one that a dead process left there is replaced."""
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    path.unlink(missing_ok=True)
    with _reachable(path) as name:
        opened.bind(name)
    path.chmod(0o600)
    opened.listen(16)
    return opened


async def serve(server: socket.socket, publisher: Publisher) -> None:
    """Answer until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        channel, _ = await loop.sock_accept(server)
        with channel:
            try:
                await loop.sock_sendall(channel, json.dumps(await publisher.state()).encode())
            except Exception:
                log.exception("a command is not told of published ports")


def ask(path: Path) -> list[dict[str, Any]]:
    """The state of each published port. Raises OSError when nobody answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.settimeout(ANSWER_WITHIN)
        with _reachable(path) as name:
            channel.connect(name)
        answer = b"".join(iter(lambda: channel.recv(1 << 16), b""))
    if not answer:
        raise ConnectionResetError(104, "the control plane ended meanwhile")
    state: list[dict[str, Any]] = json.loads(answer)
    return state
