"""A wire whose event loop has given up the socket after an error: the connection ends, and only this one."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
from collections.abc import Callable

from tiphys.base.http.server import serve
from tiphys.base.http.types import Request, Response
from tiphys.base.http.wire import Wire


class Poller:
    """An event loop's readers as uvloop has them: after an error of the socket its handle is dead until forgotten."""

    def __init__(self) -> None:
        self.readers: dict[int, Callable[[], None]] = {}
        self.dead: set[int] = set()

    def add_reader(self, fd: int, call: Callable[[], None]) -> None:
        if fd in self.dead:
            raise RuntimeError("the handler is closed")
        self.readers[fd] = call

    def remove_reader(self, fd: int) -> bool:
        self.dead.discard(fd)
        return self.readers.pop(fd, None) is not None

    def remove_writer(self, fd: int) -> bool:
        return False

    def call_later(self, seconds: float, call: Callable[..., None], *arguments: object) -> None:
        return


class Listener:
    def __init__(self) -> None:
        self.over = False

    def connected(self) -> None: ...

    def received(self, data: bytes) -> None: ...

    def ended(self) -> None: ...

    def lost(self, error: OSError | None) -> None:
        self.over = True


def test_a_socket_that_the_loop_gave_up_is_watched_anew() -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    poller, listener = Poller(), Listener()
    wire = Wire(near, listener, poller)  # type: ignore[arg-type]
    wire.start()
    poller.dead.add(near.fileno())
    wire.close(linger=True)
    far.close()
    poller.readers[near.fileno()]()
    assert listener.over


def test_a_reset_while_the_server_waits_ends_one_connection_only() -> None:
    async def answer(request: Request) -> Response:
        return Response(200, {}, b"ok")

    async def main() -> None:
        async with serve(answer, "127.0.0.1", 0) as server:
            for _ in range(20):
                client = socket.create_connection(("127.0.0.1", server.port))
                client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab")
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert b"200 OK" in await reader.read()
            writer.close()

    asyncio.run(main())


def test_connections_that_are_over_leave_nothing_for_the_cycle_collector() -> None:
    async def answer(request: Request) -> Response:
        return Response(200, {}, b"ok")

    async def main() -> int:
        async with serve(answer, "127.0.0.1", 0) as server:
            gc.collect()
            for _ in range(50):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert b"200 OK" in await reader.read()
                writer.close()
                await writer.wait_closed()
            return sum(1 for one in gc.get_objects() if isinstance(one, Wire))

    gc.disable()
    try:
        assert asyncio.run(main()) < 10
    finally:
        gc.enable()
