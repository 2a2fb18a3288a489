"""The name server on real sockets of the loopback: names of the cluster, by UDP and by TCP."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from dns_servers import CLOCK, WEB, address, received, run, said, serving, upstream
from dns_world import endpoint, endpoint_slice, index_of, query, records, service
from tiphys.dns.tcp import MAX_CONNECTIONS, MAX_OF_ONE, MAX_PENDING
from tiphys.dns.wire import TC


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
