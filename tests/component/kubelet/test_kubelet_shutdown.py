"""A node that is about to go down ends its pods in order."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

from tiphys.kubelet.shutdown.manager import last_shutdown


def ready(node: Any) -> dict[str, Any]:
    found = node.api.objects["nodes", "", "node-1"]["status"]["conditions"]
    return next(one for one in found if one["type"] == "Ready")


def node_events(node: Any, reason: str) -> list[str]:
    return [
        event["message"]
        for (plural, _, _), event in node.api.objects.items()
        if plural == "events" and event["reason"] == reason
    ]


def begin(kubelet: Any) -> Awaitable[None]:
    import asyncio

    return asyncio.get_running_loop().create_task(kubelet.duties.shutdown.shut_down())


def test_pods_end_by_priority_and_say_why(node: Any, pod: Any) -> None:
    node.config = replace(node.config, shutdown_grace=30.0, shutdown_grace_critical=10.0)

    async def scenario() -> None:
        async with node.running() as kubelet:
            await node.create(pod("plain", containers=[{"name": "plain"}]))
            await node.create(pod("critical", priority=2_000_000_000, containers=[{"name": "critical"}]))
            await node.until(node.is_phase("Running", "plain"))
            await node.until(node.is_phase("Running", "critical"))
            node.runtime.ignores_signals |= {"plain", "critical"}
            started = node.clock.monotonic()
            done = begin(kubelet)
            await node.until(lambda: ready(node)["status"] == "False", 2)
            assert (ready(node)["reason"], ready(node)["message"]) == ("KubeletNotReady", "node is shutting down")
            await done
            assert 29 <= node.clock.monotonic() - started <= 31
            await node.until(node.is_phase("Failed", "plain"))
            await node.until(node.is_phase("Failed", "critical"))
            status = node.status("plain")
            message = "Pod was terminated in response to imminent node shutdown."
            assert (status["reason"], status["message"]) == ("Terminated", message)
            disrupted = next(one for one in status["conditions"] if one["type"] == "DisruptionTarget")
            assert (disrupted["reason"], disrupted["message"]) == ("TerminationByKubelet", message)
            stops = [line for line in node.runtime.log if line.startswith("stop")]
            assert stops == ["stop plain 20", "stop critical 10"]
            assert node_events(node, "NodeShutdown") == ["Shutdown manager detected shutdown event"]
            assert all(last_shutdown(node.config.root_dir))
            await node.until(lambda: not node.runtime.boxes)

    node.clock.run(scenario())


def test_no_pod_is_admitted_any_more_until_the_shutdown_is_called_off(node: Any, pod: Any) -> None:
    node.config = replace(node.config, shutdown_grace=30.0)

    async def scenario() -> None:
        async with node.running() as kubelet:
            await begin(kubelet)
            await node.create(pod("late"))
            await node.until(node.is_phase("Failed", "late"))
            status = node.status("late")
            assert status["reason"] == "NodeShutdown"
            assert status["message"] == "Pod was rejected: Pod was rejected as the node is shutting down."
            kubelet.duties.shutdown.cancel()
            await node.until(lambda: ready(node)["status"] == "True", 2)
            await node.create(pod("again"))
            await node.until(node.is_phase("Running", "again"))
            assert node_events(node, "NodeShutdown")[-1] == "Shutdown manager detected shutdown cancellation"

    node.clock.run(scenario())


def test_a_group_that_ends_early_is_not_waited_for(node: Any, pod: Any) -> None:
    node.config = replace(node.config, shutdown_grace_by_priority=((0, 600), (1000, 300), (5000, 100)))

    async def scenario() -> None:
        async with node.running() as kubelet:
            for name, priority in (("low", 0), ("high", 9000)):
                await node.create(pod(name, priority=priority))
                await node.until(node.is_phase("Running", name))
            started = node.clock.monotonic()
            await begin(kubelet)
            assert node.clock.monotonic() - started < 1
            await node.until(node.is_phase("Failed", "low"))
            await node.until(node.is_phase("Failed", "high"))

    node.clock.run(scenario())


def test_without_a_period_a_shutdown_is_nobodys_business(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running() as kubelet:
            await node.create(pod())
            await node.until(node.is_phase("Running"))
            await begin(kubelet)
            await node.clock.sleep(30)
            assert node.status()["phase"] == "Running"
            assert ready(node)["status"] == "True"

    node.clock.run(scenario())
