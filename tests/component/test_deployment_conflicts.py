"""Deployments whose controller is interrupted: writes that are refused, caches that are behind, restarts."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from tiphys.base.errors import Conflict
from tiphys.base.identity import User
from tiphys.client.calls import Call
from tiphys.client.local import LocalClient
from tiphys.client.resources import DEPLOYMENTS, EVENTS, REPLICA_SETS
from tiphys.client.types import MERGE_PATCH, Object
from tiphys.controllers import manager
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import MANAGER, Cluster, background

NS = "default"
LABELS = {"app": "web"}


def deployment(**spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "c", "image": "nginx:1"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": NS},
        "spec": {"replicas": 4, "selector": {"matchLabels": LABELS}, "template": template, **spec},
    }


class Refusing(LocalClient):
    """Refuses the next writes of ReplicaSets as out of date."""

    refusals = 0

    async def exchange(self, call: Call) -> Any:
        if call.method == "PUT" and "/replicasets/" in call.path and Refusing.refusals:
            Refusing.refusals -= 1
            raise Conflict("the object has been modified")
        return await super().exchange(call)


def play(scenario: Callable[[Cluster], Coroutine[Any, Any, None]]) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, controllers="namespace,serviceaccount,replicaset,garbagecollector") as cluster:
            await scenario(cluster)

    try:
        clock.run(main())
    finally:
        clock.close()


def deployments(cluster: Cluster) -> Callable[[], Coroutine[None, None, None]]:
    """Runs the controller on a client that refuses on demand."""

    def connect(user: User) -> Refusing:
        return Refusing(cluster.server.handler, user, agent="deployment-controller")

    def run() -> Coroutine[None, None, None]:
        config = manager.ManagerConfig(connect=connect)
        return manager.run(cluster.connect(MANAGER), cluster.clock, "deployment", config)

    return run


def complete(obj: Object) -> bool:
    status = obj.get("status") or {}
    counts = {status.get(field, 0) for field in ("replicas", "updatedReplicas", "availableReplicas")}
    return counts == {obj["spec"]["replicas"]} and status["observedGeneration"] == obj["metadata"]["generation"]


async def set_image(cluster: Cluster, image: str) -> None:
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}}
    await cluster.client.patch(DEPLOYMENTS, "web", patch, NS, type=MERGE_PATCH)


def reason(name: str) -> Callable[[Object], bool]:
    return lambda obj: any(each["reason"] == name for each in (obj.get("status") or {}).get("conditions") or ())


def test_the_deadline_runs_though_the_step_after_the_new_replica_set_was_refused() -> None:
    async def scenario(cluster: Cluster) -> None:
        async with background(deployments(cluster)):
            bounds = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
            await cluster.client.create(DEPLOYMENTS, deployment(progressDeadlineSeconds=30, strategy=bounds))
            await cluster.wait(DEPLOYMENTS, NS, "web", complete)
            Refusing.refusals = 1_000_000
            await set_image(cluster, "nginx:2")
            await cluster.wait(DEPLOYMENTS, NS, "web", reason("NewReplicaSetCreated"), timeout=10)
            await cluster.wait(DEPLOYMENTS, NS, "web", reason("ProgressDeadlineExceeded"), timeout=120)
            Refusing.refusals = 0
            await cluster.wait(DEPLOYMENTS, NS, "web", complete)

    play(scenario)


def test_each_change_of_size_is_told_once_however_often_it_was_refused() -> None:
    async def scenario(cluster: Cluster) -> None:
        async with background(deployments(cluster)):
            await cluster.client.create(DEPLOYMENTS, deployment())
            await cluster.wait(DEPLOYMENTS, NS, "web", complete)
            for number in (2, 3):
                Refusing.refusals = number
                await set_image(cluster, f"nginx:{number}")
                await cluster.wait(DEPLOYMENTS, NS, "web", complete)
                Refusing.refusals = 0
            sets = (await cluster.client.list(REPLICA_SETS, NS)).items
            assert sorted(each["spec"]["replicas"] for each in sets) == [0, 0, 4]
            events = (await cluster.client.list(EVENTS, NS)).items
            changes = sum(each["count"] for each in events if each["reason"] == "ScalingReplicaSet")
            assert changes == sum(each["metadata"]["generation"] - 1 for each in sets) + len(sets)

    play(scenario)


def test_a_rollout_goes_on_under_the_next_controller() -> None:
    async def scenario(cluster: Cluster) -> None:
        async with background(deployments(cluster)):
            await cluster.client.create(DEPLOYMENTS, deployment(minReadySeconds=5))
            await cluster.wait(DEPLOYMENTS, NS, "web", complete)
        for seconds in (0, 3, 6):
            await set_image(cluster, f"nginx:{seconds}-later")
            async with background(deployments(cluster)):
                await cluster.clock.sleep(seconds)
        async with background(deployments(cluster)):
            done = await cluster.wait(DEPLOYMENTS, NS, "web", complete)
            assert done["spec"]["template"]["spec"]["containers"][0]["image"] == "nginx:6-later"
            owners = [
                (each["metadata"]["ownerReferences"][0]["uid"], each["spec"]["replicas"])
                for each in (await cluster.client.list(REPLICA_SETS, NS)).items
            ]
            assert sorted(size for _, size in owners)[-1] == 4
            assert {owner for owner, _ in owners} == {done["metadata"]["uid"]}

    play(scenario)
