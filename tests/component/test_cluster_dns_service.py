"""The name servers' Service and its slices, on the real API server and on virtual time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from tiphys.client.resources import ENDPOINT_SLICES, NODES, SERVICES
from tiphys.client.types import MERGE_PATCH, Object
from tiphys.controllers.base import service_account
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

NS, NAME = "kube-system", "kube-dns"
SETTINGS: dict[str, object] = {"cluster-dns": "10.96.0.10"}
SERVES = {"metadata": {"labels": {"tiphys.io/cluster-dns": "true", "topology.kubernetes.io/zone": "here"}}}


def play(scenario: Callable[[Cluster], Coroutine[Any, Any, None]], **options: Any) -> None:
    clock = VirtualClock()

    async def main() -> None:
        wanted = {"nodes": 2, "controllers": "cluster-dns-controller", "settings": SETTINGS, **options}
        async with Cluster(clock, **wanted) as cluster:
            await scenario(cluster)

    try:
        clock.run(main())
    finally:
        clock.close()


async def settled(cluster: Cluster) -> tuple[Object, list[Object]]:
    """The Service and its slices after a while."""
    await cluster.clock.sleep(5)
    service = await cluster.client.get(SERVICES, NAME, NS)
    return service, await slices(cluster)


async def slices(cluster: Cluster) -> list[Object]:
    found = await cluster.client.list(ENDPOINT_SLICES, NS, labels=f"kubernetes.io/service-name={NAME}")
    return list(found.items)


async def serve(cluster: Cluster, node: str, address: str) -> None:
    """Have a node run a name server at that address."""
    await cluster.client.patch(NODES, node, SERVES, type=MERGE_PATCH)
    told = {
        "status": {"addresses": [{"type": "Hostname", "address": node}, {"type": "InternalIP", "address": address}]}
    }
    await cluster.client.patch(NODES, node, told, type=MERGE_PATCH, subresource="status")


async def node_names(cluster: Cluster) -> list[str]:
    return sorted(node["metadata"]["name"] for node in (await cluster.client.list(NODES)).items)


def test_the_service_has_its_address_and_an_endpoint_for_each_node_that_says_so() -> None:
    async def scenario(cluster: Cluster) -> None:
        first, _ = await node_names(cluster)
        await serve(cluster, first, "10.89.0.2")
        service, (held,) = await settled(cluster)
        assert service["spec"]["clusterIP"] == "10.96.0.10"
        assert service["spec"]["trafficDistribution"] == "PreferSameNode"
        assert service["metadata"]["labels"]["k8s-app"] == NAME
        assert [(each["name"], each["port"]) for each in held["ports"]] == [
            ("dns", 10053),
            ("dns-tcp", 10053),
            ("metrics", 9153),
        ]
        (endpoint,) = held["endpoints"]
        assert endpoint == {
            "addresses": ["10.89.0.2"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": first,
            "zone": "here",
            "hints": {"forNodes": [{"name": first}], "forZones": [{"name": "here"}]},
        }

    play(scenario)


def test_nodes_that_come_go_or_fail_are_followed() -> None:
    async def scenario(cluster: Cluster) -> None:
        first, second = await node_names(cluster)
        await serve(cluster, first, "10.89.0.2")
        await serve(cluster, second, "10.89.0.3")
        _, (held,) = await settled(cluster)
        assert [each["nodeName"] for each in held["endpoints"]] == [first, second]
        await cluster.client.delete(NODES, first)
        down = {"conditions": [{"type": "Ready", "status": "Unknown"}]}
        await cluster.client.patch(NODES, second, {"status": down}, type=MERGE_PATCH, subresource="status")
        _, (held,) = await settled(cluster)
        (endpoint,) = held["endpoints"]
        assert endpoint["conditions"] == {"ready": False, "serving": False, "terminating": False}
        assert "hints" not in endpoint

    play(scenario)


def test_what_is_deleted_or_spoilt_comes_back() -> None:
    async def scenario(cluster: Cluster) -> None:
        before, (held,) = await settled(cluster)
        await cluster.client.delete(ENDPOINT_SLICES, held["metadata"]["name"], NS)
        await cluster.client.delete(SERVICES, NAME, NS)
        after, (again,) = await settled(cluster)
        assert after["metadata"]["uid"] != before["metadata"]["uid"]
        assert again["metadata"]["ownerReferences"][0]["uid"] == after["metadata"]["uid"]
        spoilt = {"ports": [{"name": "dns", "port": 1, "protocol": "UDP"}]}
        await cluster.client.patch(ENDPOINT_SLICES, again["metadata"]["name"], spoilt, NS, type=MERGE_PATCH)
        _, (mended,) = await settled(cluster)
        assert mended["ports"] == again["ports"]

    play(scenario)


def test_a_service_that_selects_pods_is_its_users_own() -> None:
    async def scenario(cluster: Cluster) -> None:
        _, found = await settled(cluster)
        assert found
        own = {"spec": {"selector": {"app": "mine"}}}
        await cluster.client.patch(SERVICES, NAME, own, NS, type=MERGE_PATCH)
        service, found = await settled(cluster)
        assert service["spec"]["selector"] == {"app": "mine"}
        assert found == []

    play(scenario)


def test_its_own_account_has_the_rights_that_it_needs_and_no_more() -> None:
    async def scenario(cluster: Cluster) -> None:
        account = cluster.connect(service_account("cluster-dns-controller"))
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview"}
        answer = await account.call(
            "POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", {**review, "spec": {"namespace": NS}}
        )
        rules = {
            (verb, resource)
            for rule in answer["status"]["resourceRules"]
            for verb in rule["verbs"]
            for resource in rule["resources"]
        }
        assert ("create", "services") in rules
        assert ("update", "endpointslices") in rules
        assert ("delete", "services") not in rules
        assert ("list", "secrets") not in rules

    play(scenario)


def test_without_the_setting_there_is_nothing() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.clock.sleep(5)
        found = await cluster.client.list(SERVICES, NS)
        assert [each["metadata"]["name"] for each in found.items] == []

    play(scenario, settings={"root-ca": "test certificate"})
