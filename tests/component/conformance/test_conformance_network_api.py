"""APIs of the network as the suite asks them: discovery, every verb, the status, a watch that sees it all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tiphys.client.streams import closing
from tiphys.client.types import Resource

Play = Callable[..., None]
NETWORKING = "networking.k8s.io"
CONDITION = {
    "type": "Tested",
    "status": "True",
    "reason": "Test",
    "message": "set by a test",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}
RULE = {
    "http": {
        "paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "a", "port": {"number": 80}}}}]
    }
}


@dataclass(frozen=True)
class Api:
    """One API, and the fields of three objects of it besides their metadata."""

    group: str
    plural: str
    kind: str
    names: tuple[str, str, str]
    fields: tuple[dict[str, Any], dict[str, Any], dict[str, Any]]
    namespaced: bool = False
    status: dict[str, Any] = field(default_factory=dict)
    """A merge patch of the status; empty where there is none."""

    @property
    def path(self) -> str:
        where = "namespaces/default/" if self.namespaced else ""
        return f"/apis/{self.group}/v1/{where}{self.plural}"

    def objects(self) -> list[dict[str, Any]]:
        kind = {"apiVersion": f"{self.group}/v1", "kind": self.kind}
        return [
            {**kind, "metadata": {"name": name, "labels": {"purpose": "conformance"}}, **fields}
            for name, fields in zip(self.names, self.fields, strict=True)
        ]


def _slice(number: int) -> dict[str, Any]:
    endpoints = [{"addresses": [f"1.2.3.{number}", f"5.6.7.{number}"]}, {"addresses": [f"2.2.3.{number}"]}]
    return {"addressType": "IPv4", "endpoints": endpoints, "ports": []}


def _parent(number: int) -> dict[str, Any]:
    return {"spec": {"parentRef": {"resource": "services", "namespace": "default", "name": f"s{number}"}}}


APIS = (
    Api(
        "discovery.k8s.io",
        "endpointslices",
        "EndpointSlice",
        ("one", "two", "three"),
        (_slice(1), _slice(2), _slice(3)),
        namespaced=True,
    ),
    Api(
        NETWORKING,
        "ingresses",
        "Ingress",
        ("one", "two", "three"),
        ({"spec": {"rules": [RULE]}}, {"spec": {"rules": [RULE]}}, {"spec": {"rules": [{**RULE, "host": "h.x"}]}}),
        namespaced=True,
        status={"loadBalancer": {"ingress": [{"ip": "169.1.1.1"}]}},
    ),
    Api(
        NETWORKING,
        "ingressclasses",
        "IngressClass",
        ("one", "two", "three"),
        ({"spec": {"controller": "x.io/1"}}, {"spec": {"controller": "x.io/2"}}, {"spec": {"controller": "x.io/3"}}),
    ),
    Api(
        NETWORKING,
        "ipaddresses",
        "IPAddress",
        ("192.0.2.1", "192.0.2.2", "fd00::1"),
        (_parent(1), _parent(2), _parent(3)),
    ),
    Api(
        NETWORKING,
        "servicecidrs",
        "ServiceCIDR",
        ("one", "two", "three"),
        (
            {"spec": {"cidrs": ["192.0.2.0/24"]}},
            {"spec": {"cidrs": ["198.51.100.0/24", "fd00::/112"]}},
            {"spec": {"cidrs": ["fd01::/112"]}},
        ),
        status={"conditions": [CONDITION]},
    ),
)


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.plural)
def test_a_network_api_is_discovered(play: Play, api: Api) -> None:
    async def scenario(world: Any) -> None:
        groups = {one["name"]: one for one in (await world.ok("GET", "/apis"))["groups"]}
        assert "v1" in {one["version"] for one in groups[api.group]["versions"]}
        group = await world.ok("GET", f"/apis/{api.group}")
        assert f"{api.group}/v1" in {one["groupVersion"] for one in group["versions"]}
        listed = {one["name"] for one in (await world.ok("GET", f"/apis/{api.group}/v1"))["resources"]}
        assert api.plural in listed
        assert (f"{api.plural}/status" in listed) is bool(api.status)

    play(scenario, controllers="", nodes=0)


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.plural)
def test_every_verb_of_a_network_api_works_and_is_seen_by_a_watch(play: Play, api: Api) -> None:
    async def scenario(world: Any) -> None:
        marked = f"{api.path}?labelSelector=purpose=conformance"
        start = (await world.ok("GET", marked))["metadata"]["resourceVersion"]
        for obj in api.objects():
            made = await world.ok("POST", api.path, obj)
            read = await world.ok("GET", f"{api.path}/{made['metadata']['name']}")
            assert read["metadata"]["uid"] == made["metadata"]["uid"]
        everywhere = f"/apis/{api.group}/v1/{api.plural}?labelSelector=purpose=conformance"
        for where in (marked, everywhere):
            assert len((await world.ok("GET", where))["items"]) == 3
        first = f"{api.path}/{api.names[0]}"
        patched = await world.patch(first, {"metadata": {"annotations": {"patched": "true"}}})
        assert patched["metadata"]["annotations"] == {"patched": "true"}
        patched["metadata"]["annotations"]["updated"] = "true"
        updated = await world.ok("PUT", first, patched)
        assert updated["metadata"]["annotations"] == {"patched": "true", "updated": "true"}
        await world.ok("DELETE", first)
        assert (await world.http("GET", first)).status == 404
        await world.ok("DELETE", marked)
        assert (await world.ok("GET", marked))["items"] == []
        resource = Resource(api.group, "v1", api.plural, namespaced=api.namespaced)
        seen: list[tuple[str, str]] = []
        watch = world.cluster.client.watch(resource, labels="purpose=conformance", resource_version=start)
        async with closing(watch) as events:
            async for event in events:
                seen.append((event.type, event.object["metadata"]["name"]))
                if [kind for kind, _ in seen].count("DELETED") == 3:
                    break
        one = [kind for kind, name in seen if name == api.names[0]]
        assert one == ["ADDED", "MODIFIED", "MODIFIED", "DELETED"]

    play(scenario, controllers="", nodes=0)


@pytest.mark.parametrize("api", [api for api in APIS if api.status], ids=lambda api: api.plural)
def test_the_status_of_a_network_api_is_read_patched_and_updated(play: Play, api: Api) -> None:
    async def scenario(world: Any) -> None:
        made = await world.ok("POST", api.path, api.objects()[0])
        path = f"{api.path}/{api.names[0]}/status"
        assert (await world.ok("GET", path))["metadata"]["uid"] == made["metadata"]["uid"]
        note = {"metadata": {"annotations": {"patchedstatus": "true"}}}
        patched = await world.patch(path, {**note, "status": api.status})
        assert patched["metadata"]["annotations"] == {"patchedstatus": "true"}
        (name,) = api.status
        assert patched["status"][name]
        patched["status"] = {}
        updated = await world.ok("PUT", path, patched)
        assert name not in updated["status"] or not updated["status"][name]

    play(scenario, controllers="", nodes=0)
