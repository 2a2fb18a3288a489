"""ServiceCIDRs become ready, and stay while addresses of theirs are in use."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from tiphys.client.resources import IP_ADDRESSES, SERVICE_CIDRS
from tiphys.client.types import Object
from tiphys.controllers.objects import condition
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

FINALIZER = "networking.k8s.io/service-cidr-finalizer"


def play(scenario: Callable[[Cluster], Coroutine[Any, Any, None]]) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, nodes=0) as cluster:
            await scenario(cluster)

    try:
        clock.run(main())
    finally:
        clock.close()


def cidr(name: str, *cidrs: str) -> dict[str, Any]:
    meta = {"name": name}
    kind = {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR"}
    return {**kind, "metadata": meta, "spec": {"cidrs": list(cidrs)}}


def address(ip: str) -> dict[str, Any]:
    marks = {"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io", "ipaddress.kubernetes.io/ip-family": "IPv4"}
    parent = {"group": "", "resource": "services", "namespace": "default", "name": "x"}
    kind = {"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress"}
    return {**kind, "metadata": {"name": ip, "labels": marks}, "spec": {"parentRef": parent}}


def ready(value: str) -> Callable[[Object], bool]:
    def check(obj: Object) -> bool:
        found = condition(obj.get("status") or {}, "Ready")
        return found is not None and found["status"] == value

    return check


def test_a_service_cidr_becomes_ready_and_is_protected() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(SERVICE_CIDRS, cidr("more", "10.100.0.0/24"))
        made = await cluster.wait(SERVICE_CIDRS, "", "more", ready("True"), 10)
        (told,) = made["status"]["conditions"]
        assert told["message"] == "Kubernetes Service CIDR is ready"
        assert made["metadata"]["finalizers"] == [FINALIZER]
        default = await cluster.wait(
            SERVICE_CIDRS, "", "kubernetes", lambda each: FINALIZER in (each["metadata"].get("finalizers") or ()), 10
        )
        await cluster.clock.sleep(3600)
        assert await cluster.client.get(SERVICE_CIDRS, "kubernetes") == default

    play(scenario)


def test_an_unused_service_cidr_goes_after_ten_seconds() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(SERVICE_CIDRS, cidr("more", "10.100.0.0/24"))
        await cluster.wait(SERVICE_CIDRS, "", "more", ready("True"), 10)
        await cluster.client.delete(SERVICE_CIDRS, "more")
        await cluster.clock.sleep(9)
        assert await cluster.exists(SERVICE_CIDRS, "", "more")
        await cluster.wait_gone(SERVICE_CIDRS, "", "more", 3)

    play(scenario)


def test_a_service_cidr_waits_for_its_addresses_unless_another_range_has_them() -> None:
    async def scenario(cluster: Cluster) -> None:
        for name in ("one", "two"):
            base = "10.100.0.0/24" if name == "one" else "10.101.0.0/24"
            await cluster.client.create(SERVICE_CIDRS, cidr(name, base))
            await cluster.client.create(IP_ADDRESSES, address(base.replace("0/24", "7")))
            await cluster.wait(SERVICE_CIDRS, "", name, ready("True"), 10)
            await cluster.client.delete(SERVICE_CIDRS, name)
            told = await cluster.wait(SERVICE_CIDRS, "", name, ready("False"), 10)
            (found,) = told["status"]["conditions"]
            assert found["reason"] == "Terminating"
            assert found["message"] == (
                "There are still IPAddresses referencing the ServiceCIDR, "
                "please remove them or create a new ServiceCIDR"
            )
        await cluster.clock.sleep(60)
        await cluster.client.delete(IP_ADDRESSES, "10.100.0.7")
        await cluster.wait_gone(SERVICE_CIDRS, "", "one", 20)
        assert await cluster.exists(SERVICE_CIDRS, "", "two")
        await cluster.client.create(SERVICE_CIDRS, cidr("wide", "10.101.0.0/16"))
        await cluster.wait_gone(SERVICE_CIDRS, "", "two", 20)

    play(scenario)
