"""For tests of the DNS: a name server on sockets of the loopback, beside others whose answers a test decides."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast

import uvloop

from dns_world import index_of, service
from tiphys.base.clock import SystemClock
from tiphys.dns.clients import Clients
from tiphys.dns.forward import Forwarder
from tiphys.dns.index import Index
from tiphys.dns.metrics import Metrics
from tiphys.dns.responder import Responder
from tiphys.dns.sockets import HostSockets
from tiphys.dns.tcp import TcpServer
from tiphys.dns.udp import UdpServer
from tiphys.dns.upstreams import Server, Upstreams
from tiphys.dns.wire import Message, read_message, read_query
from tiphys.dns.zone import Zone

CLOCK = SystemClock()
Peer = tuple[str, int]


def said(packet: bytes, *answers: bytes, flags: int = 0x8180, id: int | None = None) -> bytes:
    """An answer to the question in the packet."""
    asked = read_query(packet)
    number = int.from_bytes(packet[:2], "big") if id is None else id
    return struct.pack("!6H", number, flags, 1, len(answers), 0, 0) + asked.question + b"".join(answers)


def address(text: str, ttl: int = 60) -> bytes:
    return b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, ttl, 4) + socket.inet_aton(text)


class Upstream(asyncio.DatagramProtocol):
    """A name server whose answers by UDP and TCP a test decides: bytes of a message each."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.ports: list[int] = []
        self.answers: Callable[[bytes], list[bytes]] = lambda packet: [said(packet, address("192.0.2.1"))]
        self.by_tcp: Callable[[bytes], bytes] = lambda packet: said(packet, address("192.0.2.2"))
        self.came = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, packet: bytes, peer: Peer) -> None:
        if read_query(packet).type == 13:
            self.transport.sendto(said(packet, flags=0x8183), peer)  # the search for loops
            return
        self.asked.append(packet)
        self.ports.append(peer[1])
        self.came.set()
        for answer in self.answers(packet):
            self.transport.sendto(answer, peer)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        packet = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        answer = self.by_tcp(packet)
        writer.write(len(answer).to_bytes(2, "big") + answer)
        writer.close()

    @property
    def server(self) -> Server:
        return Server("127.0.0.1", self.transport.get_extra_info("sockname")[1])


@contextlib.asynccontextmanager
async def upstream() -> AsyncIterator[Upstream]:
    udp, tcp = same_port()
    udp.setblocking(False)
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(Upstream, sock=udp)
    streams = await asyncio.start_server(protocol.connected, sock=tcp)
    try:
        yield protocol
    finally:
        transport.close()
        streams.close()


@dataclass
class World:
    """A running name server."""

    index: Index
    forwarder: Forwarder
    responder: Responder
    port: int
    metrics: Metrics
    tasks: asyncio.TaskGroup
    opened: list[socket.socket] = field(default_factory=list)

    async def ask(self, packet: bytes, tcp: bool = False) -> Message:
        """One question, one answer. Raises TimeoutError."""
        return read_message(await (self.by_tcp(packet) if tcp else self.by_udp(packet)))

    async def by_udp(self, packet: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.connect(("127.0.0.1", self.port))
            sock.send(packet)
            async with asyncio.timeout(15):
                return await loop.sock_recv(sock, 65535)

    async def by_tcp(self, packet: bytes) -> bytes:
        reader, writer = await self.connect()
        writer.write(len(packet).to_bytes(2, "big") + packet)
        async with asyncio.timeout(15):
            answer = await received(reader)
        writer.close()
        return answer

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)


async def received(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))


def same_port() -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket on a port that is free for both."""
    while True:
        tcp = socket.create_server(("127.0.0.1", 0))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.bind(tcp.getsockname())
        except OSError:
            udp.close()
            tcp.close()
        else:
            return udp, tcp


@contextlib.asynccontextmanager
async def serving(*servers: Server, index: Index | None = None, idle: float = 10.0) -> AsyncIterator[World]:
    index = index or index_of([service("web", "10.0.0.1")], namespaces=["testns"])
    udp, tcp = same_port()
    with udp, tcp:
        port = udp.getsockname()[1]
        async with asyncio.TaskGroup() as tasks:
            forwarder = Forwarder(Upstreams(servers), HostSockets(), CLOCK, tasks)
            metrics = Metrics()
            responder = Responder(Zone("cluster.local", index), index, forwarder, CLOCK, metrics)
            responder.ready = True
            clients = Clients()
            running = [
                tasks.create_task(UdpServer(udp, responder, tasks, clients).run()),
                tasks.create_task(TcpServer(tcp, responder, CLOCK, tasks, clients, idle=idle).run()),
            ]
            yield World(index, forwarder, responder, port, metrics, tasks)
            for task in running:
                task.cancel()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """On the event loop that nodes have."""

    async def main() -> None:
        await scenario()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


WEB = "web.testns.svc.cluster.local"
