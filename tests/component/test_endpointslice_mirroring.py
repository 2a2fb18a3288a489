"""Endpoints written by hand appear as EndpointSlices, on the real API server and on virtual time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from tiphys.client.resources import ENDPOINT_SLICES, ENDPOINTS, EVENTS, SERVICES
from tiphys.client.types import MERGE_PATCH, Object
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

NS = "default"
MANAGER = "endpointslicemirroring-controller.k8s.io"


def play(scenario: Callable[[Cluster], Coroutine[Any, Any, None]]) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, nodes=0) as cluster:
            await scenario(cluster)

    try:
        clock.run(main())
    finally:
        clock.close()


def service(selector: dict[str, str] | None = None) -> dict[str, Any]:
    spec = {"ports": [{"name": "example", "port": 80, "protocol": "TCP"}], "selector": selector}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "custom", "namespace": NS}, "spec": spec}


def endpoints(*ips: str, port: int = 80, **metadata: Any) -> dict[str, Any]:
    subset = {"ports": [{"port": port}], "addresses": [{"ip": ip} for ip in ips]}
    meta = {"name": "custom", "namespace": NS, **metadata}
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": meta, "subsets": [subset]}


async def slices(cluster: Cluster) -> list[Object]:
    marks = f"kubernetes.io/service-name=custom,endpointslice.kubernetes.io/managed-by={MANAGER}"
    return sorted(
        (await cluster.client.list(ENDPOINT_SLICES, NS, labels=marks)).items, key=lambda each: str(each["addressType"])
    )


def addresses(held: Object) -> list[str]:
    return sorted(each["addresses"][0] for each in held["endpoints"])


def test_custom_endpoints_are_mirrored_when_they_are_created_changed_and_deleted() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(SERVICES, service())
        await cluster.client.create(ENDPOINTS, endpoints("10.1.2.3"))
        await cluster.clock.sleep(1)
        (only,) = await slices(cluster)
        assert addresses(only) == ["10.1.2.3"]
        assert only["addressType"] == "IPv4"
        assert only["ports"] == [{"name": "", "port": 80, "protocol": "TCP"}]
        assert only["metadata"]["name"].startswith("custom-")
        (owner,) = only["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["controller"]) == ("Endpoints", "custom", True)
        held = await cluster.client.get(ENDPOINTS, "custom", NS)
        new = {**held, "subsets": [{"ports": [{"port": 80}], "addresses": [{"ip": "10.2.3.4"}]}]}
        await cluster.client.update(ENDPOINTS, new)
        await cluster.clock.sleep(1)
        (changed,) = await slices(cluster)
        assert addresses(changed) == ["10.2.3.4"]
        assert changed["metadata"]["uid"] == only["metadata"]["uid"]
        await cluster.client.delete(ENDPOINTS, "custom", NS)
        await cluster.clock.sleep(1)
        assert await slices(cluster) == []

    play(scenario)


def test_labels_and_annotations_are_copied_but_for_those_of_tools() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(SERVICES, service())
        notes = {"team": "a", "kubectl.kubernetes.io/last-applied-configuration": "{}"}
        trigger = {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z"}
        made = endpoints("10.1.2.3", labels={"app": "x"}, annotations={**notes, **trigger})
        await cluster.client.create(ENDPOINTS, made)
        await cluster.clock.sleep(1)
        (only,) = await slices(cluster)
        assert only["metadata"]["annotations"] == {"team": "a"}
        assert only["metadata"]["labels"] == {
            "app": "x",
            "kubernetes.io/service-name": "custom",
            "endpointslice.kubernetes.io/managed-by": MANAGER,
        }
        patch = {"metadata": {"labels": {"app": "y"}}}
        await cluster.client.patch(ENDPOINTS, "custom", patch, NS, type=MERGE_PATCH)
        await cluster.clock.sleep(1)
        (only,) = await slices(cluster)
        assert only["metadata"]["labels"]["app"] == "y"

    play(scenario)


def test_what_asks_not_to_be_mirrored_and_what_has_a_selector_has_no_mirror() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(SERVICES, service())
        skip = {"endpointslice.kubernetes.io/skip-mirror": "true"}
        await cluster.client.create(ENDPOINTS, endpoints("10.1.2.3", labels=skip))
        await cluster.clock.sleep(1)
        assert await slices(cluster) == []
        unskip = {"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": None}}}
        await cluster.client.patch(ENDPOINTS, "custom", unskip, NS, type=MERGE_PATCH)
        await cluster.clock.sleep(1)
        assert len(await slices(cluster)) == 1
        await cluster.client.patch(SERVICES, "custom", {"spec": {"selector": {"a": "b"}}}, NS, type=MERGE_PATCH)
        await cluster.clock.sleep(1)
        assert await slices(cluster) == []
        assert (await cluster.client.list(ENDPOINT_SLICES, NS, labels=f"managed-by={MANAGER}")).items == ()

    play(scenario)


def test_endpoints_wait_for_their_service_and_lose_the_mirror_with_it() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.clock.sleep(1)  # what is there at the start without a Service is deleted
        await cluster.client.create(ENDPOINTS, endpoints("10.1.2.3"))
        await cluster.clock.sleep(1)
        assert await slices(cluster) == []
        await cluster.client.create(SERVICES, service())
        await cluster.clock.sleep(1)
        assert len(await slices(cluster)) == 1
        await cluster.client.delete(SERVICES, "custom", NS)
        await cluster.clock.sleep(1)
        assert await slices(cluster) == []

    play(scenario)


def test_each_family_and_each_set_of_ports_has_a_slice_of_its_own() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(SERVICES, service())
        made = endpoints("10.1.2.3", "fd00::1")
        made["subsets"].append({"ports": [{"port": 81}], "notReadyAddresses": [{"ip": "10.1.2.4", "hostname": "h"}]})
        await cluster.client.create(ENDPOINTS, made)
        await cluster.clock.sleep(1)
        found = {(each["addressType"], each["ports"][0]["port"]): each for each in await slices(cluster)}
        assert {key: addresses(each) for key, each in found.items()} == {
            ("IPv4", 80): ["10.1.2.3"],
            ("IPv4", 81): ["10.1.2.4"],
            ("IPv6", 80): ["fd00::1"],
        }
        (unready,) = found["IPv4", 81]["endpoints"]
        assert unready == {"addresses": ["10.1.2.4"], "conditions": {"ready": False}, "hostname": "h"}

    play(scenario)


def test_at_most_a_thousand_addresses_of_a_subset_are_mirrored_and_an_event_says_so() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(SERVICES, service())
        await cluster.client.create(ENDPOINTS, endpoints(*(f"10.1.{n >> 8}.{n & 255}" for n in range(1005))))
        await cluster.clock.sleep(2)
        (only,) = await slices(cluster)
        assert len(only["endpoints"]) == 1000
        events = (await cluster.client.list(EVENTS, NS)).items
        (told,) = [each for each in events if each["reason"] == "TooManyAddressesToMirror"]
        assert told["message"] == (
            "A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset. 5 addresses were skipped"
        )
        assert told["source"]["component"] == "endpoint-slice-mirroring-controller"
        assert told["involvedObject"]["kind"] == "Endpoints"

    play(scenario)


def test_a_mirror_that_others_change_or_delete_is_put_right() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(SERVICES, service())
        await cluster.client.create(ENDPOINTS, endpoints("10.1.2.3"))
        await cluster.clock.sleep(1)
        (only,) = await slices(cluster)
        await cluster.client.update(ENDPOINT_SLICES, {**only, "endpoints": []})
        await cluster.clock.sleep(5)
        (only,) = await slices(cluster)
        assert addresses(only) == ["10.1.2.3"]
        await cluster.client.delete(ENDPOINT_SLICES, only["metadata"]["name"], NS)
        await cluster.clock.sleep(5)
        (again,) = await slices(cluster)
        assert addresses(again) == ["10.1.2.3"]
        await cluster.clock.sleep(3600)
        assert await slices(cluster) == [again]

    play(scenario)
