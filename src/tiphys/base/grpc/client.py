"""Calling a gRPC server on a Unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from tiphys.base.grpc.types import Code, Content, Method, RpcError

if TYPE_CHECKING:
    from grpclib.client import Channel as Connection


class Channel:
    """Calls to the server at `path`; connects with the first one and again after it was lost. Close it when done."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._connection: Connection | None = None

    async def call(self, method: Method, message: Content, timeout: float | None = None) -> dict[str, Any]:
        """The answer. `timeout` in seconds. Raises RpcError, also for a server that is not there."""
        from grpclib.client import UnaryUnaryMethod
        from grpclib.exceptions import GRPCError, StreamTerminatedError

        types: Any = (method.request, method.reply)  # tables, where the library thinks of classes
        stub: UnaryUnaryMethod[Content, dict[str, Any]] = UnaryUnaryMethod(self._connected(), method.path, *types)
        try:
            return await stub(message, timeout=timeout)
        except GRPCError as error:
            raise RpcError(int(error.status.value), error.message or "") from error
        except TimeoutError as error:
            raise RpcError(Code.DEADLINE_EXCEEDED, "context deadline exceeded") from error
        except (OSError, StreamTerminatedError) as error:
            raise self._unavailable(error) from error

    async def stream(self, method: Method, message: Content) -> AsyncIterator[dict[str, Any]]:
        """The answers until the server ends them. Raises RpcError. Close the iterator to stop before that."""
        from grpclib.client import UnaryStreamMethod
        from grpclib.exceptions import GRPCError, StreamTerminatedError

        types: Any = (method.request, method.reply)  # tables, where the library thinks of classes
        stub: UnaryStreamMethod[Content, dict[str, Any]] = UnaryStreamMethod(self._connected(), method.path, *types)
        try:
            async with stub.open() as stream:
                await stream.send_message(message, end=True)
                while (reply := await stream.recv_message()) is not None:
                    yield reply
        except GRPCError as error:
            raise RpcError(int(error.status.value), error.message or "") from error
        except (OSError, StreamTerminatedError) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> RpcError:
        return RpcError(Code.UNAVAILABLE, f'connection error: desc = "transport: {self.path}: {error}"')

    def _connected(self) -> Connection:
        if self._connection is None:
            from grpclib.client import Channel as Connection

            from tiphys.base.grpc.transport import TableCodec

            self._connection = Connection(path=self.path, codec=TableCodec())
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


async def reachable(path: str) -> None:
    """Raises OSError when nothing listens at `path`."""
    _, writer = await asyncio.open_unix_connection(path)
    writer.close()
