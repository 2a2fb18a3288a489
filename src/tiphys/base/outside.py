"""Sockets of the host for processes that live in a network namespace of their own (rootless mode).

A socket belongs for ever to the namespace it was made in. So a process outside, the agent (cluster/agent.py), makes
it and hands it over through its Unix socket, whose path is in $TIPHYS_OUTSIDE: to listen where the user's programs
are, and to reach what they reach. Without the variable the host's network is this process's own.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket

AGENT = "TIPHYS_OUTSIDE"
MAX_MESSAGE = 4096
_NO_AGENT = "the agent of rootless mode does not run; the next `tiphys up` or `tiphys node` starts it"


def agent() -> str:
    """The path of the agent's socket; "" where none is needed."""
    return os.environ.get(AGENT, "")


def listener(address: str, port: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A socket (TCP, or UDP as SOCK_DGRAM) bound to address:port (0 picks one) of the host, not yet listening. Raises
    OSError."""
    if not agent():
        return bound(address, port, kind)
    return _ask({"bind": [address, port], "kind": int(kind)})


async def connection(host: str, port: int) -> socket.socket:
    """A connection that the agent made, not blocking; the name is resolved there. Raises OSError."""
    made = await asyncio.get_running_loop().run_in_executor(None, lambda: _ask({"connect": [host, port]}))
    made.setblocking(False)
    return made


def bound(address: str, port: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A socket bound to the address of this namespace. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = socket.socket(family, kind)
    try:
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:  # with UDP it would let others share the port
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((address, port))
    except OSError:
        opened.close()
        raise
    return opened


def _ask(request: dict[str, object]) -> socket.socket:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
        try:
            channel.connect(agent())
        except (FileNotFoundError, ConnectionRefusedError) as missing:
            raise OSError(missing.errno, _NO_AGENT) from missing
        channel.send(json.dumps(request).encode())
        answer, descriptors, _, _ = socket.recv_fds(channel, MAX_MESSAGE, 1)
    if not descriptors:
        error = json.loads(answer or b'[5, "the agent outside went away"]')
        raise OSError(*error)
    return socket.socket(fileno=descriptors[0])
