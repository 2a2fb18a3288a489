"""Groups that somebody else in the API server's process answers for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tiphys.apiserver.aggregation.extension import Extension
from tiphys.apiserver.config import ApiServerConfig
from tiphys.base.errors import ApiError, Forbidden
from tiphys.base.http.types import Request, Response
from tiphys.base.identity import User
from tiphys.client.types import Resource
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

SERVICES = Resource("apiregistration.k8s.io", "v1", "apiservices", namespaced=False)
ROLES = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", namespaced=False)
ROLE = {
    "kind": "ClusterRole",
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "metadata": {"name": "things-reader", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
    "rules": [{"verbs": ["get"], "apiGroups": ["things.example.com"], "resources": ["things"]}],
}
THINGS = ({"name": "things", "singularName": "", "namespaced": False, "kind": "Thing", "verbs": ["get", "list"]},)


async def answer(request: Request) -> Response:
    assert request.user is not None
    found = {"kind": "Thing", "path": request.path, "user": request.user.name}
    if request.local:
        return Response(200, obj=found)
    return Response(200, {"Content-Type": "application/json"}, json.dumps(found).encode())


def cluster(clock: VirtualClock) -> Cluster:
    extension = Extension("things.example.com", "v1", answer, THINGS, (ROLE,))
    return Cluster(clock, nodes=0, config=ApiServerConfig(extensions=(extension,)))


def run(scenario: Any) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with cluster(clock) as world:
            await scenario(world)

    clock.run(main())


def test_requests_for_the_group_go_to_its_handler_with_their_user() -> None:
    async def scenario(world: Cluster) -> None:
        found = await world.client.call("GET", "/apis/things.example.com/v1/things/a")
        assert found == {"kind": "Thing", "path": "/apis/things.example.com/v1/things/a", "user": "kubernetes-admin"}

    run(scenario)


def test_the_group_is_in_discovery_with_a_local_api_service() -> None:
    async def scenario(world: Cluster) -> None:
        groups = await world.client.call("GET", "/apis")
        assert "things.example.com" in {one["name"] for one in groups["groups"]}
        accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        document = await world.client.call("GET", "/apis", accept=accept)
        item = next(one for one in document["items"] if one["metadata"]["name"] == "things.example.com")
        assert [one["resource"] for one in item["versions"][0]["resources"]] == ["things"]
        service = await world.client.get(SERVICES, "v1.things.example.com")
        condition = service["status"]["conditions"][0]
        assert (condition["type"], condition["status"], condition["reason"]) == ("Available", "True", "Local")

    run(scenario)


def test_its_roles_are_made_and_access_is_asked_for() -> None:
    async def scenario(world: Cluster) -> None:
        assert (await world.client.get(ROLES, "things-reader"))["rules"] == ROLE["rules"]
        nobody = world.connect(User("bob", groups=("system:authenticated",)))
        with pytest.raises(Forbidden, match=r'cannot get resource "things" in API group "things\.example\.com"'):
            await nobody.call("GET", "/apis/things.example.com/v1/things/a")

    run(scenario)


def test_without_extensions_there_is_no_such_group() -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, nodes=0) as world:
            groups = await world.client.call("GET", "/apis")
            assert not {"things.example.com", "metrics.k8s.io"} & {one["name"] for one in groups["groups"]}

    clock.run(main())


def test_an_api_service_with_a_service_takes_over() -> None:
    async def scenario(world: Cluster) -> None:
        service = await world.client.get(SERVICES, "v1.things.example.com")
        spec = {
            **service["spec"],
            "service": {"namespace": "default", "name": "other", "port": 443},
            "insecureSkipTLSVerify": True,
        }
        await world.client.update(SERVICES, {**service, "spec": spec})
        with pytest.raises(ApiError, match="service unavailable"):  # there is no such Service yet
            await world.client.call("GET", "/apis/things.example.com/v1/things/a")
        await world.client.delete(SERVICES, "v1.things.example.com")
        found = await world.client.call("GET", "/apis/things.example.com/v1/things/a")
        assert found["kind"] == "Thing"

    run(scenario)
