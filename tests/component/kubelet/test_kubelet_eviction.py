"""A node that runs short of memory, disk or processes, on a machine of numbers."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from tiphys.kubelet.eviction.figures import ContainerFigures, PodFigures, Used
from tiphys.runtime import types as rt
from tiphys.testing.machine import GIB

MIB = 1 << 20
NODES = "nodes", "", "node-1"


def condition(node: Any, kind: str) -> dict[str, Any]:
    found = node.api.objects[NODES]["status"]["conditions"]
    return next(one for one in found if one["type"] == kind)


def of_pod(node: Any, name: str, kind: str) -> dict[str, Any]:
    return next(one for one in node.status(name)["conditions"] if one["type"] == kind)


def node_events(node: Any) -> list[tuple[str, str]]:
    return [
        (event["reason"], event["message"])
        for (plural, _, _), event in node.api.objects.items()
        if plural == "events" and event["involvedObject"]["kind"] == "Node"
    ]


def uses(memory: int) -> PodFigures:
    return PodFigures(memory=memory, containers={"main": ContainerFigures(memory)})


def test_memory_pressure_takes_one_pod_and_says_so(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod("hog"))
            await node.create(pod("modest"))
            await node.until(node.is_phase("Running", "hog"))
            await node.until(node.is_phase("Running", "modest"))
            node.machine.pods = {"hog": uses(900 * MIB), "modest": uses(10 * MIB)}
            node.machine.memory(50 * MIB)
            await node.until(lambda: condition(node, "MemoryPressure")["status"] == "True", 12)
            pressed = condition(node, "MemoryPressure")
            assert pressed["reason"] == "KubeletHasInsufficientMemory"
            assert pressed["message"] == "kubelet has insufficient memory available"
            await node.until(node.is_phase("Failed", "hog"), 20)
            node.machine.memory(2 * GIB)
            status = node.status("hog")
            assert status["reason"] == "Evicted"
            message = (
                "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
                "Container main was using 900Mi, request is 0, has larger consumption of memory. "
            )
            assert status["message"] == message
            disrupted = of_pod(node, "hog", "DisruptionTarget")
            assert (disrupted["status"], disrupted["reason"]) == ("True", "TerminationByKubelet")
            assert disrupted["message"] == message
            assert "stop main 2" in node.runtime.log
            await node.clock.sleep(60)
            assert node.status("modest")["phase"] == "Running"
            assert ("NodeHasInsufficientMemory", "Node node-1 status is now: NodeHasInsufficientMemory") in node_events(
                node
            )
            assert ("EvictionThresholdMet", "Attempting to reclaim memory") in node_events(node)
            event = next(one for one in node.api.objects.values() if one.get("reason") == "Evicted")
            assert event["metadata"]["annotations"] == {
                "offending_containers": "main",
                "offending_containers_usage": "900Mi",
                "starved_resource": "memory",
            }

    node.clock.run(scenario())


def test_the_condition_stays_for_the_transition_period(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            node.machine.memory(50 * MIB)
            await node.until(lambda: condition(node, "MemoryPressure")["status"] == "True", 12)
            node.machine.memory(4 * GIB)
            took = await node.until(lambda: condition(node, "MemoryPressure")["status"] == "False", 400)
            assert 280 <= took <= 311

    node.clock.run(scenario())


def test_pods_are_refused_under_pressure(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            node.machine.memory(50 * MIB)
            await node.until(lambda: condition(node, "MemoryPressure")["status"] == "True", 12)
            await node.create(pod("best"))
            await node.create(pod("burst", containers=[{"resources": {"requests": {"memory": "1Mi"}}}]))
            await node.until(node.is_phase("Failed", "best"))
            status = node.status("best")
            assert status["reason"] == "Evicted"
            assert status["message"] == "Pod was rejected: The node had condition: [MemoryPressure]. "
            node.machine.memory(4 * GIB)
            await node.until(node.is_phase("Running", "burst"))

    node.clock.run(scenario())


def test_a_soft_threshold_waits_and_grants_grace(node: Any, pod: Any) -> None:
    node.config = replace(
        node.config,
        eviction_soft={"memory.available": "1Gi"},
        eviction_soft_grace={"memory.available": "1m30s"},
        eviction_max_pod_grace=20,
    )

    async def scenario() -> None:
        async with node.running():
            await node.create(pod("web"))
            await node.until(node.is_phase("Running"))
            node.runtime.ignores_signals.add("main")
            node.machine.memory(500 * MIB)
            await node.until(lambda: condition(node, "MemoryPressure")["status"] == "True", 12)
            took = await node.until(lambda: "stop main 20" in node.runtime.log, 200)
            assert 80 <= took <= 101
            await node.until(node.is_phase("Failed"), 40)

    node.clock.run(scenario())


def test_critical_pods_stay_whatever_happens(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod("critical", priority=2_000_001_000))
            await node.until(node.is_phase("Running", "critical"))
            node.machine.memory(1)
            node.machine.pods = {"critical": uses(5 * GIB)}
            await node.clock.sleep(100)
            assert node.status("critical")["phase"] == "Running"

    node.clock.run(scenario())


def test_disk_pressure_removes_unused_images_before_any_pod(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        removed: list[str] = []

        async def remove(id: str) -> None:
            removed.append(id)
            node.runtime.images.shown.clear()
            node.machine.disk(50 * GIB)

        node.runtime.images.remove = remove
        node.runtime.images.shown.append(rt.Image("sha256:old", ("old:latest",), (), GIB, rt.ImageConfig()))
        async with node.running():
            await node.create(pod("web"))
            await node.until(node.is_phase("Running"))
            await node.clock.sleep(150)
            node.machine.disk(5 * GIB)
            await node.until(lambda: condition(node, "DiskPressure")["status"] == "True", 12)
            assert condition(node, "DiskPressure")["reason"] == "KubeletHasDiskPressure"
            await node.clock.sleep(60)
            assert removed == ["sha256:old"]
            assert node.status()["phase"] == "Running"

    node.clock.run(scenario())


def test_disk_pressure_takes_who_writes_most(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            for name in ("writes", "reads"):
                await node.create(pod(name))
                await node.until(node.is_phase("Running", name))
            container = ContainerFigures(0, Used(900 * MIB, 10), Used(100 * MIB, 2))
            node.machine.pods = {"writes": PodFigures(containers={"main": container})}
            node.machine.disk(5 * GIB)
            await node.until(node.is_phase("Failed", "writes"), 20)
            node.machine.disk(50 * GIB)
            assert node.status("writes")["message"] == (
                "The node was low on resource: ephemeral-storage. Threshold quantity: 10737418400, available: 5Gi. "
                "Container main was using 1000Mi, request is 0, has larger consumption of ephemeral-storage. "
            )
            await node.clock.sleep(30)
            assert node.status("reads")["phase"] == "Running"
            await node.create(pod("late"))
            await node.until(node.is_phase("Failed", "late"))
            assert node.status("late")["message"] == "Pod was rejected: The node had condition: [DiskPressure]. "

    node.clock.run(scenario())


def test_too_few_process_ids(node: Any, pod: Any) -> None:
    node.config = replace(node.config, eviction_hard={"pid.available": "1000"})

    async def scenario() -> None:
        async with node.running():
            for name in ("forks", "calm"):
                await node.create(pod(name))
                await node.until(node.is_phase("Running", name))
            node.machine.pods = {"forks": PodFigures(processes=5000), "calm": PodFigures(processes=3)}
            node.machine.processes(500)
            await node.until(node.is_phase("Failed", "forks"), 20)
            node.machine.processes(20_000)
            assert node.status("forks")["message"] == (
                "The node was low on resource: pids. Threshold quantity: 1k, available: 500. "
            )
            assert condition(node, "PIDPressure")["reason"] == "KubeletHasInsufficientPID"
            await node.clock.sleep(30)
            assert node.status("calm")["phase"] == "Running"

    node.clock.run(scenario())


def test_a_pod_that_fills_its_empty_dir_goes_alone(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod("fills", volumes=[{"name": "data", "emptyDir": {"sizeLimit": "10Mi"}}]))
            await node.create(pod("other"))
            await node.until(node.is_phase("Running", "fills"))
            await node.until(node.is_phase("Running", "other"))
            node.machine.pods = {"fills": PodFigures(volumes={"data": Used(11 * MIB, 1)})}
            await node.until(node.is_phase("Failed", "fills"), 20)
            status = node.status("fills")
            assert (status["reason"], status["message"]) == (
                "Evicted",
                'Usage of EmptyDir volume "data" exceeds the limit "10Mi". ',
            )
            assert not [one for one in status["conditions"] if one["type"] == "DisruptionTarget"]
            assert condition(node, "DiskPressure")["status"] == "False"
            assert node.status("other")["phase"] == "Running"
            assert ("other", True) not in node.machine.measured

    node.clock.run(scenario())


def test_pods_without_limits_are_not_measured_while_all_is_well(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod("web"))
            await node.until(node.is_phase("Running"))
            looks = node.machine.looks
            await node.clock.sleep(3600)
            assert node.machine.measured == []
            assert node.machine.looks - looks <= 361

    node.clock.run(scenario())


def test_an_eviction_goes_on_after_a_restart(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        node.runtime.ignores_signals.add("main")
        async with node.running():
            await node.create(pod("web"))
            await node.until(node.is_phase("Running"))
            node.machine.memory(50 * MIB)
            await node.until(lambda: any(line.startswith("stop main") for line in node.runtime.log), 20)
        async with node.running():
            await node.until(node.is_phase("Failed"), 60)
            assert node.status()["reason"] == "Evicted"

    node.clock.run(scenario())


def test_several_limits_are_seen_to_in_one_go(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            names = [f"pod-{number}" for number in range(5)]
            for name in names:
                await node.create(pod(name, volumes=[{"name": "data", "emptyDir": {"sizeLimit": "1Mi"}}]))
                await node.until(node.is_phase("Running", name))
            node.machine.pods = {name: PodFigures(volumes={"data": Used(2 * MIB, 1)}) for name in names}
            took = await node.until(lambda: all(node.status(name)["phase"] == "Failed" for name in names), 60)
            assert took <= 14

    node.clock.run(scenario())


def test_a_look_that_goes_wrong_does_not_end_the_node(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            works = node.machine.node

            async def broken() -> Any:
                raise ValueError("what is this")

            node.machine.node = broken
            await node.clock.sleep(60)
            node.machine.node = works
            node.machine.memory(50 * MIB)
            await node.until(lambda: condition(node, "MemoryPressure")["status"] == "True", 12)

    node.clock.run(scenario())


def test_whatever_happens_only_what_must_go_goes(node: Any, pod: Any) -> None:
    """Memory comes and goes at random: critical pods stay, nobody goes while there is enough, one at a time goes."""
    chance = random.Random(7)

    async def scenario() -> None:
        async with node.running():
            names = [f"pod-{number}" for number in range(12)]
            for number, name in enumerate(names):
                await node.create(pod(name, priority=2_000_000_000 if number % 4 == 0 else number))
                await node.until(node.is_phase("Running", name))
                node.machine.pods[name] = uses(chance.randrange(1, 500) * MIB)

            def alive() -> set[str]:
                return {name for name in names if node.status(name)["phase"] == "Running"}

            for _ in range(60):
                before, short = alive(), chance.random() < 0.4
                node.machine.memory(chance.randrange(1, 99) * MIB if short else 4 * GIB)
                await node.clock.sleep(10 if short else 25)
                gone = before - alive()
                assert len(gone) <= 2
                if not short and gone:  # ended by what was decided just before
                    assert len(gone) == 1
            node.machine.memory(4 * GIB)
            await node.clock.sleep(60)
            left = alive()
            await node.clock.sleep(600)
            assert alive() == left
            assert {names[0], names[4], names[8]} <= left

    node.clock.run(scenario())
