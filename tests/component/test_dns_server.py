"""The name server on real sockets of the loopback, beside name servers that answer well, badly or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
import uvloop

from dns_world import endpoint, endpoint_slice, external, index_of, query, records, service
from tiphys.base import outside
from tiphys.base.clock import SystemClock
from tiphys.cluster import agent
from tiphys.dns import exchange
from tiphys.dns.clients import Clients
from tiphys.dns.forward import Forwarder
from tiphys.dns.index import Index
from tiphys.dns.metrics import Metrics
from tiphys.dns.resolvconf import watched
from tiphys.dns.responder import Responder
from tiphys.dns.sockets import HostSockets
from tiphys.dns.tcp import MAX_CONNECTIONS, MAX_OF_ONE, MAX_PENDING, TcpServer
from tiphys.dns.udp import UdpServer
from tiphys.dns.upstreams import Server, Upstreams
from tiphys.dns.wire import QUESTION_AT, TC, Message, read_message, read_query
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


@pytest.mark.parametrize("tcp", [False, True])
def test_names_of_the_cluster_are_answered(tcp: bool) -> None:
    async def scenario() -> None:
        async with serving() as world:
            for _ in range(2):
                answer = await world.ask(query(WEB), tcp)
                assert records(answer) == [f"{WEB}. 30 A 10.0.0.1"]
                assert answer.flags & 0x0400
            assert world.metrics.total() == 2

    run(scenario)


def test_a_change_is_seen_by_the_next_question() -> None:
    async def scenario() -> None:
        async with serving() as world:
            await world.ask(query(WEB))
            world.index.service_changed(None, service("web", "10.0.0.9"), 1e9)
            assert records(await world.ask(query(WEB))) == [f"{WEB}. 30 A 10.0.0.9"]

    run(scenario)


def test_what_is_no_question_is_refused_or_not_answered() -> None:
    async def scenario() -> None:
        async with serving() as world:
            odd = query(WEB)[:4] + b"\0\2" + query(WEB)[6:]
            assert (await world.by_udp(odd))[3] & 15 == 1
            assert (await world.by_udp(query(WEB, flags=0x2900)))[3] & 15 == 4
            assert (await world.ask(query(WEB, 252))).rcode == 5
            assert (await world.ask(query(WEB)[:-1] + b"\3")).rcode == 5
            later = query(WEB, payload=512)
            later = later[:-5] + b"\1" + later[-4:]
            assert (await world.ask(later)).rcode == 16
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for silent in (b"", b"\0" * 11, query(WEB, flags=0x8100)):
                    sock.sendto(silent, ("127.0.0.1", world.port))
            assert (await world.ask(query(WEB))).rcode == 0
            assert world.metrics.total() == 6

    run(scenario)


def test_before_the_cluster_is_known_its_names_are_failures_and_others_are_answered() -> None:
    async def scenario() -> None:
        async with upstream() as other, serving(other.server) as world:
            world.responder.ready = False
            assert (await world.ask(query(WEB))).rcode == 2
            assert (await world.ask(query("example.com"))).rcode == 0
            world.responder.ready = True
            assert (await world.ask(query(WEB))).rcode == 0

    run(scenario)


def test_other_names_are_asked_of_other_servers_once() -> None:
    async def scenario() -> None:
        async with upstream() as other, serving(other.server) as world:
            for name in ("www.example.com", "WWW.Example.COM"):
                assert records(await world.ask(query(name))) == [f"{name}. 30 A 192.0.2.1"]
            assert len(other.asked) == 1
            (asked,) = map(read_query, other.asked)
            assert asked.flags == 0x0100
            assert asked.edns is not None

    run(scenario)


def test_the_same_question_is_under_way_only_once() -> None:
    async def scenario() -> None:
        async with upstream() as other, serving(other.server) as world:
            held: list[bytes] = []
            other.answers = lambda packet: held.append(packet) or []  # type: ignore[func-returns-value]
            async with asyncio.TaskGroup() as group:
                asking = [group.create_task(world.ask(query("example.com", id=number))) for number in range(20)]
                await other.came.wait()
                other.answers = lambda packet: [said(packet, address("192.0.2.1"))]
                while sum(len(task.get_stack()) > 0 for task in asking) < 20:
                    await CLOCK.sleep(0)
                await world.ask(query(WEB))  # all that were sent before have been read
                other.datagram_received(held[0], ("127.0.0.1", other.ports[0]))
            assert {task.result().id for task in asking} == set(range(20))
            assert len(held) == 1

    run(scenario)


def test_each_question_comes_from_another_port_with_another_id() -> None:
    async def scenario() -> None:
        async with upstream() as other, serving(other.server) as world:
            for number in range(30):
                await world.ask(query(f"n{number}.example.com"))
            assert len(set(other.ports)) > 20
            assert len({packet[:2] for packet in other.asked}) > 20

    run(scenario)


def test_forged_answers_are_not_believed() -> None:
    async def scenario() -> None:
        async with upstream() as other, serving(other.server) as world:

            def forge(packet: bytes) -> list[bytes]:
                wrong = (int.from_bytes(packet[:2], "big") + 1) & 0xFFFF
                bad = address("203.0.113.66")
                return [
                    said(packet, bad, id=wrong),
                    said(packet.replace(b"example", b"exbmple"), bad),
                    said(packet, bad, flags=0x0180),
                    b"junk",
                    said(packet, address("192.0.2.1")),
                ]

            other.answers = forge
            assert records(await world.ask(query("example.com"))) == ["example.com. 30 A 192.0.2.1"]
            other.answers = lambda packet: [said(packet, id=0), said(packet, id=1)] * 20
            assert records(await world.ask(query("more.example.com"))) == ["more.example.com. 30 A 192.0.2.2"]

    run(scenario)


def test_an_answer_that_was_cut_is_fetched_by_tcp() -> None:
    async def scenario() -> None:
        async with upstream() as other, serving(other.server) as world:
            other.answers = lambda packet: [said(packet, flags=0x8180 | TC)]
            other.by_tcp = lambda packet: said(packet, *[address(f"192.0.2.{n}") for n in range(200)])
            short = await world.ask(query("example.com"))
            assert short.flags & TC
            assert 20 < len(short.answers) < 200
            whole = await world.ask(query("example.com"), tcp=True)
            assert len(whole.answers) == 200

    run(scenario)


def test_the_next_server_is_asked_when_one_is_silent_absent_or_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "UDP_TIMEOUT", 0.2)

    async def scenario() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unheard:
            unheard.bind(("127.0.0.1", 0))
            absent = Server("127.0.0.1", unheard.getsockname()[1])
        async with upstream() as silent, upstream() as failing, upstream() as good:
            silent.answers = lambda packet: []
            failing.answers = lambda packet: [said(packet, flags=0x8182)]
            async with serving(absent, silent.server, failing.server, good.server) as world:
                for number in range(3):
                    assert (await world.ask(query(f"n{number}.example.com"))).rcode == 0
                assert len(silent.asked) == 1
                assert len(failing.asked) == len(good.asked) == 3
                assert world.forwarder.counts.failed == 2

    run(scenario)


def test_without_anybody_who_answers_the_question_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "UDP_TIMEOUT", 0.1)

    async def scenario() -> None:
        async with serving() as world:
            assert (await world.ask(query("example.com"))).rcode == 2
        async with upstream() as silent, serving(silent.server) as world:
            silent.answers = lambda packet: []
            assert (await world.ask(query("example.com"))).rcode == 2

    run(scenario)


def test_a_server_that_knows_no_edns_is_asked_without() -> None:
    async def scenario() -> None:
        async with upstream() as other, serving(other.server) as world:

            def old(packet: bytes) -> list[bytes]:
                if read_query(packet).edns is not None:
                    return [said(packet, flags=0x8181)]
                return [said(packet, address("192.0.2.1"))]

            other.answers = old
            assert records(await world.ask(query("example.com"))) == ["example.com. 30 A 192.0.2.1"]

    run(scenario)


def test_that_something_does_not_exist_is_remembered_too() -> None:
    async def scenario() -> None:
        soa = b"\0" + struct.pack("!HHIH", 6, 1, 50, 22) + b"\0\0" + struct.pack("!5I", 1, 2, 3, 4, 50)
        async with upstream() as other, serving(other.server) as world:
            other.answers = lambda packet: [
                struct.pack("!6H", int.from_bytes(packet[:2], "big"), 0x8183, 1, 0, 1, 0)
                + packet[QUESTION_AT : read_query(packet).end]
                + soa
            ]
            for _ in range(2):
                answer = await world.ask(query("nobody.example.com"))
                assert (answer.rcode, len(answer.authority)) == (3, 1)
                assert answer.authority[0].ttl <= 30
            assert len(other.asked) == 1

    run(scenario)


def test_an_external_name_comes_with_what_it_stands_for() -> None:
    async def scenario() -> None:
        index = index_of([external("out", "www.example.com")])
        async with upstream() as other, serving(other.server, index=index) as world:
            out = "out.testns.svc.cluster.local"
            expected = [f"{out}. 30 CNAME www.example.com.", "www.example.com. 30 A 192.0.2.1"]
            for _ in range(2):
                assert records(await world.ask(query(out))) == sorted(expected)
            assert len(other.asked) == 1
            assert read_query(other.asked[0]).question[:4] == b"\3www"
            assert records(await world.ask(query(out, "CNAME"))) == expected[:1]
            other.answers = lambda packet: [said(packet, flags=0x8183)]
            unknown = await world.ask(query(out, "AAAA"))
            assert (unknown.rcode, records(unknown)) == (0, expected[:1])
        async with serving(index=index) as world:
            alone = await world.ask(query(out))
            assert (alone.rcode, records(alone)) == (0, expected[:1])

    run(scenario)


def test_a_server_that_asks_us_in_turn_is_found_out() -> None:
    async def scenario() -> None:
        async with upstream() as detour, serving(detour.server) as world:
            passing: list[asyncio.Task[None]] = []

            async def pass_on(packet: bytes, peer: Peer) -> None:
                detour.transport.sendto(await world.by_udp(packet), peer)

            def received(packet: bytes, peer: Peer) -> None:
                passing.append(world.tasks.create_task(pass_on(packet, peer)))

            detour.datagram_received = received  # type: ignore[method-assign]
            assert (await world.ask(query("example.com"))).rcode == 2
            assert world.forwarder.upstreams.order(CLOCK.monotonic()) == []
            assert len(passing) <= 4

    run(scenario)


def test_ourselves_are_not_asked() -> None:
    async def scenario() -> None:
        async with serving(Server("127.0.0.1", 9)) as world:
            world.forwarder.is_ours = lambda server: True
            assert (await world.ask(query("example.com"))).rcode == 2
            assert world.forwarder.counts.asked == 0

    run(scenario)


def test_many_addresses_are_cut_by_udp_and_whole_by_tcp_and_each_comes_first() -> None:
    async def scenario() -> None:
        endpoints = [endpoint(f"10.1.{n // 200}.{n % 200 + 1}") for n in range(600)]
        index = index_of([service("web", "None")], [endpoint_slice("web", *endpoints)])
        async with serving(index=index) as world:
            first = set()
            for _ in range(600):
                answer = await world.ask(query(WEB, payload=4096))
                assert answer.flags & TC
                first.add(answer.answers[0].data)
            assert len(first) == 600
            whole = await world.ask(query(WEB), tcp=True)
            assert not whole.flags & TC
            assert len(whole.answers) == 600

    run(scenario)


def test_questions_on_one_connection_are_answered_as_soon_as_each_can_be() -> None:
    async def scenario() -> None:
        async with upstream() as other, serving(other.server) as world:
            held: list[bytes] = []
            other.answers = lambda packet: held.append(packet) or []  # type: ignore[func-returns-value]
            reader, writer = await world.connect()
            packets = [query("slow.example.com", id=1), query(WEB, id=2), query(WEB, id=3)]
            data = b"".join(len(each).to_bytes(2, "big") + each for each in packets)
            for at in range(len(data)):
                writer.write(data[at : at + 1])
            assert [int.from_bytes((await received(reader))[:2], "big") for _ in range(2)] == [2, 3]
            await other.came.wait()
            writer.write_eof()
            other.transport.sendto(said(held[0], address("192.0.2.1")), ("127.0.0.1", other.ports[0]))
            assert (await received(reader))[:2] == b"\0\1"
            assert await reader.read() == b""
            writer.close()

    run(scenario)


def test_a_client_that_asks_much_and_says_no_more_gets_all_answers() -> None:
    async def scenario() -> None:
        async with upstream() as other, serving(other.server) as world:
            reader, writer = await world.connect()
            count = MAX_PENDING * 3
            for number in range(count):
                packet = query(f"n{number}.example.com", id=number)
                writer.write(len(packet).to_bytes(2, "big") + packet)
            writer.write_eof()
            async with asyncio.timeout(20):
                answered = {int.from_bytes((await received(reader))[:2], "big") for _ in range(count)}
                assert await reader.read() == b""
            assert answered == set(range(count))
            writer.close()

    run(scenario)


@pytest.mark.parametrize("pipelined", [False, True])
def test_a_client_that_sends_nonsense_or_leaves_harms_nobody(pipelined: bool) -> None:
    async def scenario() -> None:
        async with upstream() as other, serving(other.server) as world:
            held: list[bytes] = []
            other.answers = lambda packet: held.append(packet) or []  # type: ignore[func-returns-value]
            _, writer = await world.connect()
            asked = query("slow.example.com")
            writer.write(len(asked).to_bytes(2, "big") + asked + (b"\0\1x" * 500 if pipelined else b""))
            await other.came.wait()
            writer.transport.abort()
            other.transport.sendto(said(held[0], address("192.0.2.1")), ("127.0.0.1", other.ports[0]))
            assert records(await world.ask(asked)) == ["slow.example.com. 30 A 192.0.2.1"]
            assert records(await world.ask(query(WEB), tcp=True))

    run(scenario)


def test_connections_that_say_nothing_end() -> None:
    async def scenario() -> None:
        async with serving(idle=0.1) as world:
            reader, writer = await world.connect()
            writer.write(b"\0")  # a byte now and then is not a question
            async with asyncio.timeout(5):
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
            writer.close()

    run(scenario)


def test_one_address_cannot_have_all_connections() -> None:
    async def scenario() -> None:
        async with serving() as world:
            opened = [await world.connect() for _ in range(MAX_OF_ONE + 5)]
            async with asyncio.timeout(5):
                for reader, _ in opened[:5]:
                    with contextlib.suppress(ConnectionResetError):
                        assert await reader.read() == b""
            reader, writer = opened[-1]
            writer.write(len(query(WEB)).to_bytes(2, "big") + query(WEB))
            assert (await received(reader))[:2] == query(WEB)[:2]
            for _, writer in opened:
                writer.close()
        assert MAX_OF_ONE < MAX_CONNECTIONS

    run(scenario)


def test_a_client_that_takes_no_answers_is_read_no_further() -> None:
    async def scenario() -> None:
        endpoints = [endpoint(f"10.1.{n // 200}.{n % 200 + 1}") for n in range(1000)]
        index = index_of([service("web", "None")], [endpoint_slice("web", *endpoints)])
        async with serving(index=index) as world:
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.connect(("127.0.0.1", world.port))
                sock.setblocking(False)
                asked = len(query(WEB)).to_bytes(2, "big") + query(WEB)
                sent = 0
                with contextlib.suppress(BlockingIOError):
                    while sent < 64 << 20:
                        sent += sock.send(asked * 1000)
                        await CLOCK.sleep(0)
                assert sent < 64 << 20
                before = world.metrics.total()
                assert records(await world.ask(query(WEB)))
                assert world.metrics.total() < before + 1000

    run(scenario)


def test_other_servers_are_asked_when_resolv_conf_changes(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "resolv.conf"
        told: asyncio.Queue[tuple[Server, ...]] = asyncio.Queue()
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(watched(path, told.put_nowait))
            assert await told.get() == ()
            path.write_text("nameserver 192.0.2.1\n")
            while (servers := await told.get()) == ():
                continue
            assert servers == (Server("192.0.2.1"),)
            (tmp_path / "loop").symlink_to(path)
            (tmp_path / "loop").rename(path)
            while await told.get() != ():
                continue
            new = tmp_path / "new"
            new.write_text("nameserver 192.0.2.2\n")
            new.rename(path)
            while (servers := await told.get()) != (Server("192.0.2.2"),):
                continue
            watching.cancel()

    run(scenario)


@pytest.fixture
def outside_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the agent of rootless mode listens, for this process too."""
    path = tmp_path / "agent"
    monkeypatch.setenv(outside.AGENT, str(path))
    return path


def test_without_root_the_agents_sockets_ask_other_servers(outside_agent: Path) -> None:
    async def scenario() -> None:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(agent.run(agent.listening(outside_agent)))
            async with upstream() as other, serving(other.server) as world:
                for number in range(3):
                    assert (await world.ask(query(f"n{number}.example.com"))).rcode == 0
                assert len(set(other.ports)) == 3
                other.answers = lambda packet: [said(packet, flags=0x8180 | TC)]
                assert records(await world.ask(query("long.example.com"))) == ["long.example.com. 30 A 192.0.2.2"]
            running.cancel()

    run(scenario)


def test_without_root_and_without_an_agent_other_names_fail(outside_agent: Path) -> None:
    async def scenario() -> None:
        async with upstream() as other, serving(other.server) as world:
            assert (await world.ask(query("example.com"))).rcode == 2
            assert records(await world.ask(query(WEB))) == [f"{WEB}. 30 A 10.0.0.1"]

    run(scenario)
