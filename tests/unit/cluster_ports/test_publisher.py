"""The publisher in a network of its own: what it holds, writes and lets go of, without a cluster."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from tiphys.base.clock import SystemClock
from tiphys.cluster.ports import desk, kernel, publisher
from tiphys.cluster.ports.published import PublishedPort, parse
from tiphys.cluster.ports.publisher import Publisher
from tiphys.cluster.ports.rules import Place

PLACE = Place("tiphys99-ports", "tiphys99", (ip_network("10.89.99.0/24"),))


class FakeInformer:
    """Objects of a resource, all known."""

    def __init__(self, objects: list[dict[str, Any]]) -> None:
        self.objects = objects
        self.told: list[Callable[[Any, Any], None]] = []

    def subscribe(self, changed: Callable[[Any, Any], None]) -> None:
        self.told.append(changed)

    async def wait_synced(self) -> None:
        return None

    def list(self, namespace: str = "") -> list[dict[str, Any]]:
        return self.objects


class World:
    """A publisher whose kernel is a list of what was written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        service = {"metadata": {"name": "web", "namespace": "default"}, "spec": {"ports": [{"port": 80, "name": ""}]}}
        one = {
            "metadata": {"name": "web-1", "namespace": "default", "labels": {publisher.SERVICE_NAME: "web"}},
            "addressType": "IPv4",
            "ports": [{"port": 8000, "name": ""}],
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
        }
        self.informers = {"services": FakeInformer([service]), "endpointslices": FakeInformer([one])}
        self.asked: list[str] = []
        self.wanted: tuple[PublishedPort, ...] = ()
        self.written: list[tuple[str, bool]] = []
        self.refuse = False
        monkeypatch.setattr(kernel, "apply", self._write)
        monkeypatch.setattr(publisher, "forget", lambda ports: 0)

    def _write(self, place: Place, text: str, localnet: bool) -> None:
        if self.refuse:
            raise OSError(1, "Operation not permitted")
        self.written.append((text, localnet))

    def get(self, resource: Any) -> FakeInformer:
        self.asked.append(resource.plural)
        return self.informers[resource.plural]

    def play(self, scenario: Callable[[Publisher, asyncio.TaskGroup], Awaitable[None]]) -> None:
        async def main() -> None:
            async with asyncio.TaskGroup() as tasks:
                made = Publisher(PLACE, lambda: self.wanted, self, SystemClock(), tasks)  # type: ignore[arg-type] # a stand-in
                running = tasks.create_task(made.run())
                await scenario(made, tasks)
                running.cancel()

        asyncio.run(main())


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_nothing_is_watched_while_nothing_is_published(world: World) -> None:
    async def scenario(made: Publisher, tasks: asyncio.TaskGroup) -> None:
        assert await made.state() == []
        assert world.asked == []
        world.wanted = (parse(f"{free_port()}:web:80"),)
        (state,) = await made.state()
        assert (state["way"], state["backends"], state["error"]) == ("kernel", ["127.0.0.1:8000"], "")
        assert world.asked == ["services", "endpointslices"]

    world.play(scenario)


def test_the_same_rules_are_not_written_twice(world: World) -> None:
    async def scenario(made: Publisher, tasks: asyncio.TaskGroup) -> None:
        world.wanted = (parse(f"{free_port()}:web:80"),)
        await made.state()
        count = len(world.written)
        await made.state()
        assert len(world.written) == count
        world.wanted = ()
        await made.state()
        assert world.written[-1] == ("table inet tiphys99-ports\ndelete table inet tiphys99-ports\n", False)

    world.play(scenario)


def test_a_port_is_held_until_it_is_not_wanted(world: World) -> None:
    port = free_port()

    async def scenario(made: Publisher, tasks: asyncio.TaskGroup) -> None:
        world.wanted = (parse(f"{port}:web:80"),)
        await made.state()
        with pytest.raises(OSError, match="in use"):
            socket.create_server(("127.0.0.1", port))
        world.wanted = ()
        await made.state()
        socket.create_server(("127.0.0.1", port)).close()

    world.play(scenario)


def test_a_port_that_somebody_has_is_told_of_and_taken_when_it_is_free(world: World) -> None:
    async def scenario(made: Publisher, tasks: asyncio.TaskGroup) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            world.wanted = (parse(f"{other.getsockname()[1]}:web:80"),)
            (state,) = await made.state()
            assert "in use by another program" in state["error"]
        (state,) = await made.state()
        assert (state["error"], state["backends"]) == ("", ["127.0.0.1:8000"])

    world.play(scenario)


def test_where_the_kernel_refuses_bytes_are_copied(world: World) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data.upper())
        writer.close()

    async def scenario(made: Publisher, tasks: asyncio.TaskGroup) -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        world.informers["endpointslices"].objects[0]["ports"][0]["port"] = server.sockets[0].getsockname()[1]
        port = free_port()
        world.wanted, world.refuse = (parse(f"{port}:web:80"),), True
        (state,) = await made.state()
        assert state["way"] == "process"
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"ahoy")
        writer.write_eof()
        assert await reader.read() == b"AHOY"
        writer.close()
        server.close()

    world.play(scenario)


def test_udp_is_copied_too_and_answers_come_back(world: World) -> None:
    async def scenario(made: Publisher, tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(type=socket.SOCK_DGRAM) as server, socket.socket(type=socket.SOCK_DGRAM) as client:
            for each in (server, client):
                each.setblocking(False)
            server.bind(("127.0.0.1", 0))
            world.informers["services"].objects[0]["spec"]["ports"][0]["protocol"] = "UDP"
            world.informers["endpointslices"].objects[0]["ports"][0] |= {
                "port": server.getsockname()[1],
                "protocol": "UDP",
            }
            port = free_port()
            world.wanted, world.refuse = (parse(f"{port}:web:80/udp"),), True
            await made.state()
            client.connect(("127.0.0.1", port))
            for _ in range(2):
                client.send(b"ahoy")
                data, peer = await loop.sock_recvfrom(server, 100)
                server.sendto(data.upper(), peer)
                assert await loop.sock_recv(client, 100) == b"AHOY"

    world.play(scenario)


def test_objects_that_make_no_sense_end_nothing(world: World) -> None:
    async def scenario(made: Publisher, tasks: asyncio.TaskGroup) -> None:
        good = world.informers["services"].objects
        world.informers["services"].objects = [{"metadata": None}]
        world.wanted = (parse(f"{free_port()}:web:80"),)
        for told in world.informers["services"].told:
            told(None, None)
        with pytest.raises(AttributeError):
            await made.state()
        world.informers["services"].objects = good
        assert (await made.state())[0]["backends"]

    world.play(scenario)


def test_the_desk_answers_whoever_asks_before_it_is_served(world: World, tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120) / desk.NAME
    path.parent.mkdir()

    async def scenario(made: Publisher, tasks: asyncio.TaskGroup) -> None:
        listening = desk.listening(path)
        assert os.stat(path).st_mode & 0o777 == 0o600
        asking = tasks.create_task(asyncio.to_thread(desk.ask, path))
        serving = tasks.create_task(desk.serve(listening, made))
        assert await asking == []
        serving.cancel()
        desk.listening(path).close()

    world.play(scenario)
