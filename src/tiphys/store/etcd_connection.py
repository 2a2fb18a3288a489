"""Calls to an etcd cluster over gRPC: one server is used, the next one when it cannot be reached.

A read is tried on every server. A write whose answer got lost may have happened, so it is only tried again where it
surely was not sent; otherwise the caller is told (Unavailable) and looks.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from tiphys.base.errors import Permanent, TiphysError
from tiphys.store.types import StoreTooLarge, Unavailable

SECONDS = 10.0
"""How long a call may take; etcd itself gives up a request after about seven seconds without a leader."""
DEFAULT_PREFIX = "/registry"
OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 3000),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # A peer that has gone without a word is noticed; etcd allows a ping every five seconds.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Without it servers with equal options in one process would share a connection, and its fate.
    ("grpc.use_local_subchannel_pool", 1),
)
NOT_SENT = "failed to connect"


class CompactedInEtcd(TiphysError):
    """The revision that was asked for is gone."""


class FutureInEtcd(TiphysError):
    """The revision that was asked for is not there yet."""


@dataclass(frozen=True, slots=True)
class EtcdConfig:
    """Where etcd is, and how this process shows itself; paths are of PEM files."""

    servers: tuple[str, ...]
    """URLs, e.g. https://10.0.0.1:2379."""
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    prefix: str = field(default=DEFAULT_PREFIX)
    """What all keys start with; several clusters may share one etcd under different prefixes."""


class Stream(Protocol):
    """A gRPC call that sends and receives messages until either side ends it."""

    async def read(self) -> Any: ...
    async def write(self, message: bytes) -> None: ...
    def cancel(self) -> bool: ...


class EtcdConnection:
    """Channels to the servers of `config`, opened when they are first needed. Use it from one event loop.

    Raises Permanent for a configuration that cannot work, and when grpcio is not installed.
    """

    def __init__(self, config: EtcdConfig) -> None:
        try:
            self._grpc: Any = importlib.import_module("grpc")
        except ImportError as error:
            raise Permanent(
                "--store with etcd needs the package grpcio: pip install 'tiphys[etcd]', or choose --store sqlite"
            ) from error
        self._targets = [check_url(url) for url in config.servers]
        if not self._targets:
            raise Permanent("etcd: no server is named")
        if len({url.partition(":")[0] for url in config.servers}) > 1:
            raise Permanent(f"etcd: {', '.join(config.servers)}: the servers are all with TLS or all without")
        self._tls = self._credentials(config) if config.servers[0].startswith("https://") else None
        self._channels: dict[str, Any] = {}
        self._at = 0
        self.name = "etcd " + ",".join(config.servers)

    async def read(self, method: str, request: bytes) -> bytes:
        """The answer of some server. Raises Unavailable, CompactedInEtcd, FutureInEtcd."""
        return await self._call(method, request, lambda problem: True)

    async def write(self, method: str, request: bytes) -> bytes:
        """As `read`, for what must not happen twice. Raises StoreTooLarge as well."""
        return await self._call(method, request, lambda problem: NOT_SENT in problem)

    async def stream(self, method: str) -> Stream:
        """An open call on the present server. It fails on use when the server cannot be reached."""
        call: Stream = (await self._channel()).stream_stream(method)()
        return call

    def next_server(self) -> None:
        """Use another server from now on."""
        self._at = (self._at + 1) % len(self._targets)

    def lost(self, error: BaseException) -> str | None:
        """What is wrong with the connection, if that is what `error` says."""
        if isinstance(error, self._grpc.aio.AioRpcError):
            return str(error.details() or error.code().name)
        return None

    def ended(self, message: Any) -> bool:
        """Whether the other side has ended a stream."""
        return message is self._grpc.aio.EOF

    async def close(self) -> None:
        channels, self._channels = list(self._channels.values()), {}
        for channel in channels:
            await channel.close()

    async def _call(self, method: str, request: bytes, again: Callable[[str], bool]) -> bytes:
        problem = ""
        for _ in self._targets:
            try:
                answer: bytes = await (await self._channel()).unary_unary(method)(request, timeout=SECONDS)
            except self._grpc.aio.AioRpcError as error:
                problem = self._classify(error)
                self.next_server()
                if not again(problem):
                    break
            else:
                return answer
        raise Unavailable(f"{self.name}: {problem}")

    def _classify(self, error: Any) -> str:
        """What is wrong, if another server may do better; raises what no server can change."""
        codes, text = self._grpc.StatusCode, str(error.details() or error.code().name)
        if "has been compacted" in text:
            raise CompactedInEtcd(text) from error
        if "is a future revision" in text:
            raise FutureInEtcd(text) from error
        if "request is too large" in text:
            raise StoreTooLarge(text) from error
        if error.code() not in (codes.UNAVAILABLE, codes.DEADLINE_EXCEEDED, codes.CANCELLED, codes.UNKNOWN):
            raise Unavailable(f"{self.name}: {text}") from error
        return text

    async def _channel(self) -> Any:
        target = self._targets[self._at]
        found = self._channels.get(target)
        if found is None:
            aio = self._grpc.aio
            if self._tls is None:
                found = aio.insecure_channel(target, options=OPTIONS)
            else:
                found = aio.secure_channel(target, self._tls, options=OPTIONS)
            self._channels[target] = found
        return found

    def _credentials(self, config: EtcdConfig) -> Any:
        def content(path: Path | None) -> bytes | None:
            try:
                return path.read_bytes() if path is not None else None
            except OSError as error:
                raise Permanent(f"etcd: {error}") from error

        if (config.certificate is None) is not (config.key is None):
            raise Permanent("--etcd-certfile and --etcd-keyfile belong together")
        return self._grpc.ssl_channel_credentials(content(config.ca), content(config.key), content(config.certificate))


def check_url(url: str) -> str:
    """host:port of a server's URL. Raises Permanent."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError as error:
        raise Permanent(f"etcd: {url!r}: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise Permanent(f"etcd: {url!r} is not the URL of a server, such as https://10.0.0.1:2379")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port or 2379}"
