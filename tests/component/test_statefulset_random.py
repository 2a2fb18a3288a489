"""A StatefulSet under random treatment: whatever users and nodes do, its rules hold, and it comes to rest."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest

from tiphys.base.errors import ApiError
from tiphys.client.resources import CONTROLLER_REVISIONS, PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS
from tiphys.client.types import MERGE_PATCH, Object
from tiphys.controllers import manager
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import MANAGER, Cluster, background

NS = "default"
LABELS = {"app": "db"}
CONTROLLERS = "namespace,serviceaccount,statefulset,garbagecollector"
STEPS = 120


def stateful_set(policy: str) -> dict[str, Any]:
    request = {"requests": {"storage": "1Gi"}}
    claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": request}}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "db", "namespace": NS},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": LABELS},
            "template": template("db:0"),
            "volumeClaimTemplates": [claim],
            "podManagementPolicy": policy,
            "revisionHistoryLimit": 2,
        },
    }


def template(image: str) -> dict[str, Any]:
    return {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "c", "image": image}]}}


def ordinal(pod: Object) -> int:
    return int(pod["metadata"]["name"].rpartition("-")[2])


def condition(pod: Object) -> bool:
    found = (pod.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in found)


class Witness:
    """Sees every change of pods in the order in which it happened, and what breaks a rule."""

    def __init__(self, cluster: Cluster, *, ordered: bool) -> None:
        self._cluster = cluster
        self._ordered = ordered
        self._pods: dict[str, Object] = {}
        self.start = 0
        self.seen = 0

    async def run(self) -> None:
        async for event in self._cluster.client.watch(PODS, NS):
            if event.type == "BOOKMARK":
                continue
            name = event.object["metadata"]["name"]
            if event.type == "ADDED":
                self._added(event.object)
            if event.type == "DELETED":
                self._pods.pop(name, None)
            else:
                self._pods[name] = event.object

    def _added(self, pod: Object) -> None:
        self.seen += 1
        assert pod["metadata"]["name"] not in self._pods, "a name was given twice"
        assert pod["spec"]["hostname"] == pod["metadata"]["name"]
        claim = f"data-{pod['metadata']['name']}"
        assert pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim
        if self._ordered:
            before = {f"db-{number}" for number in range(self.start, ordinal(pod))}
            assert before <= self._pods.keys(), f"{pod['metadata']['name']} came before a lower one"
            fresh = [each for each in self._pods.values() if (each.get("status") or {}).get("phase") == "Pending"]
            assert not fresh, "two pods were started at once"


class Managers:
    """The controllers' process, which may die at any time."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._stack = AsyncExitStack()

    async def restart(self) -> None:
        await self._stack.aclose()
        await self._stack.enter_async_context(background(self._run))

    async def stop(self) -> None:
        await self._stack.aclose()

    async def _run(self) -> None:
        cluster = self._cluster
        config = manager.ManagerConfig(connect=cluster.connect)
        await manager.run(cluster.connect(MANAGER), cluster.clock, CONTROLLERS, config)


class Chaos:
    """What users and nodes do, by a seed."""

    def __init__(self, cluster: Cluster, managers: Managers, seed: int) -> None:
        self._cluster = cluster
        self._managers = managers
        self._random = random.Random(seed)
        self._image = 0

    async def step(self) -> None:
        act = self._random.choice([
            self._scale, self._delete_pod, self._fail_pod, self._roll, self._partition, self._flicker, self._meddle,
            self._lose_revision, self._restart,
        ])  # fmt: skip
        with suppress(ApiError):  # what it aimed at had changed
            await act()
        await self._cluster.clock.sleep(self._random.choice([1, 1, 2, 5, 20]))

    async def patch(self, **spec: Any) -> None:
        await self._cluster.client.patch(STATEFUL_SETS, "db", {"spec": spec}, NS, type=MERGE_PATCH)

    async def pods(self) -> list[Object]:
        return list((await self._cluster.client.list(PODS, NS)).items)

    async def set_ready(self, pod: Object, ready: bool) -> None:
        conditions = [
            {**each, "status": str(ready)} if "Ready" in each["type"] else each
            for each in pod["status"].get("conditions") or ()
        ]
        status = {**pod["status"], "conditions": conditions}
        await self._cluster.client.update(PODS, {**pod, "status": status}, subresource="status")

    async def _victim(self) -> Object:
        return self._random.choice(await self.pods() or [{"metadata": {"name": "none"}, "status": {}}])

    async def _scale(self) -> None:
        await self.patch(replicas=self._random.randint(0, 5))

    async def _delete_pod(self) -> None:
        grace = self._random.choice([None, 0])
        await self._cluster.client.delete(PODS, (await self._victim())["metadata"]["name"], NS, grace_seconds=grace)

    async def _fail_pod(self) -> None:
        victim = await self._victim()
        if "spec" in victim:
            await self._cluster.nodes.finish(victim, self._random.choice([0, 1]))

    async def _roll(self) -> None:
        self._image = self._random.choice([self._image + 1, max(0, self._image - 1)])
        await self.patch(template=template(f"db:{self._image}"))

    async def _partition(self) -> None:
        rolling = {"partition": self._random.randint(0, 4)}
        await self.patch(updateStrategy={"type": "RollingUpdate", "rollingUpdate": rolling})

    async def _flicker(self) -> None:
        victim = await self._victim()
        if victim["status"].get("phase") == "Running":
            await self.set_ready(victim, self._random.random() < 0.5)

    async def _meddle(self) -> None:
        name = (await self._victim())["metadata"]["name"]
        label = self._random.choice(["statefulset.kubernetes.io/pod-name", "extra"])
        await self._cluster.client.patch(PODS, name, {"metadata": {"labels": {label: None}}}, NS, type=MERGE_PATCH)

    async def _lose_revision(self) -> None:
        revisions = (await self._cluster.client.list(CONTROLLER_REVISIONS, NS)).items
        if revisions and self._random.random() < 0.2:
            lost = self._random.choice(revisions)["metadata"]["name"]
            await self._cluster.client.delete(CONTROLLER_REVISIONS, lost, NS)

    async def _restart(self) -> None:
        await self._managers.restart()

    async def calm(self) -> Object:
        """Everything is well from now on: what the set is when it has come to rest."""
        await self.patch(updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}, replicas=3)
        for _ in range(60):
            for pod in await self.pods():
                if (pod.get("status") or {}).get("phase") == "Running" and not condition(pod):
                    with suppress(ApiError):
                        await self.set_ready(pod, True)
            await self._cluster.clock.sleep(10)
        return await self._cluster.client.get(STATEFUL_SETS, "db", NS)


@pytest.mark.parametrize("policy", ["OrderedReady", "Parallel"])
@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_the_rules_hold_and_it_comes_to_rest(policy: str, seed: int) -> None:
    clock = VirtualClock()

    async def scenario() -> None:
        async with Cluster(clock, nodes=3, controllers="") as cluster:
            witness, managers = Witness(cluster, ordered=policy == "OrderedReady"), Managers(cluster)
            async with background(witness.run):
                await managers.restart()
                await clock.sleep(1)
                await cluster.client.create(STATEFUL_SETS, stateful_set(policy))
                chaos = Chaos(cluster, managers, seed)
                for _ in range(STEPS):
                    await chaos.step()
                done = await chaos.calm()
                await at_rest(cluster, done, await chaos.pods())
                assert witness.seen > STEPS / 8
                await managers.stop()

    try:
        clock.run(scenario())
    finally:
        clock.close()


async def at_rest(cluster: Cluster, done: Object, pods: list[Object]) -> None:
    assert sorted(pod["metadata"]["name"] for pod in pods) == ["db-0", "db-1", "db-2"]
    status, image = done["status"], done["spec"]["template"]["spec"]["containers"][0]["image"]
    assert {pod["spec"]["containers"][0]["image"] for pod in pods} == {image}
    update = status["updateRevision"]
    assert {pod["metadata"]["labels"]["controller-revision-hash"] for pod in pods} == {update}
    assert status["currentRevision"] == update
    counts = ("replicas", "readyReplicas", "availableReplicas", "currentReplicas", "updatedReplicas")
    assert {status[count] for count in counts} == {3}
    revisions = (await cluster.client.list(CONTROLLER_REVISIONS, NS)).items
    assert len(revisions) <= 3
    claims = {each["metadata"]["name"] for each in (await cluster.client.list(PERSISTENT_VOLUME_CLAIMS, NS)).items}
    assert {"data-db-0", "data-db-1", "data-db-2"} <= claims
    await cluster.clock.sleep(600)
    again = await cluster.client.get(STATEFUL_SETS, "db", NS)
    assert again["metadata"]["resourceVersion"] == done["metadata"]["resourceVersion"], "it writes though at rest"
