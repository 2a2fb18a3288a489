"""The whole name server, from an API server that answers late or never to answers on sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from dns_world import endpoint, endpoint_slice, query, records, service
from tiphys.base import outside
from tiphys.base.clock import SystemClock
from tiphys.base.errors import Forbidden
from tiphys.client.informer import InformerFactory
from tiphys.client.types import Client, Listing, Resource, WatchEvent
from tiphys.dns import app
from tiphys.dns.upstreams import Server
from tiphys.dns.wire import Message, read_message

WEB = "web.testns.svc.cluster.local"
CLOCK = SystemClock()
STORED = {
    "services": [service("web", "10.0.0.1")],
    "endpointslices": [endpoint_slice("web", endpoint("10.1.0.1"))],
    "namespaces": [{"metadata": {"name": "testns"}}],
}


class LateApi:
    """Lists when it is told to, and has no news."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.refused: set[str] = set()

    async def list(self, resource: Resource, namespace: str = "", **_: Any) -> Listing:
        if resource.plural in self.refused:
            raise Forbidden(f"{resource.plural} is forbidden")
        await self.open.wait()
        return Listing(tuple(STORED[resource.plural]), "1")

    async def watch(self, resource: Resource, namespace: str = "", **_: Any) -> AsyncIterator[WatchEvent]:
        await asyncio.get_running_loop().create_future()
        yield WatchEvent("BOOKMARK", {})


class Running:
    """A name server and how to ask it."""

    def __init__(self, listeners: app.Listeners, api: LateApi) -> None:
        self.api = api
        self.place = listeners.udp[0].getsockname()
        self.metrics = listeners.metrics[0].getsockname()

    def send(self, packet: bytes) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.connect(self.place)
        sock.send(packet)
        return sock

    async def received(self, sock: socket.socket) -> Message:
        with sock:
            async with asyncio.timeout(10):
                return read_message(await asyncio.get_running_loop().sock_recv(sock, 4096))

    async def ask(self, name: str) -> Message:
        return await self.received(self.send(query(name)))


@contextlib.asynccontextmanager
async def running(tmp_path: Path, *upstreams: Server) -> AsyncIterator[Running]:
    api = LateApi()
    listeners = app.listen(outside.bound, ["127.0.0.1"], free_port(), 0)
    listeners.metrics.append(outside.bound("127.0.0.1", 0))
    listeners.metrics[0].listen()
    config = app.DnsConfig(upstreams=upstreams, resolv_conf=tmp_path / "resolv.conf")
    async with InformerFactory(cast(Client, api), CLOCK) as informers, asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(app.run(config, informers, listeners, CLOCK))
        yield Running(listeners, api)
        serving.cancel()


def free_port() -> int:
    """A port that is free for TCP, and very likely for UDP."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await scenario()

    asyncio.run(main())


def test_questions_wait_until_the_cluster_is_known(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            early = server.send(query(WEB))
            with socket.create_connection(server.place, 5):
                server.api.open.set()
            answer = await server.received(early)
            assert records(answer) == [f"{WEB}. 30 A 10.0.0.1"]
            assert (await server.ask("testns.svc.cluster.local")).rcode == 0
            assert (await server.ask("other.svc.cluster.local")).rcode == 3

    run(scenario)


def test_they_do_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "PATIENCE", 0.1)

    async def scenario() -> None:
        async with running(tmp_path) as server:
            assert (await server.ask(WEB)).rcode == 2
            server.api.open.set()
            while (answer := await server.ask(WEB)).rcode == 2:
                continue
            assert records(answer) == [f"{WEB}. 30 A 10.0.0.1"]

    run(scenario)


def test_without_the_right_to_list_namespaces_any_may_be_there(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            server.api.refused.add("namespaces")
            server.api.open.set()
            assert records(await server.ask(WEB))
            assert (await server.ask("other.svc.cluster.local")).rcode == 0

    run(scenario)


def test_a_server_that_is_one_of_the_clusters_own_services_is_not_asked(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, Server("10.0.0.1")) as server:
            server.api.open.set()
            async with asyncio.timeout(1):
                assert (await server.ask("example.com")).rcode == 2

    run(scenario)


def test_it_tells_what_it_has_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as server:
            server.api.open.set()
            await server.ask(WEB)
            await server.ask(f"no{WEB}")
            text = await fetched(server.metrics, "/metrics")
            assert 'proto="udp",family="0",type="A"} 2' in text
            assert 'rcode="NXDOMAIN",plugin=""} 1' in text
            assert "OK" in await fetched(server.metrics, "/ready")
            assert "404" in await fetched(server.metrics, "/")

    run(scenario)


async def fetched(place: tuple[str, int], path: str) -> str:
    reader, writer = await asyncio.open_connection(*place)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    text = (await reader.read()).decode()
    writer.close()
    return text


def test_a_metrics_port_that_others_have_is_no_reason_not_to_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        listeners = app.listen(outside.bound, ["127.0.0.1"], free_port(), other.getsockname()[1])
        assert listeners.metrics == []
        listeners.close()


def test_a_port_that_others_have_is_told_and_nothing_stays_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            app.listen(outside.bound, ["127.0.0.1"], port, 0)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", port))
