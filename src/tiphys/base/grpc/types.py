"""What callers and servers of gRPC have in common: methods, status codes, errors. Nothing here loads grpclib.

Source: grpc.io, Status codes and their use in gRPC.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from tiphys.base.errors import TiphysError
from tiphys.base.grpc.messages import Message

Content = Mapping[str, Any]
"""A message."""
Handler = Callable[[dict[str, Any]], Awaitable[Content]] | Callable[[dict[str, Any]], AsyncIterator[Content]]


class Code(IntEnum):
    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


_NAMES = {Code.OK: "OK", Code.CANCELLED: "Canceled"}


class RpcError(TiphysError):
    """A call that failed, as the server says or because it cannot be reached; the text is as Go's clients print it."""

    def __init__(self, code: int, message: str) -> None:
        self.code = Code(code) if code in Code.__members__.values() else Code.UNKNOWN
        self.message = message
        super().__init__(f"rpc error: code = {code_name(self.code)} desc = {message}")


def code_name(code: Code) -> str:
    """As Go prints it: DeadlineExceeded."""
    return _NAMES.get(code) or code.name.title().replace("_", "")


@dataclass(frozen=True, slots=True)
class Method:
    """`path` is /package.Service/Name; a streaming one answers with many messages."""

    path: str
    request: Message
    reply: Message
    streaming: bool = False


def methods(service: str, **table: tuple[Message, Message]) -> dict[str, Method]:
    """Methods with one request and one answer, by name."""
    return {name: Method(f"/{service}/{name}", *types) for name, types in table.items()}
