"""A day of pods that come and go on one node: nothing of those that are gone stays in the kubelet; and what each
one's statuses cost."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Iterator, Mapping, Set
from typing import Any

from tiphys.client.resources import PODS
from tiphys.kubelet.app import COLLECTED_AT_ONCE
from tiphys.kubelet.status_manager import GATHER
from tiphys.kubelet.worker import PodWorker

DAY = 24 * 3600.0
ROUND = 2700.0


def status_patches(node: Any, name: str = "web") -> list[Any]:
    found = [entry for entry in node.api.log if entry[:2] == ("patch", f"pods/{name}")]
    return [entry[2]["status"] for entry in found if "status" in entry[2]]


def test_a_pod_on_its_way_to_run_costs_one_status(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod())
            await node.until(node.is_phase("Running"))
            assert [patch["phase"] for patch in status_patches(node)] == ["Running"]

    node.clock.run(scenario())


def test_a_pod_that_waits_says_so_in_a_moment(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        node.runtime.images.missing.add("busybox")
        async with node.running():
            await node.create(pod(containers=[{"imagePullPolicy": "Never"}]))
            await node.clock.sleep(GATHER + 0.05)
            assert node.status(container="main")["state"]["waiting"]["reason"] == "ErrImageNeverPull"

    node.clock.run(scenario())


def test_what_matters_is_not_held(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod(restartPolicy="Never"))
            await node.until(node.is_phase("Running"))
            before = node.clock.time()
            node.runtime.exit("main", 3)
            await node.until(node.is_phase("Failed"))
            assert node.clock.time() - before < GATHER

    node.clock.run(scenario())


def test_finished_pods_do_not_wait_for_a_collection_of_garbage(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            for number in range(2 * COLLECTED_AT_ONCE):
                made = pod()
                made["metadata"] |= {"name": f"web-{number}", "uid": f"uid-{number}"}
                await node.create(made)
                await node.until(node.is_phase("Running", f"web-{number}"))
                await node.api.delete(PODS, f"web-{number}", "default", grace_seconds=0)
            await node.until(lambda: not node.kubelet.workers)
            assert sum(isinstance(one, PodWorker) for one in gc.get_objects()) < COLLECTED_AT_ONCE

    gc.collect()
    gc.disable()
    try:
        node.clock.run(scenario())
    finally:
        gc.enable()


def sizes(root: object) -> dict[str, int]:
    """How much each collection holds that can be reached from `root` through the kubelet's own objects, by its path."""
    found: dict[str, int] = {}
    seen: set[int] = set()
    waiting: list[tuple[str, object]] = [("kubelet", root)]
    while waiting:
        path, value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Mapping | Set | list):
            found[path] = len(value)
        elif type(value).__module__.startswith("tiphys."):
            waiting += [(f"{path}.{name}", inner) for name, inner in fields(value)]
    return found


def fields(value: object) -> Iterator[tuple[str, object]]:
    yield from getattr(value, "__dict__", {}).items()
    for kind in type(value).__mro__:
        for name in getattr(kind, "__slots__", ()):
            if hasattr(value, name):
                yield name, getattr(value, name)


class Churn:
    """Pods of all kinds: they end well or badly, crash, cannot be pulled, are deleted early, have probes, volumes."""

    def __init__(self, node: Any, pod: Any) -> None:
        self._node, self._pod = node, pod
        self._random = random.Random(4)
        self._count = 0

    async def round(self) -> None:
        """Some pods' lives, side by side; afterwards nothing is left of them."""
        node, names = self._node, []
        for _ in range(self._random.randrange(1, 4)):
            names += [await self._create()]
        await node.clock.sleep(self._random.uniform(0.0, 30.0))
        for _ in range(self._random.randrange(1, 3)):
            running = [run for run in node.runtime.runs.values() if run.state.value == "running"]
            if running:
                run = self._random.choice(running)
                node.runtime._ended(run.spec.id, self._random.choice((0, 1, 137)))
            await node.clock.sleep(self._random.uniform(0.0, 15.0))
        for name in names:
            grace = self._random.choice((None, 0, 1))
            await node.api.delete(PODS, name, "default", grace_seconds=grace)
        await node.clock.sleep(ROUND)
        assert all(node.gone(name) for name in names)

    async def _create(self) -> str:
        self._count += 1
        name = f"web-{self._count}"
        probe = {"exec": {"command": ["true"]}, "periodSeconds": 5}
        container: dict[str, Any] = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
        if self._random.random() < 0.5:
            container |= {"livenessProbe": probe, "readinessProbe": probe}
        if self._random.random() < 0.2:
            container["image"] = "nope"
        volume: dict[str, Any] = self._random.choice(({"emptyDir": {}}, {"configMap": {"name": "c", "optional": True}}))
        policy = self._random.choice(("Always", "Never", "OnFailure"))
        made = self._pod(name, restartPolicy=policy, volumes=[{"name": "v", **volume}], containers=[container])
        await self._node.create(made)
        return name


def test_a_day_of_churn_leaves_nothing_behind(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        node.runtime.images.missing.add("nope")
        node.runtime.images.broken["nope"] = "not found"
        async with node.running() as kubelet:
            churn = Churn(node, pod)
            for _ in range(10):
                await churn.round()
            before, tasks = measure(node, kubelet)
            end = node.clock.time() + DAY
            while node.clock.time() < end:
                await churn.round()
            after, tasks_after = measure(node, kubelet)
            grown = {path: (before.get(path, 0), size) for path, size in after.items() if size > before.get(path, 0)}
            assert {path: pair for path, pair in grown.items() if not bounded(path)} == {}
            assert tasks_after <= tasks
            assert (node.runtime.boxes, node.runtime.runs, kubelet.workers) == ({}, {}, {})
            assert list((node.root / "kubelet" / "pods").iterdir()) == []
            assert list((node.root / "log/pods").iterdir()) == []

    node.clock.run(scenario())


def measure(node: Any, kubelet: Any) -> tuple[dict[str, int], int]:
    node.api.log.clear()
    node.runtime.log.clear()
    gc.collect()
    return sizes(kubelet), len(asyncio.all_tasks())


def bounded(path: str) -> bool:
    """What remembers on purpose, up to a limit of its own: events that were written, and the fakes' own books."""
    return (
        "_correlator." in path or "._cgroups." in path or ".api." in path or ".runtime." in path or ".client." in path
    )
