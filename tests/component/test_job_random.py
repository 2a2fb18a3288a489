"""A Job under random treatment: whatever users, nodes, the network and crashes do, every pod is counted once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest

from tiphys.base.errors import ApiError, ServiceUnavailable
from tiphys.base.identity import User
from tiphys.client.resources import JOBS, NODES, PODS
from tiphys.client.types import MERGE_PATCH, Client, Object
from tiphys.controllers import manager
from tiphys.controllers.job_indexes import parse_indexes
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import MANAGER, Cluster, background

NS = "default"
FINALIZER = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"
CONTROLLERS = "namespace,serviceaccount,job,podgc,garbagecollector"
STEPS = 60

KINDS: dict[str, dict[str, Any]] = {
    "plain": {"completions": 25},
    "replaced when failed": {"completions": 25, "podReplacementPolicy": "Failed"},
    "indexed": {"completions": 25, "completionMode": "Indexed"},
    "limited per index": {"completions": 25, "completionMode": "Indexed", "backoffLimitPerIndex": 1000},
}


def job(kind: str) -> dict[str, Any]:
    pod = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox"}]}
    limit = {} if "backoffLimitPerIndex" in KINDS[kind] else {"backoffLimit": 1_000_000}
    spec = {"parallelism": 3, "template": {"spec": pod}, **limit, **KINDS[kind]}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j", "namespace": NS}, "spec": spec}


def phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase"))


def deleting(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def tracked(pod: Object) -> bool:
    return FINALIZER in (pod["metadata"].get("finalizers") or ())


class Flaky:
    """A client of which some calls fail: before they reach the server, or only their answers are lost."""

    def __init__(self, client: Client, chance: random.Random) -> None:
        self._client, self._chance = client, chance

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def create(self, *args: Any, **options: Any) -> Object:
        return await self._maybe(self._client.create, *args, lost=False, **options)

    async def update(self, *args: Any, **options: Any) -> Object:
        return await self._maybe(self._client.update, *args, **options)

    async def patch(self, *args: Any, **options: Any) -> Object:
        return await self._maybe(self._client.patch, *args, **options)

    async def delete(self, *args: Any, **options: Any) -> Object:
        return await self._maybe(self._client.delete, *args, **options)

    async def _maybe(
        self, call: Callable[..., Awaitable[Object]], *args: Any, lost: bool = True, **options: Any
    ) -> Object:
        luck = self._chance.random()
        if luck < 0.05:
            raise ServiceUnavailable("not now")
        answer = await call(*args, **options)
        if lost and luck > 0.97:
            raise ConnectionResetError("the answer is lost")
        return answer


class Witness:
    """Sees every change of pods in the order in which it happened, and what breaks a rule."""

    def __init__(self, cluster: Cluster, kind: str) -> None:
        self._cluster, self._kind = cluster, kind
        self._pods: dict[str, Object] = {}
        self._let_go: dict[str, str] = {}
        """By uid, what a pod was when its finalizer went."""
        self.parallelism = [(0.0, 3)]
        self.completed: set[int] = set()
        self.seen = 0

    async def run(self) -> None:
        async for event in self._cluster.client.watch(PODS, NS):
            if event.type == "BOOKMARK":
                continue
            pod, uid = event.object, event.object["metadata"]["uid"]
            before = self._pods.get(uid)
            if before is not None and tracked(before) and (event.type == "DELETED" or not tracked(pod)):
                self._let_go[uid] = self._fate(before if event.type == "DELETED" else pod)
            if event.type == "ADDED":
                self._added(pod)
            if event.type == "DELETED":
                self._pods.pop(uid, None)
            else:
                self._pods[uid] = pod

    def counts(self) -> Counter[str]:
        return Counter(self._let_go.values())

    @property
    def held(self) -> int:
        return sum(map(tracked, self._pods.values()))

    def _fate(self, pod: Object) -> str:
        if not pod["metadata"].get("ownerReferences"):
            return "stranger"
        if phase(pod) in ("Succeeded", "Failed"):
            return phase(pod)
        waits = self._kind == "replaced when failed"
        return "Failed" if deleting(pod) and not waits else "discarded"

    def _added(self, pod: Object) -> None:
        self.seen += 1
        assert tracked(pod)
        alive = [each for each in self._pods.values() if phase(each) not in ("Succeeded", "Failed")]
        if self._kind != "replaced when failed":
            alive = [each for each in alive if not deleting(each)]
        allowed = self._allowed()
        assert len(alive) < allowed, f"{len(alive) + 1} pods at once, {allowed} allowed"
        index = pod["metadata"].get("annotations", {}).get(INDEX)
        if index is not None:
            assert index not in {each["metadata"]["annotations"][INDEX] for each in alive}, f"index {index} runs twice"
            assert int(index) not in self.completed, f"index {index} has succeeded before"

    def _allowed(self) -> int:
        """The most that was asked for within the last second."""
        recent = self._cluster.clock.monotonic() - 1
        before = [number for at, number in self.parallelism if at < recent]
        return max([*before[-1:], *(number for at, number in self.parallelism if at >= recent)])

    async def watch_job(self) -> None:
        """Completed indexes stay completed, counters do not go down."""
        last: dict[str, int] = {}
        async for event in self._cluster.client.watch(JOBS, NS):
            if event.type == "BOOKMARK":
                continue
            status = event.object.get("status") or {}
            indexes = parse_indexes(status.get("completedIndexes", ""), 1000)
            assert indexes >= self.completed
            self.completed = indexes
            counters = {name: status.get(name, 0) for name in ("succeeded", "failed")}
            assert all(counters[name] >= last.get(name, 0) for name in counters)
            last = counters
            listed = (status.get("uncountedTerminatedPods") or {}).values()
            flat = [uid for uids in listed for uid in uids]
            assert len(flat) == len(set(flat)) <= 500


class Managers:
    """The controllers' process, which may die at any time."""

    def __init__(self, cluster: Cluster, chance: random.Random) -> None:
        self._cluster, self._chance = cluster, chance
        self._stack = AsyncExitStack()

    async def restart(self) -> None:
        await self._stack.aclose()
        await self._stack.enter_async_context(background(self._run))

    async def stop(self) -> None:
        await self._stack.aclose()

    def _connect(self, user: User) -> Any:
        client = self._cluster.connect(user)
        return Flaky(client, self._chance) if user.name.endswith(":job-controller") else client

    async def _run(self) -> None:
        cluster = self._cluster
        config = manager.ManagerConfig(connect=self._connect)
        await manager.run(cluster.connect(MANAGER), cluster.clock, CONTROLLERS, config)


class Chaos:
    """What users, nodes and crashes do, by a seed."""

    def __init__(self, cluster: Cluster, managers: Managers, witness: Witness, seed: int) -> None:
        self._cluster, self._managers, self._witness = cluster, managers, witness
        self._random = random.Random(seed)

    async def step(self) -> None:
        act = self._random.choice([
            self._finish, self._finish, self._finish, self._delete_pod, self._delete_pod, self._scale, self._suspend,
            self._annotate, self._orphan, self._lose_node, self._fail_all,
        ])  # fmt: skip
        with suppress(ApiError):  # what it aimed at had changed
            await act()
        if self._random.random() < 0.3:
            for _ in range(self._random.randint(0, 60)):
                await asyncio.sleep(0)  # noqa: TID251 - dies somewhere in the middle of its work
            await self._managers.restart()
        await self._cluster.clock.sleep(self._random.choice([1, 1, 2, 5, 20]))

    async def patch(self, **spec: Any) -> None:
        await self._cluster.client.patch(JOBS, "j", {"spec": spec}, NS, type=MERGE_PATCH)

    async def pods(self) -> list[Object]:
        return [*(await self._cluster.client.list(PODS, NS)).items]

    async def _victim(self) -> Object:
        running = [pod for pod in await self.pods() if phase(pod) == "Running"]
        return self._random.choice(running or [{"metadata": {"name": "none", "uid": ""}}])

    async def _finish(self) -> None:
        victim = await self._victim()
        if "spec" in victim:
            await self._cluster.nodes.finish(victim, self._random.choice([0, 0, 1]))

    async def _fail_all(self) -> None:
        for pod in await self.pods():
            if phase(pod) == "Running" and not deleting(pod):
                await self._cluster.nodes.finish(pod, 1)

    async def _delete_pod(self) -> None:
        grace = self._random.choice([None, 0])
        await self._cluster.client.delete(PODS, (await self._victim())["metadata"]["name"], NS, grace_seconds=grace)

    async def _scale(self) -> None:
        number = self._random.randint(0, 5)
        self._witness.parallelism.append((self._cluster.clock.monotonic(), number))
        await self.patch(parallelism=number)

    async def _suspend(self) -> None:
        await self.patch(suspend=self._random.random() < 0.5)

    async def _annotate(self) -> None:
        await self._finish()
        for number in range(3):
            note = {"metadata": {"annotations": {"note": str(number)}}}
            await self._cluster.client.patch(JOBS, "j", note, NS, type=MERGE_PATCH)

    async def _orphan(self) -> None:
        name = (await self._victim())["metadata"]["name"]
        await self._cluster.client.patch(PODS, name, {"metadata": {"ownerReferences": None}}, NS, type=MERGE_PATCH)

    async def _lose_node(self) -> None:
        names = [node["metadata"]["name"] for node in (await self._cluster.client.list(NODES)).items]
        if len(names) > 1:
            await self._cluster.nodes.remove(self._random.choice(names))
        else:
            await self._cluster.nodes.add(f"node-{self._random.randint(100, 10**6)}")

    async def calm(self) -> Object:
        """Everything is well from now on: what the job is when it has come to its end."""
        self._witness.parallelism.append((self._cluster.clock.monotonic(), 5))
        self._cluster.nodes.outcome = lambda pod: 0
        await self.patch(parallelism=5, suspend=False)
        await self._cluster.nodes.add("last")
        for pod in await self.pods():
            if phase(pod) == "Running" and not deleting(pod):
                await self._cluster.nodes.finish(pod, 0)
        await self._cluster.clock.sleep(1500)
        return await self._cluster.client.get(JOBS, "j", NS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(2))
def test_whatever_happens_every_pod_is_counted_once(kind: str, seed: int) -> None:
    clock = VirtualClock()

    async def scenario() -> None:
        async with Cluster(clock, nodes=3, controllers="") as cluster:
            witness = Witness(cluster, kind)
            managers = Managers(cluster, random.Random(seed))
            async with background(witness.run), background(witness.watch_job):
                await managers.restart()
                await clock.sleep(1)
                await cluster.client.create(JOBS, job(kind))
                chaos = Chaos(cluster, managers, witness, seed)
                for _ in range(STEPS):
                    await chaos.step()
                done = await chaos.calm()
                at_rest(done, witness, kind)
                await managers.stop()

    try:
        clock.run(scenario())
    finally:
        clock.close()


def at_rest(done: Object, witness: Witness, kind: str) -> None:
    status, counts = done["status"], witness.counts()
    assert [each["type"] for each in status["conditions"]][-2:] == ["SuccessCriteriaMet", "Complete"]
    assert witness.held == 0, "a finalizer is left"
    assert status["uncountedTerminatedPods"] == {}
    assert (status.get("active", 0), status["terminating"], status["ready"]) == (0, 0, 0)
    assert status.get("failed", 0) == counts["Failed"]
    if "completionMode" in KINDS[kind]:
        assert (status["completedIndexes"], status["succeeded"]) == ("0-24", 25)
    else:
        assert status["succeeded"] == counts["Succeeded"] >= 25
    assert witness.seen > STEPS / 4
