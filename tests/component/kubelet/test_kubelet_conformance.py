"""What the suite asks of probes over time, on the virtual clock."""

from __future__ import annotations

from typing import Any

from tiphys.base.clock import parse_rfc3339
from tiphys.kubelet.probes.prober import Result


def http(**more: Any) -> dict[str, Any]:
    return {"httpGet": {"path": "/healthz", "port": 8080}, **more}


def test_restart_counts_only_grow(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod(containers=[{"livenessProbe": http(initialDelaySeconds=5, failureThreshold=1)}]))
            await node.until(node.is_phase("Running"))
            node.probes["main"] = Result(False, "HTTP probe failed with statuscode: 500")
            seen = [0]
            while seen[-1] < 5:
                await node.until(lambda: node.status(container="main")["restartCount"] != seen[-1], 600)
                seen.append(node.status(container="main")["restartCount"])
            assert seen == [0, 1, 2, 3, 4, 5]

    node.clock.run(scenario())


def test_nothing_is_ready_before_its_delay(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod(containers=[{"readinessProbe": http(initialDelaySeconds=30, periodSeconds=5)}]))
            await node.until(node.is_phase("Running"))
            await node.until(lambda: node.status(container="main")["ready"], 60)
            ready = next(one for one in node.status()["conditions"] if one["type"] == "Ready")
            started = parse_rfc3339(node.status(container="main")["state"]["running"]["startedAt"])
            assert 30 <= parse_rfc3339(ready["lastTransitionTime"]) - started <= 37
            assert node.status(container="main")["restartCount"] == 0

    node.clock.run(scenario())


def test_a_failing_readiness_probe_never_restarts_anything(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        node.probes["main"] = Result(False, "no")
        async with node.running():
            await node.create(pod(containers=[{"readinessProbe": {"exec": {"command": ["false"]}}}]))
            await node.until(node.is_phase("Running"))
            await node.clock.sleep(3600)
            found = node.status(container="main")
            assert (found["ready"], found["restartCount"]) == (False, 0)

    node.clock.run(scenario())


def test_what_took_long_to_start_is_ready_at_once(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        node.probes["main"] = Result(False, "not yet")
        startup = {"exec": {"command": ["up"]}, "periodSeconds": 5, "failureThreshold": 120}
        readiness = {"exec": {"command": ["ready"]}, "periodSeconds": 30}
        async with node.running():
            await node.create(pod(containers=[{"startupProbe": startup, "readinessProbe": readiness}]))
            await node.until(node.is_phase("Running"))
            await node.clock.sleep(62)
            node.probes["main"] = Result(True)
            await node.until(lambda: node.status(container="main")["started"], 6)
            assert await node.until(lambda: node.status(container="main")["ready"], 60) < 1

    node.clock.run(scenario())
