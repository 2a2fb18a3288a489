"""Controllers whose caches are behind, whose connections break, or whose answers are lost. What random treatment
(tests/component/random) found, each as short as it can be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any

import pytest

from tiphys.base.identity import User
from tiphys.client.calls import Call, CallingClient
from tiphys.client.local import LocalClient
from tiphys.client.resources import (
    DEPLOYMENTS,
    JOBS,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    REPLICA_SETS,
    STATEFUL_SETS,
)
from tiphys.client.types import MERGE_PATCH, Client
from tiphys.controllers import manager
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import MANAGER, Cluster, background

NS = "default"
LABELS = {"app": "web"}


class Line:
    """Between controllers and the API server: watches of `late` resources are held back; `trouble` may raise."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._moves = asyncio.Condition()
        self.late: set[str] = set()
        self.trouble: Callable[[Call], None] = lambda call: None

    async def hurry(self) -> None:
        """Nothing is late any more."""
        async with self._moves:
            self.late.clear()
            self._moves.notify_all()

    async def pass_(self, plural: str) -> None:
        async with self._moves:
            await self._moves.wait_for(lambda: plural not in self.late)

    def connect(self, user: User) -> Client:
        return LineClient(LocalClient(self._cluster.server.handler, user, agent=user.name.rpartition(":")[2]), self)


class LineClient(CallingClient):
    """A client at the end of a line."""

    def __init__(self, inner: LocalClient, line: Line) -> None:
        self._inner, self._line = inner, line

    async def exchange(self, call: Call) -> Any:
        self._line.trouble(call)
        return await self._inner.exchange(call)

    async def events(self, call: Call) -> AsyncIterator[Mapping[str, Any]]:
        async for event in self._inner.events(call):
            await self._line.pass_(call.path.rpartition("/")[2])
            yield event


def play(scenario: Callable[[Cluster, Line], Coroutine[Any, Any, None]]) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, nodes=2, controllers="") as cluster:
            line = Line(cluster)
            config = manager.ManagerConfig(connect=line.connect, settings={"root-ca": "test certificate"})

            async def manage() -> None:
                await manager.run(line.connect(MANAGER), clock, manager.ALL, config)

            async with background(manage):
                await clock.sleep(5)
                await scenario(cluster, line)

    try:
        clock.run(main())
    finally:
        clock.close()


def template(image: str = "web:1", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "c", "image": image}], **spec}}


def workload(kind: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "web", "namespace": NS},
        "spec": {"selector": {"matchLabels": LABELS}, "template": template(), **spec},
    }


def job(**spec: Any) -> dict[str, Any]:
    made = {"parallelism": 2, "template": {"spec": template(restartPolicy="Never")["spec"]}, **spec}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "sum", "namespace": NS}, "spec": made}


def test_a_deployment_waits_until_it_sees_the_sizes_that_it_wrote() -> None:
    async def scenario(cluster: Cluster, line: Line) -> None:
        await cluster.client.create(DEPLOYMENTS, workload("Deployment", replicas=0))
        await cluster.clock.sleep(5)
        line.late.add("replicasets")
        await cluster.client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 4}}, NS)
        await cluster.clock.sleep(1)
        await cluster.client.patch(DEPLOYMENTS, "web", {"spec": {"template": template("web:2")}}, NS)
        await cluster.clock.sleep(10)
        sizes = [each["spec"]["replicas"] for each in (await cluster.client.list(REPLICA_SETS, NS)).items]
        assert sum(sizes) <= 5
        await line.hurry()
        await cluster.wait(DEPLOYMENTS, NS, "web", lambda web: web["status"].get("updatedReplicas") == 4)

    play(scenario)


def test_a_pod_that_ended_unseen_counts_though_it_was_to_go() -> None:
    async def scenario(cluster: Cluster, line: Line) -> None:
        await cluster.client.create(JOBS, job(completions=4))
        await cluster.clock.sleep(5)
        line.late.add("pods")
        await cluster.nodes.finish((await cluster.client.list(PODS, NS)).items[0], 0)
        await cluster.client.patch(JOBS, "sum", {"spec": {"suspend": True}}, NS, type=MERGE_PATCH)
        await cluster.clock.sleep(5)
        await line.hurry()
        await cluster.wait(JOBS, NS, "sum", lambda found: found["status"].get("succeeded") == 1)
        await cluster.clock.sleep(60)
        assert (await cluster.client.get(JOBS, "sum", NS))["status"].get("active", 0) == 0

    play(scenario)


@pytest.mark.parametrize(("method", "end"), [("POST", "/pods"), ("DELETE", ""), ("PATCH", "")])
def test_a_connection_that_breaks_while_pods_are_written_is_only_another_try(
    method: str, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(cluster: Cluster, line: Line) -> None:
        left = [3]

        def trouble(call: Call) -> None:
            if call.method == method and "/pods" in call.path and call.path.endswith(end) and left[0]:
                left[0] -= 1
                raise ConnectionResetError("connection reset by peer")

        line.trouble = trouble
        await cluster.client.create(REPLICA_SETS, workload("ReplicaSet", replicas=3))
        await cluster.client.create(JOBS, job(completions=3))
        await cluster.clock.sleep(20)
        await cluster.client.patch(REPLICA_SETS, "web", {"spec": {"replicas": 1}}, NS)
        cluster.nodes.outcome = lambda pod: 0 if pod["spec"]["restartPolicy"] == "Never" else None
        for pod in (await cluster.client.list(PODS, NS)).items:
            if pod["spec"]["restartPolicy"] == "Never":
                await cluster.nodes.finish(pod, 0)
        await cluster.wait(JOBS, NS, "sum", lambda found: found["status"].get("succeeded") == 3)
        await cluster.wait(REPLICA_SETS, NS, "web", lambda found: found["status"].get("availableReplicas") == 1)

    with caplog.at_level(logging.ERROR, "tiphys"):
        play(scenario)
    assert not caplog.records


def test_a_deployment_that_is_gone_starts_nothing_though_its_watch_is_late() -> None:
    async def scenario(cluster: Cluster, line: Line) -> None:
        await cluster.client.create(DEPLOYMENTS, workload("Deployment", replicas=2))
        await cluster.clock.sleep(5)
        line.late.add("deployments")
        tried = [0]

        def count(call: Call) -> None:
            tried[0] += call.method == "POST" and call.path.endswith("/replicasets")

        line.trouble = count
        await cluster.client.delete(DEPLOYMENTS, "web", NS)
        for each in (await cluster.client.list(REPLICA_SETS, NS)).items:
            await cluster.client.delete(REPLICA_SETS, each["metadata"]["name"], NS)
        await cluster.clock.sleep(20)
        assert not (await cluster.client.list(PODS, NS)).items
        assert tried == [0]
        await line.hurry()

    play(scenario)


def test_a_pod_whose_job_went_while_nobody_looked_is_let_go_by_the_next_manager() -> None:
    clock = VirtualClock()

    async def scenario() -> None:
        async with Cluster(clock, nodes=1, controllers="") as cluster:
            config = manager.ManagerConfig(connect=cluster.connect, settings={"root-ca": "test certificate"})

            async def manage() -> None:
                await manager.run(cluster.connect(MANAGER), clock, manager.ALL, config)

            async with background(manage):
                await clock.sleep(5)
                await cluster.client.create(JOBS, job(completions=2))
                await clock.sleep(5)
            await cluster.client.delete(JOBS, "sum", NS, propagation="Background")
            for pod in (await cluster.client.list(PODS, NS)).items:
                await cluster.client.delete(PODS, pod["metadata"]["name"], NS)
            await clock.sleep(60)
            assert (await cluster.client.list(PODS, NS)).items
            async with background(manage):
                await clock.sleep(60)
                assert not (await cluster.client.list(PODS, NS)).items

    try:
        clock.run(scenario())
    finally:
        clock.close()


def test_a_claim_is_not_given_to_a_set_that_is_gone() -> None:
    request = {"requests": {"storage": "1Gi"}}
    claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": request}}

    async def scenario(cluster: Cluster, line: Line) -> None:
        wanted = workload("StatefulSet", replicas=1, serviceName="web", volumeClaimTemplates=[claim])
        await cluster.client.create(STATEFUL_SETS, wanted)
        await cluster.clock.sleep(10)

        def trouble(call: Call) -> None:
            if call.method == "PUT" and "persistentvolumeclaims" in call.path:
                raise ConnectionResetError("connection reset by peer")

        line.trouble = trouble
        policy = {"whenDeleted": "Delete", "whenScaled": "Retain"}
        changes = {"spec": {"persistentVolumeClaimRetentionPolicy": policy}}
        await cluster.client.patch(STATEFUL_SETS, "web", changes, NS, type=MERGE_PATCH)
        await cluster.clock.sleep(1)
        line.late.add("statefulsets")
        await cluster.client.delete(STATEFUL_SETS, "web", NS, propagation="Orphan")
        gone = {"metadata": {"finalizers": None}}
        await cluster.client.patch(STATEFUL_SETS, "web", gone, NS, type=MERGE_PATCH)
        line.trouble = lambda call: None
        await cluster.clock.sleep(30)
        await line.hurry()
        await cluster.clock.sleep(30)
        held = await cluster.client.get(PERSISTENT_VOLUME_CLAIMS, "data-web-0", NS)
        assert not held["metadata"].get("ownerReferences")
        assert not held["metadata"].get("deletionTimestamp")

    play(scenario)
