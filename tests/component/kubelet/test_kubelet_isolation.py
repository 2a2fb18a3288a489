"""No container starts before network policies are in force, whoever was killed in between."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from tiphys.base.errors import Retry
from tiphys.client.resources import PODS


class Guardian:
    """Notes what it is told; lets nobody start before `open` is set."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.open = asyncio.Event()
        self.failures = 0

    def found(
        self, uid: str, namespace: str, addresses: Iterable[str], pod: Mapping[str, Any] | None, started: bool
    ) -> None:
        known = pod["metadata"]["name"] if pod else "nobody"
        self.told.append(f"found {known} in {namespace} {'started' if started else 'new'}")

    def settle(self) -> None:
        self.told.append("settled")

    def attach(self, pod: Mapping[str, Any], addresses: Iterable[str]) -> None:
        self.told.append(f"attach {pod['metadata']['name']} {','.join(addresses)}")

    async def isolate(self, pod: Mapping[str, Any], addresses: Iterable[str]) -> None:
        self.told.append(f"isolate {pod['metadata']['name']} {','.join(addresses)}")
        if self.failures:
            self.failures -= 1
            raise Retry("network policies are not in force: the kernel is tired")
        await self.open.wait()

    def release(self, uid: str, addresses: Iterable[str]) -> None:
        self.told.append(f"release {','.join(addresses)}")


def test_no_container_not_even_an_init_container_starts_before_the_pod_is_isolated(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        guard = node.guard = Guardian()
        async with node.running():
            await node.create(pod(initContainers=[{"name": "init", "image": "busybox"}], containers=[{}]))
            await node.until(lambda: any("isolate web" in line for line in guard.told))
            await node.clock.sleep(20)
            assert not [line for line in node.runtime.log if line.startswith("start")]
            guard.open.set()
            await node.until(lambda: "start init" in node.runtime.log)

    node.clock.run(scenario())


def test_a_pod_that_cannot_be_isolated_is_told_so_and_tried_again(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        guard = node.guard = Guardian()
        guard.open.set()
        guard.failures = 1
        async with node.running():
            await node.create(pod())
            await node.until(lambda: node.status(container="main")["state"].get("waiting", {}).get("message"))
            waiting = node.status(container="main")["state"]["waiting"]
            assert waiting["reason"] == "CreateContainerError"
            assert waiting["message"] == "network policies are not in force: the kernel is tired"
            assert not [line for line in node.runtime.log if line.startswith("start")]
            await node.until(node.is_phase("Running"), 60)
            assert "Error: network policies are not in force: the kernel is tired" in node.events("Failed")

    node.clock.run(scenario())


def test_the_address_is_released_after_the_sandbox_is_gone(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        guard = node.guard = Guardian()
        guard.open.set()
        async with node.running() as kubelet:
            await node.create(pod())
            await node.until(node.is_phase("Running"))
            address = node.status()["podIP"]
            assert guard.told == ["settled", f"attach web {address}", f"isolate web {address}"]
            await node.api.delete(PODS, "web", "default", grace_seconds=0)
            await node.until(lambda: not kubelet.workers)
            assert guard.told[-1] == f"release {address}"

    node.clock.run(scenario())


def test_after_a_restart_the_guard_is_told_of_what_runs_before_anything_else(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        node.guard = Guardian()
        node.guard.open.set()
        async with node.running():
            for name in ("kept", "lost"):
                made = pod(name)
                await node.create(made)
                await node.until(node.is_phase("Running", name))
        await node.api.delete(PODS, "lost", "default", grace_seconds=0)
        guard = node.guard = Guardian()
        async with node.running():
            assert guard.told[:3] == [
                "found kept in default started",
                "found nobody in default started",
                "settled",
            ]

    node.clock.run(scenario())


def test_a_sandbox_whose_pod_was_not_isolated_when_the_kubelet_was_killed_is_isolated_first(
    node: Any, pod: Any
) -> None:
    async def scenario() -> None:
        node.guard = Guardian()
        async with node.running():
            await node.create(pod())
            await node.until(lambda: any("isolate" in line for line in node.guard.told))
        guard = node.guard = Guardian()
        async with node.running():
            await node.until(lambda: any("isolate" in line for line in guard.told))
            assert guard.told[:2] == ["found web in default new", "settled"]
            await node.clock.sleep(20)
            assert not [line for line in node.runtime.log if line.startswith("start")]
            guard.open.set()
            await node.until(node.is_phase("Running"))

    node.clock.run(scenario())
