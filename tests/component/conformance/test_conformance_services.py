"""Services, Endpoints and EndpointSlices as the suite follows them, without the nodes' part of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiphys.client.streams import closing
from tiphys.client.types import Resource

Play = Callable[..., None]
NS = "default"
CORE = f"/api/v1/namespaces/{NS}"
SLICES = f"/apis/discovery.k8s.io/v1/namespaces/{NS}/endpointslices"


def service(name: str, **spec: Any) -> dict[str, Any]:
    wanted = {"ports": [{"name": "http", "protocol": "TCP", "port": 80}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": {"set": "a"}}, "spec": wanted}


def pod(name: str, labels: dict[str, str], *ports: tuple[str, int]) -> dict[str, Any]:
    offered = [{"name": port, "containerPort": number} for port, number in ports]
    container = {"name": "c", "image": "nginx", "ports": offered}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [container]},
    }


async def slices(world: Any, name: str) -> list[dict[str, Any]]:
    found = await world.ok("GET", f"{SLICES}?labelSelector=kubernetes.io/service-name={name}")
    return list(found["items"])


async def told(world: Any, name: str) -> dict[str, set[int]]:
    """Pod -> ports, as the slices of a Service say; the Endpoints must say the same."""
    await world.clock.sleep(2)
    by_slices: dict[str, set[int]] = {}
    for held in await slices(world, name):
        for endpoint in held["endpoints"] or ():
            by_slices.setdefault(endpoint["targetRef"]["name"], set()).update(one["port"] for one in held["ports"])
    by_endpoints: dict[str, set[int]] = {}
    for subset in (await world.ok("GET", f"{CORE}/endpoints/{name}")).get("subsets") or ():
        for address in subset.get("addresses") or ():
            ports = {one["port"] for one in subset["ports"]}
            by_endpoints.setdefault(address["targetRef"]["name"], set()).update(ports)
    assert by_slices == by_endpoints
    return by_slices


def test_a_service_that_matches_no_pods_has_empty_endpoints_until_it_goes(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", f"{CORE}/services", service("empty", selector={"matches": "nothing"}))
        assert await told(world, "empty") == {}
        held = await world.ok("GET", f"{CORE}/endpoints/empty")
        assert held["metadata"]["labels"]["endpoints.kubernetes.io/managed-by"] == "endpoint-controller"
        (only,) = await slices(world, "empty")
        marks = only["metadata"]["labels"]
        assert marks["endpointslice.kubernetes.io/managed-by"] == "endpointslice-controller.k8s.io"
        assert not only["endpoints"]
        await world.ok("DELETE", f"{CORE}/services/empty")
        await world.clock.sleep(30)
        assert (await world.http("GET", f"{CORE}/endpoints/empty")).status == 404
        assert await slices(world, "empty") == []

    play(scenario)


def test_endpoints_and_slices_are_those_of_matching_pods_also_by_named_ports(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", f"{CORE}/pods", pod("pod1", {"pod1": "on", "both": "on"}, ("example", 3000)))
        await world.ok("POST", f"{CORE}/pods", pod("pod2", {"both": "on"}, ("example", 3001), ("other", 3002)))
        numbered = [{"name": "example", "port": 80, "targetPort": 3000}]
        named = [{"name": "http", "port": 80, "targetPort": "example"}]
        await world.ok("POST", f"{CORE}/services", service("one", selector={"pod1": "on"}, ports=numbered))
        await world.ok("POST", f"{CORE}/services", service("two", selector={"both": "on"}, ports=named))
        assert await told(world, "one") == {"pod1": {3000}}
        assert await told(world, "two") == {"pod1": {3000}, "pod2": {3001}}
        assert (len(await slices(world, "one")), len(await slices(world, "two"))) == (1, 2)
        for held in await slices(world, "two"):
            await world.ok("DELETE", f"{SLICES}/{held['metadata']['name']}")
        await world.ok("DELETE", f"{CORE}/endpoints/two")
        await world.clock.sleep(5)
        assert await told(world, "two") == {"pod1": {3000}, "pod2": {3001}}

    play(scenario)


def test_endpoints_follow_pods_that_come_and_go(play: Play) -> None:
    async def scenario(world: Any) -> None:
        ports = [
            {"name": "portname1", "port": 80, "targetPort": "first"},
            {"name": "portname2", "port": 81, "targetPort": "second"},
        ]
        await world.ok("POST", f"{CORE}/services", service("multi", selector={"foo": "bar"}, ports=ports))
        assert await told(world, "multi") == {}
        await world.ok("POST", f"{CORE}/pods", pod("pod1", {"foo": "bar"}, ("first", 100)))
        assert await told(world, "multi") == {"pod1": {100}}
        await world.ok("POST", f"{CORE}/pods", pod("pod2", {"foo": "bar"}, ("second", 101)))
        assert await told(world, "multi") == {"pod1": {100}, "pod2": {101}}
        await world.ok("DELETE", f"{CORE}/pods/pod1")
        assert await told(world, "multi") == {"pod2": {101}}
        await world.ok("DELETE", f"{CORE}/pods/pod2")
        assert await told(world, "multi") == {}

    play(scenario)


def test_endpoints_of_one_port_and_two_protocols_are_listed_for_both(play: Play) -> None:
    async def scenario(world: Any) -> None:
        ports = [{"name": f"portname-{name}", "port": 80, "protocol": name.upper()} for name in ("tcp", "udp")]
        await world.ok("POST", f"{CORE}/services", service("protocols", selector={"foo": "bar"}, ports=ports))
        await world.ok("POST", f"{CORE}/pods", pod("pod1", {"foo": "bar"}))
        assert await told(world, "protocols") == {"pod1": {80}}
        (held,) = await slices(world, "protocols")
        assert {one["protocol"] for one in held["ports"]} == {"TCP", "UDP"}
        await world.patch(f"{CORE}/services/protocols", {"spec": {"ports": [ports[1]]}})
        assert await told(world, "protocols") == {"pod1": {80}}
        (held,) = await slices(world, "protocols")
        assert [one["protocol"] for one in held["ports"]] == ["UDP"]

    play(scenario)


def test_endpoints_without_a_service_live_through_every_verb(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.clock.sleep(1)
        path = f"{CORE}/endpoints"
        subset = {"addresses": [{"ip": "10.0.0.24"}], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}
        meta = {"name": "testservice", "labels": {"test-endpoint-static": "true"}}
        made = {"apiVersion": "v1", "kind": "Endpoints", "metadata": meta, "subsets": [subset]}
        start = (await world.ok("POST", path, made))["metadata"]["resourceVersion"]
        listed = await world.ok("GET", "/api/v1/endpoints?labelSelector=test-endpoint-static=true")
        assert [one["metadata"]["name"] for one in listed["items"]] == ["testservice"]
        found = listed["items"][0]
        found["metadata"]["labels"]["test-service"] = "updated"
        await world.ok("PUT", f"{path}/testservice", found)
        await world.clock.sleep(60)
        other = {"addresses": [{"ip": "10.0.0.25"}], "ports": [{"name": "http-test", "port": 8080, "protocol": "TCP"}]}
        patch = {"metadata": {"labels": {"test-service": "patched"}}, "subsets": [other]}
        patched = await world.patch(f"{path}/testservice", patch, "strategic")
        assert patched["subsets"] == [other]
        await world.ok("DELETE", f"{path}?labelSelector=test-endpoint-static=true")
        kinds = []
        watch = world.cluster.client.watch(
            Resource("", "v1", "endpoints"), NS, labels="test-endpoint-static=true", resource_version=start
        )
        async with closing(watch) as events:
            async for event in events:
                kinds.append(event.type)
                if event.type == "DELETED":
                    break
        assert kinds == ["MODIFIED", "MODIFIED", "DELETED"]

    play(scenario)


def test_the_status_of_a_service_lives_through_every_verb(play: Play) -> None:
    async def scenario(world: Any) -> None:
        wanted = service("status", type="LoadBalancer", loadBalancerClass="example.com/internal-vip")
        await world.ok("POST", f"{CORE}/services", wanted)
        path = f"{CORE}/services/status/status"
        assert (await world.ok("GET", path))["status"] == {"loadBalancer": {}}
        balancer = {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}
        patch = {"metadata": {"annotations": {"patchedstatus": "true"}}, "status": balancer}
        patched = await world.patch(path, patch)
        assert patched["status"]["loadBalancer"]["ingress"][0]["ip"] == "203.0.113.1"
        assert patched["metadata"]["annotations"] == {"patchedstatus": "true"}
        condition = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set by e2e test"}
        condition["lastTransitionTime"] = "2026-01-01T00:00:00Z"
        patched["status"]["conditions"] = [condition]
        updated = await world.ok("PUT", path, patched)
        assert updated["status"]["conditions"] == [condition]
        more = {"metadata": {"labels": {"test-service": "patched"}}}
        again = await world.patch(f"{CORE}/services/status", more, "strategic")
        assert again["metadata"]["labels"] == {"set": "a", "test-service": "patched"}
        await world.clock.sleep(60)
        assert (await world.ok("GET", path))["status"] == updated["status"]
        await world.ok("DELETE", f"{CORE}/services/status")
        assert (await world.http("GET", path)).status == 404

    play(scenario)


def test_a_collection_of_services_is_deleted_by_its_label(play: Play) -> None:
    async def scenario(world: Any) -> None:
        for name, label in (("one", "a"), ("two", "a"), ("three", "b")):
            made = service(name)
            made["metadata"]["labels"] = {"set": label}
            await world.ok("POST", f"{CORE}/services", made)
        mine = f"{CORE}/services?labelSelector=set"
        assert len((await world.ok("GET", mine))["items"]) == 3
        await world.ok("DELETE", f"{CORE}/services?labelSelector=set=a")
        assert [one["metadata"]["name"] for one in (await world.ok("GET", mine))["items"]] == ["three"]
        owners = {one["spec"]["parentRef"]["name"] for one in (await world.ok("GET", IPS))["items"]}
        assert owners == {"kubernetes", "three"}

    play(scenario)


IPS = "/apis/networking.k8s.io/v1/ipaddresses"


def test_the_service_of_the_api_server_is_there_with_endpoints_of_both_kinds(play: Play) -> None:
    async def scenario(world: Any) -> None:
        listed = await world.ok("GET", "/api/v1/services")
        found = {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in listed["items"]}
        ports = found["default", "kubernetes"]["spec"]["ports"]
        assert [(one["name"], one["port"]) for one in ports] == [("https", 443)]
        (subset,) = (await world.ok("GET", f"{CORE}/endpoints/kubernetes"))["subsets"]
        (held,) = await slices(world, "kubernetes")
        assert [one["ip"] for one in subset["addresses"]] == held["endpoints"][0]["addresses"]
        assert subset["ports"][0]["port"] == held["ports"][0]["port"]

    play(scenario)


def test_endpoints_of_a_new_service_are_there_at_once(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", f"{CORE}/pods", pod("pause", {"name": "svc-latency"}))
        await world.clock.sleep(5)
        took = []
        for number in range(100):
            since = world.clock.time()
            await world.ok("POST", f"{CORE}/services", service(f"latency-{number}", selector={"name": "svc-latency"}))
            while (await world.http("GET", f"{CORE}/endpoints/latency-{number}")).status == 404:
                await world.clock.sleep(0.001)
            took.append(world.clock.time() - since)
        assert max(took) < 1

    play(scenario)


def test_types_of_services_change_and_so_do_their_addresses(play: Play) -> None:
    async def scenario(world: Any) -> None:
        path = f"{CORE}/services/changing"
        await world.ok("POST", f"{CORE}/services", service("changing", type="ExternalName", externalName="x.example"))
        back = {"spec": {"type": "NodePort", "externalName": None}}
        for kind in ("ClusterIP", "NodePort"):
            held = await world.patch(path, {"spec": {**back["spec"], "type": kind}})
            assert held["spec"]["clusterIP"].startswith("10.96.")
            assert bool(held["spec"]["ports"][0].get("nodePort")) is (kind == "NodePort")
            gone = {"type": "ExternalName", "externalName": "x.example", "clusterIP": "", "clusterIPs": None}
            held = await world.patch(path, {"spec": gone})
            assert "clusterIP" not in held["spec"]
            assert {one["spec"]["parentRef"]["name"] for one in (await world.ok("GET", IPS))["items"]} == {"kubernetes"}

    play(scenario)
