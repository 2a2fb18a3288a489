"""Our tables on grpclib: the one module that imports it. Import this one lazily."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from grpclib.const import Cardinality, Status
from grpclib.const import Handler as Mapped
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError
from grpclib.server import Server, Stream

from tiphys.base.errors import TiphysError
from tiphys.base.grpc.messages import Message, decode, encode
from tiphys.base.grpc.types import Content, Handler, Method, RpcError
from tiphys.base.protowire import Malformed

log = logging.getLogger(__name__)


class TableCodec(CodecBase):
    """Messages by their tables."""

    __content_subtype__ = "proto"

    def encode(self, message: Content, message_type: Message) -> bytes:
        return encode(message_type, message)

    def decode(self, data: bytes, message_type: Message) -> dict[str, Any]:
        try:
            return decode(message_type, data)
        except Malformed as error:
            raise GRPCError(Status.INTERNAL, f"grpc: error unmarshalling request: {error}") from error


class _Service:
    def __init__(self, handlers: Mapping[Method, Handler]) -> None:
        self._handlers = handlers

    def __mapping__(self) -> dict[str, Mapped]:
        return {method.path: _mapped(method, handler) for method, handler in self._handlers.items()}


def _mapped(method: Method, handler: Any) -> Mapped:
    async def serve(stream: Stream[dict[str, Any], Content]) -> None:
        request = await stream.recv_message()
        try:
            if method.streaming:
                async for reply in handler(request or {}):
                    await stream.send_message(reply)
            else:
                await stream.send_message(await handler(request or {}))
        except RpcError as error:
            raise GRPCError(Status(int(error.code)), error.message) from error
        except (TiphysError, OSError) as error:
            raise GRPCError(Status.UNKNOWN, str(error)) from error

    kind = Cardinality.UNARY_STREAM if method.streaming else Cardinality.UNARY_UNARY
    return Mapped(serve, kind, method.request, method.reply)


class _Methods(dict[str, Mapped]):
    """Knows every path: grpclib's own answer for an unknown one lacks the header that Go's clients insist on."""

    def get(self, path: str, default: Any = None) -> Any:
        return super().get(path) or _unknown(path)


def _unknown(path: str) -> Mapped:
    service, _, name = path.removeprefix("/").rpartition("/")

    async def serve(stream: Stream[bytes, bytes]) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, f"unknown method {name} for service {service}")

    return Mapped(serve, Cardinality.UNARY_UNARY, None, None)


def make_server(handlers: Mapping[Method, Handler]) -> Server:
    server = Server([_Service(handlers)], codec=TableCodec())
    server._mapping = _Methods(server._mapping)
    return server
