"""Frames between the runtime, the helper and the shims: 4 bytes length, 1 byte kind, payload.

Control messages are JSON objects (kind MESSAGE); the bytes of attached streams travel under their own kinds.
Descriptors ride on the first byte of a frame (SCM_RIGHTS). Kept free of heavy imports: every shim carries it.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

MESSAGE, STDOUT, STDERR, STDIN, STDIN_END = 0, 1, 2, 3, 4
SANDBOX = 5
"""A request for a sandbox: told by its kind, so that the pause process need not read it (see pause.py)."""
HEADER = struct.Struct("!IB")
MAX_FRAME = 16 * 1024 * 1024
MAX_DESCRIPTORS = 8


def frame(kind: int, payload: bytes) -> bytes:
    """One frame's bytes."""
    return HEADER.pack(len(payload), kind) + payload


def message(content: dict[str, Any]) -> bytes:
    """A control message's bytes."""
    return frame(MESSAGE, json.dumps(content).encode())


class Decoder:
    """Cuts a byte stream into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Add `data`; yield each frame that is now whole. Raises ValueError for a frame beyond MAX_FRAME."""
        self._buffer += data
        while len(self._buffer) >= HEADER.size:
            length, kind = HEADER.unpack_from(self._buffer)
            if length > MAX_FRAME:
                raise ValueError(f"a frame of {length} bytes is longer than {MAX_FRAME}")
            end = HEADER.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[HEADER.size : end])
            del self._buffer[:end]
            yield kind, payload


def send(connection: socket.socket, content: dict[str, Any], descriptors: list[int] | None = None) -> None:
    """Send a control message on a blocking socket, with descriptors if given."""
    data = message(content)
    sent = socket.send_fds(connection, [data], descriptors) if descriptors else 0
    connection.sendall(data[sent:])


def receive(connection: socket.socket) -> dict[str, Any]:
    """The next control message of a blocking socket, and not one byte more. Raises EOFError at the end."""
    length, _ = HEADER.unpack(_exactly(connection, HEADER.size))
    content: dict[str, Any] = json.loads(_exactly(connection, length))
    return content


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = connection.recv(count - len(data))
        if not chunk:
            raise EOFError("the peer closed the connection")
        data += chunk
    return data


def abandoned(connection: socket.socket) -> bool:
    """Whether the other end has gone, after having been read to its last message."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def receive_chunk(connection: socket.socket, limit: int = 65536) -> tuple[bytes, list[int]]:
    """Bytes and descriptors that are there now; b"" at the end. Descriptors are close-on-exec."""
    room = socket.CMSG_LEN(MAX_DESCRIPTORS * 4)
    data, ancillary, _, _ = connection.recvmsg(limit, room, socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % 4])
    return data, list(descriptors)


def listen(directory: str, name: str) -> socket.socket:
    """A listening Unix socket at `directory`/`name`, replacing a stale one; any length of path."""
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # sun_path holds 107 bytes: go through the open directory.
        address = f"/proc/self/fd/{handle}/{name}"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=handle)
        listener.bind(address)
        os.chmod(name, 0o600, dir_fd=handle)
        listener.listen(512)
        return listener
    finally:
        os.close(handle)


def connect(directory: str, name: str) -> socket.socket:
    """A connection to the Unix socket `directory`/`name`. Raises OSError when nobody listens."""
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(f"/proc/self/fd/{handle}/{name}")
        except OSError:
            connection.close()
            raise
        return connection
    finally:
        os.close(handle)
