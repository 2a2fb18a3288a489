"""Many Services at once, of all types, with restarts: no address is given twice, none is lost, all are told."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest

from tiphys.apiserver.config import ApiServerConfig
from tiphys.base.errors import AlreadyExists, Conflict, InternalError, Invalid, NotFound
from tiphys.client.resources import IP_ADDRESSES, SERVICE_CIDRS, SERVICES
from tiphys.client.types import MERGE_PATCH, Object
from tiphys.controllers import manager
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import MANAGER, Cluster, background

NS = "default"
POOLS = {
    "IPv4": [f"192.0.2.{number}" for number in range(1, 5)],
    "IPv6": [f"2001:db8::{number}" for number in range(1, 4)],
}
POOL = [*POOLS["IPv4"], *POOLS["IPv6"]]
SETTINGS = {"load-balancer-addresses": ",".join(f"{each[0]}-{each[-1]}" for each in POOLS.values())}
DUAL = "10.96.0.0/28,fd00:96::/124"
POLICIES = {"SingleStack": (1,), "PreferDualStack": (1, 2), "RequireDualStack": (2,)}
"""And how many families a Service of each can have."""
NAMES = "service-lb-controller,service-cidr-controller"
TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer", "ExternalName")
REFUSED = (AlreadyExists, Conflict, InternalError, Invalid, NotFound)


class World:
    def __init__(self, cluster: Cluster, seed: int, *, dual: bool) -> None:
        self.cluster, self.client, self.dual = cluster, cluster.client, dual
        self.random = random.Random(seed)

    async def manage(self) -> None:
        config = manager.ManagerConfig(connect=self.cluster.connect, settings=SETTINGS)
        await manager.run(self.cluster.connect(MANAGER), self.cluster.clock, NAMES, config)

    def spec(self) -> dict[str, Any]:
        kind = self.random.choice(TYPES)
        if kind == "ExternalName":
            gone = dict.fromkeys(("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"))
            return {"type": kind, "externalName": "example.com", **gone}
        spec: dict[str, Any] = {"type": kind, "externalName": None, "ports": [{"port": 80}]}
        if self.dual and self.random.random() < 0.7:
            spec["ipFamilyPolicy"] = self.random.choice(list(POLICIES))
        if self.dual and self.random.random() < 0.2:
            spec["ipFamilies"] = self.random.choice((["IPv6"], ["IPv4", "IPv6"], ["IPv6", "IPv4"]))
        if kind == "LoadBalancer" and self.random.random() < 0.3:
            spec["loadBalancerIP"] = self.random.choice(POOL)
        return spec

    async def act(self) -> None:
        name = f"s{self.random.randrange(12)}"
        what = self.random.randrange(4)
        with suppress(*REFUSED):
            if what < 2:
                spec = self.spec()
                if spec["type"] != "ExternalName" and self.random.random() < 0.3:
                    spec["clusterIP"] = f"10.{self.random.choice((96, 97))}.0.{self.random.randrange(1, 15)}"
                meta = {"name": name, "namespace": NS}
                await self.client.create(
                    SERVICES, {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}
                )
            elif what == 2:
                await self.client.patch(SERVICES, name, {"spec": self.spec()}, NS, type=MERGE_PATCH)
            else:
                await self.client.delete(SERVICES, name, NS)

    async def range(self) -> None:
        """The second range comes and goes."""
        made = {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "more"}}
        with suppress(*REFUSED):
            if self.random.random() < 0.6:
                await self.client.create(SERVICE_CIDRS, {**made, "spec": {"cidrs": ["10.97.0.0/28"]}})
            else:
                await self.client.delete(SERVICE_CIDRS, "more")

    async def check(self) -> tuple[Object, ...]:
        """What must hold at any time."""
        services = (await self.client.list(SERVICES, NS)).items
        listed = {
            each["metadata"]["name"]: each["spec"]["parentRef"]["name"]
            for each in (await self.client.list(IP_ADDRESSES)).items
        }
        held = {ip: each["metadata"]["name"] for each in services for ip in each["spec"].get("clusterIPs") or ()}
        assert listed == held
        assert len(held) == sum(len(each["spec"].get("clusterIPs") or ()) for each in services)
        for spec in (each["spec"] for each in services if each["spec"]["type"] != "ExternalName"):
            assert [family(ip) for ip in spec["clusterIPs"]] == spec["ipFamilies"]
            assert spec["clusterIP"] == spec["clusterIPs"][0]
            assert len(spec["ipFamilies"]) in POLICIES[spec["ipFamilyPolicy"]]
        given = Counter(ip for each in services for ip in ingress(each))
        assert all(count == 1 for count in given.values())
        assert given.keys() <= set(POOL)
        return services


def family(ip: str) -> str:
    return "IPv6" if ":" in ip else "IPv4"


def used_up(service: Object, served: set[str]) -> bool:
    """Whether the pool has nothing left of one of its families."""
    return any(served.issuperset(POOLS[one]) for one in service["spec"]["ipFamilies"])


def ingress(service: Object) -> list[str]:
    found = service["status"].get("loadBalancer", {}).get("ingress") or ()
    return [each["ip"] for each in found]


@pytest.mark.parametrize(("seed", "cidr"), [(0, "10.96.0.0/28"), (1, DUAL), (2, DUAL)])
def test_addresses_are_exact_whatever_happens(seed: int, cidr: str) -> None:
    clock = VirtualClock()

    async def main() -> None:
        config = ApiServerConfig(service_cidr=cidr)
        async with Cluster(clock, nodes=1, controllers="", config=config) as cluster:
            world = World(cluster, seed, dual=cidr == DUAL)
            for _ in range(10):
                async with background(world.manage):
                    for _ in range(20):
                        await asyncio.gather(*(world.act() for _ in range(4)))
                        await world.range()
                        await clock.sleep(world.random.choice((0.01, 0.1, 6)))
                        await world.check()
                await world.act()
            async with background(world.manage):
                await clock.sleep(1000)
                services = await world.check()
                wanting = [each for each in services if each["spec"]["type"] == "LoadBalancer"]
                served = {ip for each in wanting for ip in ingress(each)}
                for each in wanting:
                    asked = each["spec"].get("loadBalancerIP")
                    if not ingress(each):
                        assert asked in served if asked else used_up(each, served)
                    elif asked:
                        assert ingress(each) == [asked]
                assert not any(ingress(each) for each in services if each not in wanting)
                finalizers = {each["metadata"]["name"] for each in services if each["metadata"].get("finalizers")}
                assert finalizers == {each["metadata"]["name"] for each in wanting}

    try:
        clock.run(main())
    finally:
        clock.close()
