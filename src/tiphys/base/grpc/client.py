"""Calling a gRPC server on a Unix socket or at an address."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from tiphys.base.grpc.paths import ShortPath
from tiphys.base.grpc.types import Code, Content, Method, RpcError

if TYPE_CHECKING:
    from grpclib.client import Channel as Connection
    from grpclib.protocol import H2Protocol

Dial = Callable[[str, int], Awaitable[socket.socket]]
"""A connected socket that does not block, to a host and port. Raises OSError."""

Take = Callable[[dict[str, Any]], None]


class Channel:
    """Calls to the server at `path`, or at `host` and `port` (connected to by `dial` if given), in plain text.

    Connects with the first call and again after the connection was lost. Close it when done.
    """

    def __init__(self, path: str = "", *, host: str = "", port: int = 0, dial: Dial | None = None) -> None:
        self.path = path
        self._dial = dial
        self._address = (host, port)
        self._connection: Connection | None = None
        self._short: ShortPath | None = None

    async def connect(self, timeout: float) -> None:
        """Connect now, in `timeout` seconds. Raises OSError, TimeoutError."""
        async with asyncio.timeout(timeout):
            await self._connected().__connect__()

    async def call(self, method: Method, message: Content, timeout: float | None = None) -> dict[str, Any]:
        """The answer. `timeout` in seconds. Raises RpcError, also for a server that is not there."""
        answer: dict[str, Any] = {}
        await self._apart(self._call(method, message, timeout, answer.update))
        return answer

    async def follow(self, method: Method, message: Content, take: Take) -> None:
        """Hand each answer of a streaming method to `take` until the server ends it. Raises RpcError."""
        await self._apart(self._follow(method, message, take))

    async def _apart(self, work: Coroutine[Any, Any, None]) -> None:
        """In a task of its own: grpclib ends a call on a lost connection by cancelling the task that waits for it."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._caught(work))
        if (error := task.result()) is not None:
            raise error

    async def _caught(self, work: Coroutine[Any, Any, None]) -> RpcError | None:
        from grpclib.exceptions import GRPCError, StreamTerminatedError

        try:
            await work
        except GRPCError as error:
            return RpcError(int(error.status.value), error.message or "")
        except TimeoutError:
            return RpcError(Code.DEADLINE_EXCEEDED, "context deadline exceeded")
        except (OSError, StreamTerminatedError) as error:
            return RpcError(Code.UNAVAILABLE, f'connection error: desc = "transport: {self}: {error}"')
        return None

    async def _call(self, method: Method, message: Content, timeout: float | None, take: Take) -> None:
        from grpclib.client import UnaryUnaryMethod

        types: Any = (method.request, method.reply)  # tables, where the library thinks of classes
        stub: UnaryUnaryMethod[Content, dict[str, Any]] = UnaryUnaryMethod(self._connected(), method.path, *types)
        take(await stub(message, timeout=timeout))

    async def _follow(self, method: Method, message: Content, take: Take) -> None:
        from grpclib.client import UnaryStreamMethod

        types: Any = (method.request, method.reply)
        stub: UnaryStreamMethod[Content, dict[str, Any]] = UnaryStreamMethod(self._connected(), method.path, *types)
        async with stub.open() as stream:
            await stream.send_message(message, end=True)
            while (reply := await stream.recv_message()) is not None:
                take(reply)

    def _connected(self) -> Connection:
        if self._connection is None:
            from grpclib.client import Channel as Connection

            from tiphys.base.grpc.transport import TableCodec

            host, port = self._address
            where: dict[str, Any] = {"host": host, "port": port}
            if self.path:
                self._short = ShortPath(self.path)
                where = {"path": self._short.text}
            self._connection = Connection(**where, codec=TableCodec())
            if self._dial is not None:
                self._dialled(self._connection, partial(self._dial, host, port))
        return self._connection

    @staticmethod
    def _dialled(connection: Connection, dial: Callable[[], Awaitable[socket.socket]]) -> None:
        """Have it use what `dial` connects; grpclib itself can only be told of hosts and paths."""

        async def connect() -> H2Protocol:
            _, protocol = await connection._loop.create_connection(connection._protocol_factory, sock=await dial())
            return protocol

        connection._create_connection = connect  # type: ignore[method-assign]  # its one place where it connects

    def __str__(self) -> str:
        return self.path or "{}:{}".format(*self._address)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._short is not None:
            self._short.close()
            self._short = None
