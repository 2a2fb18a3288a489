"""Health check node ports: sockets opened and closed as Services come and go."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tiphys.base.clock import SystemClock
from tiphys.base.http.client import HttpClient
from tiphys.client.events import EventRecorder
from tiphys.proxy.health.nodeports import HealthCheckPorts, Name
from tiphys.proxy.health.state import ProxyHealth

A, B = ("ns", "a"), ("ns", "b")


class Recorder(EventRecorder):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def about(self, ref: Any, *what: Any, **more: Any) -> None:
        self.told.append((ref["namespace"], ref["name"], *what))


class World:
    """Ports of this machine stand for those of a node."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.health, self.recorder = ProxyHealth(), Recorder()
        self.taken: set[int] = set()
        self.ports = HealthCheckPorts("n1", self.listen, self.health, tasks, SystemClock(), self.recorder)

    def listen(self, port: int) -> list[socket.socket]:
        if port in self.taken:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        return [socket.create_server((address, port)) for address in ("127.0.0.1", "127.0.0.2")]

    async def ask(self, port: int, address: str = "127.0.0.1") -> tuple[int, str]:
        """(status, weight)."""
        async with HttpClient(f"http://{address}:{port}") as client:
            answer = await client.request("GET", "/healthz")
            return answer.status, str(answer.headers["x-load-balancing-endpoint-weight"])

    async def refuses(self, port: int) -> None:
        """Return when nothing listens there any more."""
        while True:
            try:
                await self.ask(port)
            except ConnectionRefusedError:
                return
            await asyncio.sleep(0)  # noqa: TID251 - lets the server end


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    async with asyncio.TaskGroup() as tasks:
        made = World(tasks)
        yield made
        made.ports.sync({}, {})


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return found


def test_each_service_answers_at_its_port_with_its_own_endpoints() -> None:
    async def main() -> None:
        first, second = free_ports(2)
        async with world() as it:
            it.ports.sync({A: first, B: second}, {A: 2, ("ns", "unknown"): 9})
            assert await it.ask(first) == await it.ask(first, "127.0.0.2") == (200, "2")
            assert await it.ask(second) == (503, "0")
            it.ports.sync({A: first, B: second}, {B: 7})
            assert (await it.ask(first), await it.ask(second)) == ((503, "0"), (200, "7"))

    asyncio.run(main())


def test_an_unhealthy_proxy_sends_load_balancers_elsewhere() -> None:
    async def main() -> None:
        [port] = free_ports(1)
        async with world() as it:
            it.ports.sync({A: port}, {A: 2})
            it.health.updated("IPv4", 0)
            it.health.queued("IPv4", 1)
            assert await it.ask(port) == (503, "2")

    asyncio.run(main())


def test_ports_close_with_their_services() -> None:
    async def main() -> None:
        [port] = free_ports(1)
        async with world() as it:
            it.ports.sync({A: port}, {A: 1})
            assert (await it.ask(port))[0] == 200
            it.ports.sync({}, {})
            await it.refuses(port)

    asyncio.run(main())


def test_a_port_goes_over_to_another_service_at_once() -> None:
    async def main() -> None:
        first, second = free_ports(2)
        async with world() as it:
            it.ports.sync({A: first}, {A: 1})
            it.ports.sync({B: first, A: second}, {A: 1, B: 4})
            while it.ports.answer(B).status != 200:
                it.ports.sync({B: first, A: second}, {A: 1, B: 4})
                await asyncio.sleep(0)  # noqa: TID251 - lets the old server end
            assert (await it.ask(first), await it.ask(second)) == ((200, "4"), (200, "1"))
            assert it.recorder.told == []

    asyncio.run(main())


def test_a_port_that_cannot_be_had_is_told_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        [port] = free_ports(1)
        async with world() as it:
            it.taken = {port}
            it.ports.sync({A: port}, {A: 1})
            message = f'node n1 failed to start healthcheck "ns/a" on port {port}: [Errno 98] Address already in use'
            assert it.recorder.told == [("ns", "a", "Warning", "FailedToStartServiceHealthcheck", message, "Listen")]
            assert message in caplog.text
            it.taken = set()
            it.ports.sync({A: port}, {A: 1})
            assert await it.ask(port) == (200, "1")

    asyncio.run(main())


def test_a_service_without_a_port_costs_nothing() -> None:
    async def main() -> None:
        async with world() as it:
            none: dict[Name, int] = {}
            it.ports.sync(none, {A: 3})
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
