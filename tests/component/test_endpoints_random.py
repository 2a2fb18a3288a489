"""Random pods, Services, interference, lost writes and restarts of the manager, on the real API server.

In the end the Endpoints and the slices of every Service are exactly what its pods mean, and nothing is written any
more.
"""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import pytest

from tiphys.base.errors import AlreadyExists, Conflict, InternalError, Invalid, NotFound
from tiphys.base.identity import User
from tiphys.client.resources import ENDPOINT_SLICES, ENDPOINTS, NODES, PODS, SERVICE_ACCOUNTS, SERVICES
from tiphys.client.types import MERGE_PATCH, Client, Object
from tiphys.controllers import manager
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import MANAGER, Cluster, background

NS = "default"
NAMES = (
    "serviceaccount-controller,endpoints-controller,endpointslice-controller,endpointslice-mirroring-controller,"
    "garbage-collector-controller"
)
SETTINGS = {"max-endpoints-per-slice": 3}
LABELS = ({"app": "a"}, {"app": "b"}, {"app": "a", "tier": "x"})


class Flaky:
    """A client some of whose writes fail, before or after they were carried out."""

    def __init__(self, client: Client, chance: random.Random) -> None:
        self._client, self._chance = client, chance

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if name not in ("create", "update", "delete", "patch"):
            return found

        async def unreliable(*arguments: Any, **options: Any) -> Any:
            fate = self._chance.random()
            if fate < 0.05:
                raise InternalError("lost on the way")
            answer = await found(*arguments, **options)
            if fate > 0.95:
                raise InternalError("the answer was lost")
            return answer

        return unreliable


class World:
    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.cluster, self.client = cluster, cluster.client
        self.random = random.Random(seed)
        self.count = 0
        self.reliable = False

    def connect(self, user: User) -> Client:
        client = self.cluster.connect(user)
        return client if self.reliable else Flaky(client, self.random)

    async def manage(self) -> None:
        config = manager.ManagerConfig(connect=self.connect, settings=SETTINGS)
        await manager.run(self.cluster.connect(MANAGER), self.cluster.clock, NAMES, config)

    async def step(self) -> None:
        doing = self.random.choice(
            (
                *(self.add_pod, self.add_pod, self.alter_pod, self.alter_pod, self.remove_pod, self.add_service),
                *(self.alter_service, self.remove_service, self.meddle),
            )
        )
        with suppress(NotFound, AlreadyExists, Conflict, Invalid):
            await doing()

    async def _some(self, resource: Any) -> Object | None:
        found = [
            each for each in (await self.client.list(resource, NS)).items if each["metadata"]["name"] != "kubernetes"
        ]
        return self.random.choice(found) if found else None

    async def add_pod(self) -> None:
        self.count += 1
        number = self.random.choice((8080, 8080, 9090))
        meta = {"name": f"p{self.count}", "namespace": NS, "labels": self.random.choice(LABELS)}
        container = {"name": "c", "image": "x", "ports": [{"name": "web", "containerPort": number}]}
        spec = {"nodeName": self.random.choice(("n1", "n2")), "containers": [container]}
        made = await self.client.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
        ip = f"10.1.{self.count >> 8}.{self.count & 255}"
        await self._status(made, {"podIP": ip, "podIPs": [{"ip": ip}]})

    async def _status(self, pod: Object, change: dict[str, Any] | None = None) -> None:
        ready = {"type": "Ready", "status": self.random.choice(("True", "True", "False"))}
        status = {"phase": "Running", "conditions": [ready], **(change or {})}
        await self.client.patch(
            PODS, pod["metadata"]["name"], {"status": status}, NS, type=MERGE_PATCH, subresource="status"
        )

    async def alter_pod(self) -> None:
        pod = await self._some(PODS)
        if pod is None:
            return
        if self.random.random() < 0.6:
            await self._status(pod)
        else:
            labels = {"labels": {"app": self.random.choice("ab"), "tier": self.random.choice((None, "x"))}}
            await self.client.patch(PODS, pod["metadata"]["name"], {"metadata": labels}, NS, type=MERGE_PATCH)

    async def remove_pod(self) -> None:
        pod = await self._some(PODS)
        if pod is not None:
            grace = self.random.choice((0, 30))
            await self.client.delete(PODS, pod["metadata"]["name"], NS, grace_seconds=grace)

    async def add_service(self) -> None:
        name = self.random.choice("uvwxyz")
        spec: dict[str, Any] = {"ports": [{"port": 80, "targetPort": self.random.choice((80, "web"))}]}
        if self.random.random() < 0.8:
            spec["selector"] = self.random.choice(LABELS)
        if self.random.random() < 0.2:
            spec["clusterIP"] = "None"
        meta = {"name": name, "namespace": NS}
        await self.client.create(SERVICES, {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec})

    async def alter_service(self) -> None:
        service = await self._some(SERVICES)
        if service is None:
            return
        spec = self.random.choice(
            (
                {"selector": self.random.choice((*LABELS, None))},
                {"publishNotReadyAddresses": self.random.random() < 0.5},
                {"ports": [{"port": 81, "targetPort": self.random.choice((81, "web"))}]},
            )
        )
        meta = {"labels": {"team": self.random.choice("pq")}}
        patch = {"metadata": meta, "spec": spec}
        await self.client.patch(SERVICES, service["metadata"]["name"], patch, NS, type=MERGE_PATCH)

    async def remove_service(self) -> None:
        service = await self._some(SERVICES)
        if service is not None and self.random.random() < 0.5:
            await self.client.delete(SERVICES, service["metadata"]["name"], NS)

    async def meddle(self) -> None:
        resource = self.random.choice((ENDPOINT_SLICES, ENDPOINTS))
        found = await self._some(resource)
        if found is None:
            return
        if self.random.random() < 0.5 or resource is ENDPOINTS:
            await self.client.delete(resource, found["metadata"]["name"], NS)
        else:
            await self.client.update(resource, {**found, "endpoints": list(found["endpoints"] or ())[1:]})

    async def check(self) -> None:
        pods = (await self.client.list(PODS, NS)).items
        slices = [
            each
            for each in (await self.client.list(ENDPOINT_SLICES, NS)).items
            if each["metadata"]["labels"]["kubernetes.io/service-name"] != "kubernetes"
        ]
        services = {each["metadata"]["name"]: each for each in (await self.client.list(SERVICES, NS)).items}
        services.pop("kubernetes")
        assert {each["metadata"]["labels"]["kubernetes.io/service-name"] for each in slices} <= services.keys()
        for name, service in services.items():
            mine = [each for each in slices if each["metadata"]["labels"]["kubernetes.io/service-name"] == name]
            if service["spec"].get("selector"):
                self._check_slices(service, pods, mine)
                await self._check_endpoints(service, pods)

    def _check_slices(self, service: Object, pods: tuple[Object, ...], slices: list[Object]) -> None:
        found = []
        for held in slices:
            assert (
                held["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"]
                == "endpointslice-controller.k8s.io"
            )
            assert len(held["endpoints"] or ()) <= 3
            for each in held["endpoints"] or ():
                states = each["conditions"]["serving"], each["conditions"]["terminating"]
                found.append((each["targetRef"]["name"], tuple(one["port"] for one in held["ports"]), *states))
        expected = [
            (each["metadata"]["name"], (_port(service, each),), _ready(each), "deletionTimestamp" in each["metadata"])
            for each in pods
            if _selected(service, each)
        ]
        assert sorted(found) == sorted(expected)
        assert slices

    async def _check_endpoints(self, service: Object, pods: tuple[Object, ...]) -> None:
        held = await self.client.get(ENDPOINTS, service["metadata"]["name"], NS)
        published = bool(service["spec"].get("publishNotReadyAddresses"))
        found = []
        for subset in held.get("subsets") or ():
            (port,) = subset["ports"]
            for kind in ("addresses", "notReadyAddresses"):
                found += [(each["targetRef"]["name"], port["port"], kind) for each in subset.get(kind) or ()]
        expected = [
            (
                each["metadata"]["name"],
                _port(service, each),
                "addresses" if published or _ready(each) else "notReadyAddresses",
            )
            for each in pods
            if _selected(service, each) and (published or "deletionTimestamp" not in each["metadata"])
        ]
        assert sorted(found) == sorted(expected)


def _selected(service: Object, pod: Object) -> bool:
    fits = service["spec"]["selector"].items() <= (pod["metadata"].get("labels") or {}).items()
    return fits and bool(pod["status"].get("podIP"))


def _ready(pod: Object) -> bool:
    return any(each["status"] == "True" for each in pod["status"]["conditions"] if each["type"] == "Ready")


def _port(service: Object, pod: Object) -> int:
    (port,) = service["spec"]["ports"]
    own: int = pod["spec"]["containers"][0]["ports"][0]["containerPort"]
    return own if port["targetPort"] == "web" else int(port["targetPort"])


async def _everything(client: Client) -> list[Object]:
    return [each for one in (ENDPOINTS, ENDPOINT_SLICES) for each in (await client.list(one, NS)).items]


@pytest.mark.parametrize("seed", range(3))
def test_endpoints_are_exact_in_the_end_whatever_happens(seed: int) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, nodes=0, controllers="") as cluster:
            world = World(cluster, seed)
            async with background(world.manage):
                await cluster.wait(SERVICE_ACCOUNTS, NS, "default")
            for name in ("n1", "n2"):
                await cluster.client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
            for _ in range(8):
                async with background(world.manage):
                    for _ in range(40):
                        await world.step()
                        await clock.sleep(world.random.choice((0, 0, 0.01, 0.3, 2)))
                for _ in range(5):
                    await world.step()
            world.reliable = True
            async with background(world.manage):
                await clock.sleep(120)
                await world.check()
                before = await _everything(cluster.client)
                await clock.sleep(600)
                assert await _everything(cluster.client) == before
            async with background(world.manage):
                await clock.sleep(120)
                assert await _everything(cluster.client) == before

    try:
        clock.run(main())
    finally:
        clock.close()
