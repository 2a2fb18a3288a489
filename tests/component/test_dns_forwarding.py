"""Names outside the cluster, with name servers that answer well, badly or not at all."""

from __future__ import annotations

import asyncio
import socket
import struct
from pathlib import Path

import pytest

from dns_servers import CLOCK, WEB, Peer, address, run, said, serving, upstream
from dns_world import external, index_of, query, records
from tiphys.base import outside
from tiphys.cluster import agent
from tiphys.dns import exchange
from tiphys.dns.resolvconf import watched
from tiphys.dns.upstreams import Server
from tiphys.dns.wire import QUESTION_AT, TC, read_query


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


def test_more_questions_than_may_be_under_way_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "UDP_TIMEOUT", 0.3)

    async def scenario() -> None:
        async with upstream() as silent, serving(silent.server) as world:
            silent.answers = lambda packet: []
            world.forwarder._limit = 5
            asked = [world.ask(query(f"n{number}.example.com")) for number in range(8)]
            rcodes = [answer.rcode for answer in await asyncio.gather(*asked)]
            assert sorted(rcodes) == [2] * 5 + [5] * 3
            assert world.forwarder.counts.refused == 3
            silent.answers = lambda packet: [said(packet, address("192.0.2.1"))]
            assert (await world.ask(query("now.example.com"))).rcode == 0

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
