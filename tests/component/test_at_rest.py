"""A cluster in which nothing happens: its controllers write nothing, told everything again or started anew or not."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from at_rest_objects import POLICY, WIDGET, busy_objects, definition, settled
from tiphys.base.identity import User
from tiphys.client.calls import Call
from tiphys.client.informer import InformerFactory
from tiphys.client.local import LocalClient
from tiphys.client.resources import CUSTOM_RESOURCE_DEFINITIONS, NODES
from tiphys.client.types import MERGE_PATCH, Client, Resource
from tiphys.controllers import manager
from tiphys.controllers.base import ControllerContext
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import MANAGER, Cluster

SETTINGS = {"root-ca": "test certificate", "cluster-cidr": "10.244.0.0/16"}
HOURS = 3


class Witness:
    """Writes of the controllers, by who wrote what."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def note(self, user: User, call: Call) -> None:
        if call.method not in ("GET", "HEAD", "OPTIONS"):
            self.seen[f"{user.name.rpartition(':')[2]} {call.method} {call.path}"] += 1

    def take(self) -> dict[str, int]:
        """What was written since the last time, but for what upstream writes at such times, too."""
        taken = {what: number for what, number in self.seen.items() if not _expected(what)}
        self.seen.clear()
        return taken


def _expected(what: str) -> bool:
    """Autoscalers say each time that there are no metrics; a manager that starts says which nodes it found."""
    who, _, path = what.split(" ", 2)
    return who in ("horizontal-pod-autoscaler", "node-controller") and "/events" in path


class WatchedCluster(Cluster):
    """Every controller's writes go past the witness."""

    witness: Witness
    informers: InformerFactory

    def connect(self, user: User) -> Client:
        if user.name.startswith("system:serviceaccount:kube-system:") or user == MANAGER:
            return _WatchedClient(self, user)
        return super().connect(user)

    @asynccontextmanager
    async def all_controllers(self) -> AsyncIterator[None]:
        """Every controller, with informers that the test gets hold of."""
        classes = manager.registry()
        async with InformerFactory(self.connect(MANAGER), self.clock) as self.informers:
            context = ControllerContext(self.informers, self.connect, self.clock, SETTINGS)
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(classes[each](context).run(), name=each)
                    for each in manager.choose("*", list(classes))
                ]
                yield
                for task in running:
                    task.cancel()

    def resync(self) -> None:
        """Tell everybody of everything again, as upstream's informers do from time to time."""
        for informer in self.informers:
            for obj in informer.list():
                informer._tell(obj, obj)


class _WatchedClient(LocalClient):
    def __init__(self, cluster: WatchedCluster, user: User) -> None:
        super().__init__(cluster.server.handler, user, agent=user.name.rpartition(":")[2])
        self._witness, self._user = cluster.witness, user

    async def exchange(self, call: Call) -> Any:
        self._witness.note(self._user, call)
        return await super().exchange(call)


async def fill(cluster: Cluster) -> None:
    """One of everything."""
    for node in ("node-1", "node-2"):
        annotation = {"metadata": {"annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}}}
        await cluster.client.patch(NODES, node, annotation, type=MERGE_PATCH)
    await cluster.client.create(CUSTOM_RESOURCE_DEFINITIONS, definition())
    await cluster.clock.sleep(5)
    for resource, obj in busy_objects():
        await cluster.client.create(resource, obj)
    await cluster.client.create(Resource("example.com", "v1", "widgets"), WIDGET)
    await cluster.client.create(
        Resource("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", namespaced=False), POLICY
    )


@pytest.fixture(scope="module")
def writes() -> dict[str, dict[str, int]]:
    """What was written in each phase; one cluster for all tests, since it takes a while to fill."""
    clock = VirtualClock()
    cluster = WatchedCluster(clock, nodes=2, controllers="")
    cluster.witness = Witness()
    found: dict[str, dict[str, int]] = {}

    async def scenario() -> None:
        async with cluster:
            async with cluster.all_controllers():
                await clock.sleep(10)
                cluster.nodes.outcome = lambda pod: 0 if pod["metadata"].get("labels", {}).get("ends") else None
                await fill(cluster)
                await settled(cluster)
                await clock.sleep(1200)
                found["filling"] = cluster.witness.take()
                await clock.sleep(HOURS * 3600)
                found["waiting"] = cluster.witness.take()
                cluster.resync()
                await clock.sleep(60)
                found["resync"] = cluster.witness.take()
            async with cluster.all_controllers():
                await clock.sleep(600)
                found["restart"] = cluster.witness.take()

    clock.run(scenario())
    return found


@pytest.mark.parametrize("phase", ["waiting", "resync", "restart"])
def test_nothing_is_written_at_rest(writes: dict[str, dict[str, int]], phase: str) -> None:
    assert writes[phase] == {}


def test_the_witness_sees_what_controllers_write(writes: dict[str, dict[str, int]]) -> None:
    who = {what.split(" ")[0] for what in writes["filling"]}
    assert {"deployment-controller", "statefulset-controller", "resourcequota-controller", "endpoint-controller"} <= who
    assert {"persistent-volume-binder", "resource-claim-controller", "disruption-controller", "job-controller"} <= who
    assert {"attachdetach-controller", "endpointslice-controller", "endpointslicemirroring-controller"} <= who
