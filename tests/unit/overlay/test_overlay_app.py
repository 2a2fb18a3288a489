"""The overlay's shell: told of nodes, it writes what differs; the kernel is a stand-in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Self

from tiphys.overlay.app import RETRY, Overlay
from tiphys.overlay.plan import Difference, wanted
from tiphys.overlay.types import VXLAN, Entries, Settings
from tiphys.testing.clock import VirtualClock

SETTINGS = Settings(VXLAN, "192.168.0.1", sources=("10.0.1.1",))


class Kernel:
    """Entries that a link reads and writes."""

    def __init__(self) -> None:
        self.entries_now = Entries()
        self.writes: list[Difference] = []
        self.devices = 0
        self.failing: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def ensure_device(self, settings: Settings) -> int:
        self.devices += 1
        return 7

    def index(self, name: str) -> int:
        return 7

    def entries(self, settings: Settings) -> Entries:
        return self.entries_now

    def apply(self, settings: Settings, change: Difference) -> list[str]:
        if self.failing:
            return [self.failing.pop()]
        self.writes.append(change)
        now, added, removed = self.entries_now, change.added, change.removed
        self.entries_now = Entries(
            now.forwards - removed.forwards | added.forwards,
            now.neighbours - removed.neighbours | added.neighbours,
            now.routes - removed.routes | added.routes,
        )
        return []


class Nodes:
    """An informer of Nodes."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.told: list[Callable[[Any, Any], None]] = []

    def subscribe(self, changed: Callable[[Any, Any], None]) -> None:
        self.told.append(changed)

    def unsubscribe(self, changed: Callable[[Any, Any], None]) -> None:
        self.told.remove(changed)

    async def wait_synced(self) -> None:
        return None

    def list(self) -> list[dict[str, Any]]:
        return list(self.objects.values())

    def put(self, name: str, address: str, cidr: str, **more: Any) -> None:
        new = {
            "metadata": {"name": name, **more},
            "spec": {"podCIDRs": [cidr]},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]},
        }
        old, self.objects[name] = self.objects.get(name), new
        for told in self.told:
            told(old, new)

    def remove(self, name: str) -> None:
        old = self.objects.pop(name)
        for told in self.told:
            told(old, None)


class World:
    def __init__(self) -> None:
        self.clock, self.kernel, self.nodes = VirtualClock(), Kernel(), Nodes()
        self.ranges: list[list[str]] = []

    def play(self, scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            overlay = Overlay(
                SETTINGS,
                self.nodes,  # type: ignore[arg-type] # a stand-in
                self.clock,
                here=lambda: frozenset({"mine"}),
                opened=lambda: self.kernel,  # type: ignore[arg-type, return-value] # a stand-in
                changed=self.ranges.append,
            )
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(overlay.run())
                await self.clock.sleep(0.1)
                await scenario()
                running.cancel()

        try:
            self.clock.run(main())
        finally:
            self.clock.close()

    async def settle(self) -> None:
        await self.clock.sleep(0.1)

    @property
    def subnets(self) -> list[str]:
        return sorted(route.subnet for route in self.kernel.entries_now.routes)


def test_machines_come_and_go() -> None:
    world = World()

    async def scenario() -> None:
        world.nodes.put("mine", "192.168.0.1", "10.0.1.0/24")
        world.nodes.put("b", "192.168.0.2", "10.0.2.0/24")
        world.nodes.put("c", "192.168.0.3", "10.0.3.0/24")
        await world.settle()
        assert world.subnets == ["10.0.2.0/24", "10.0.3.0/24"]
        assert world.ranges[-1] == ["10.0.1.0/24", "10.0.2.0/24", "10.0.3.0/24"]
        world.nodes.remove("b")
        await world.settle()
        assert world.subnets == ["10.0.3.0/24"]
        assert world.ranges[-1] == ["10.0.1.0/24", "10.0.3.0/24"]

    world.play(scenario)


def test_a_heartbeat_writes_nothing_and_looks_at_nothing() -> None:
    world = World()

    async def scenario() -> None:
        world.nodes.put("b", "192.168.0.2", "10.0.2.0/24")
        await world.settle()
        looked, written = world.kernel.devices, len(world.kernel.writes)
        world.nodes.put("b", "192.168.0.2", "10.0.2.0/24", resourceVersion="2")
        await world.settle()
        assert (world.kernel.devices, len(world.kernel.writes)) == (looked, written)

    world.play(scenario)


def test_a_restart_finds_what_is_there_and_changes_nothing() -> None:
    world = World()
    world.nodes.put("b", "192.168.0.2", "10.0.2.0/24")
    from tiphys.overlay.peers import peers_of

    world.kernel.entries_now = wanted(SETTINGS, peers_of(world.nodes.list(), "192.168.0.1", frozenset(), 4))

    async def scenario() -> None:
        await world.settle()
        assert world.kernel.writes == []
        assert world.subnets == ["10.0.2.0/24"]

    world.play(scenario)


def test_what_the_kernel_refuses_is_tried_again() -> None:
    world = World()
    world.kernel.failing = ["route to 10.0.2.0/24: Network is unreachable"] * 2

    async def scenario() -> None:
        world.nodes.put("b", "192.168.0.2", "10.0.2.0/24")
        await world.settle()
        assert world.subnets == []
        await world.clock.sleep(2 * RETRY)
        assert world.subnets == ["10.0.2.0/24"]

    world.play(scenario)
