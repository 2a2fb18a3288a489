"""Random evictions, failures and restarts against budgets: what a budget guards is never taken by an eviction."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from tiphys.base.errors import ApiError, Conflict, NotFound, TooManyRequests
from tiphys.client.resources import DEPLOYMENTS, POD_DISRUPTION_BUDGETS, PODS
from tiphys.client.streams import closing
from tiphys.client.types import MERGE_PATCH, Object
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

NS = "default"
LABELS = {"app": "web"}
CONTROLLERS = "namespace,serviceaccount,replicaset,deployment"


def deployment(replicas: int) -> dict[str, Any]:
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": LABELS}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": NS}, "spec": spec}


def budget(**spec: Any) -> dict[str, Any]:
    meta = {"name": "web", "namespace": NS}
    spec = {"selector": {"matchLabels": LABELS}, **spec}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta, "spec": spec}


def stands(pod: Object) -> bool:
    """Whether it is ready and not on its way out."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


class Watcher:
    """Follows the pods in the order of their writes, and looks at every eviction as it happens.

    Accidents are no eviction's fault: until all pods stand again, as many fewer need to."""

    def __init__(self, cluster: Cluster, replicas: int, least: int) -> None:
        self._cluster, self._replicas, self._least = cluster, replicas, least
        self._standing: set[str] = set()
        self._accidents = 0
        self.evicted = 0
        self.overruns: list[tuple[str, int]] = []

    async def run(self) -> None:
        async with closing(self._cluster.client.watch(PODS, NS)) as events:
            async for event in events:
                if event.type != "BOOKMARK":
                    self._see(event.object, gone=event.type == "DELETED")

    def _see(self, pod: Object, *, gone: bool) -> None:
        name = pod["metadata"]["name"]
        stood = name in self._standing
        if stands(pod) and not gone:
            self._standing.add(name)
            if len(self._standing) >= self._replicas:
                self._accidents = 0
            return
        self._standing.discard(name)
        reasons = {each.get("reason") for each in pod["status"].get("conditions") or ()}
        if stood and "deletionTimestamp" not in pod["metadata"]:
            self._accidents += 1
        elif stood and "EvictionByEvictionAPI" in reasons:
            self.evicted += 1
            if len(self._standing) < self._least - self._accidents:
                self.overruns.append((name, len(self._standing)))


async def evict(cluster: Cluster, random: Random, name: str) -> None:
    await cluster.clock.sleep(random.choice((0.0, 0.0, 0.01, 0.3)))
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": NS}}
    try:
        await cluster.client.create(PODS, body, NS, name=name, subresource="eviction")
    except (TooManyRequests, NotFound, Conflict):
        return


async def fail(cluster: Cluster, name: str) -> None:
    """The pod is not ready any more, which no budget can forbid."""
    pod = await cluster.client.get(PODS, name, NS)
    conditions = [{**each, "status": "False"} for each in pod["status"].get("conditions") or ()]
    try:
        await cluster.client.update(
            PODS, {**pod, "status": {**pod["status"], "conditions": conditions}}, subresource="status"
        )
    except ApiError:
        return


async def storm(cluster: Cluster, random: Random, rounds: int) -> None:
    """Users, drains and accidents, many at once."""
    for _ in range(rounds):
        pods = [pod["metadata"]["name"] for pod in (await cluster.client.list(PODS, NS)).items]
        async with asyncio.TaskGroup() as tasks:
            for name in random.sample(pods, random.randint(0, len(pods))):
                tasks.create_task(evict(cluster, random, name))
                if random.random() < 0.2:
                    tasks.create_task(evict(cluster, random, name))
            if pods and random.random() < 0.15:
                tasks.create_task(fail(cluster, random.choice(pods)))
            if random.random() < 0.1:
                patch = {"metadata": {"annotations": {"touched": str(random.random())}}}
                tasks.create_task(cluster.client.patch(POD_DISRUPTION_BUDGETS, "web", patch, NS, type=MERGE_PATCH))
        await cluster.clock.sleep(random.choice((0.0, 0.05, 0.5, 3.0, 31.0)))


@pytest.mark.parametrize("seed", range(6))
def test_evictions_never_take_what_a_budget_guards(seed: int) -> None:
    clock = VirtualClock()
    random = Random(seed)
    replicas = random.randint(4, 14)
    budgets: list[tuple[dict[str, Any], int]] = [
        ({"minAvailable": replicas - 2}, replicas - 2),
        ({"maxUnavailable": 1}, replicas - 1),
        ({"maxUnavailable": "30%"}, replicas - -(-replicas * 3 // 10)),
        ({"minAvailable": "50%"}, -(-replicas // 2)),
    ]
    spec, least = random.choice(budgets)

    async def main() -> None:
        async with Cluster(clock, nodes=3, controllers=CONTROLLERS) as cluster:
            await cluster.client.create(DEPLOYMENTS, deployment(replicas))
            await cluster.client.create(POD_DISRUPTION_BUDGETS, budget(**spec))
            watcher = Watcher(cluster, replicas, least)
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(watcher.run())
                await cluster.clock.sleep(2)
                for _ in range(2):
                    async with cluster.managing("disruption"):
                        await storm(cluster, random, 8)
                    await storm(cluster, random, 2)
                watching.cancel()
            assert not watcher.overruns
            assert watcher.evicted > 0

    try:
        clock.run(main())
    finally:
        clock.close()
