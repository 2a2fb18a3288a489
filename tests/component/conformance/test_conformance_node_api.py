"""What the suite asks of the API for nodes and pods: objects that live through every verb, refusals, generations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tiphys.client.streams import closing
from tiphys.client.types import Resource

Play = Callable[..., None]
DEFAULT = "/api/v1/namespaces/default"
PODS = f"{DEFAULT}/pods"
NEVER = "registry.k8s.io/pause:3.10.2"


@dataclass(frozen=True)
class Api:
    """One API, an object of it and a merge patch that changes it."""

    group: str
    plural: str
    kind: str
    fields: dict[str, Any]
    change: dict[str, Any]
    namespaced: bool = True

    @property
    def path(self) -> str:
        root = f"/apis/{self.group}/v1" if self.group else "/api/v1"
        return f"{root}/namespaces/default/{self.plural}" if self.namespaced else f"{root}/{self.plural}"

    def object(self, name: str, **labels: str) -> dict[str, Any]:
        version = f"{self.group}/v1" if self.group else "v1"
        meta = {"name": name, "labels": {"purpose": "conformance", **labels}}
        return {"apiVersion": version, "kind": self.kind, "metadata": meta, **self.fields}


TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "busybox"}]}}
CLAIM = {"devices": {"requests": [{"name": "one", "exactly": {"deviceClassName": "class"}}]}}
SLICE = {"driver": "example.com", "nodeName": "node-1", "pool": {"name": "p", "resourceSliceCount": 1}}
APIS = (
    Api("", "configmaps", "ConfigMap", {"data": {"a": "1"}}, {"data": {"a": "2"}}),
    Api("", "secrets", "Secret", {"data": {"a": "MQ=="}}, {"data": {"a": "Mg=="}}),
    Api("", "podtemplates", "PodTemplate", {"template": TEMPLATE}, {"template": {"metadata": {"labels": {"a": "c"}}}}),
    Api(
        "coordination.k8s.io",
        "leases",
        "Lease",
        {"spec": {"holderIdentity": "me", "leaseDurationSeconds": 30, "leaseTransitions": 0}},
        {"spec": {"leaseDurationSeconds": 60, "leaseTransitions": 1}},
    ),
    Api(
        "node.k8s.io",
        "runtimeclasses",
        "RuntimeClass",
        {"handler": "runc"},
        {"metadata": {"labels": {"n": "y"}}},
        False,
    ),
    Api(
        "resource.k8s.io",
        "deviceclasses",
        "DeviceClass",
        {"spec": {"selectors": [{"cel": {"expression": "true"}}]}},
        {"spec": {"selectors": [{"cel": {"expression": "false"}}]}},
        namespaced=False,
    ),
    Api("resource.k8s.io", "resourceclaims", "ResourceClaim", {"spec": CLAIM}, {"metadata": {"labels": {"n": "y"}}}),
    Api(
        "resource.k8s.io",
        "resourceclaimtemplates",
        "ResourceClaimTemplate",
        {"spec": {"spec": CLAIM}},
        {"metadata": {"labels": {"n": "y"}}},
    ),
    Api(
        "resource.k8s.io",
        "resourceslices",
        "ResourceSlice",
        {"spec": SLICE},
        {"metadata": {"labels": {"n": "y"}}},
        False,
    ),
)
IDS = [api.kind for api in APIS]


def pod(name: str = "p", **spec: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "c", "image": NEVER}], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "x"}}, "spec": spec}


async def seen(world: Any, api: Api, count: int) -> list[tuple[str, str]]:
    """(type, name) of the next `count` changes of objects of the purpose, from the first on."""
    resource = Resource(api.group, "v1", api.plural)
    namespace = "default" if api.namespaced else ""
    found: list[tuple[str, str]] = []
    watch = world.cluster.client.watch(resource, namespace, labels="purpose=conformance", resource_version="1")
    async with closing(watch) as changes:
        async for change in changes:
            found.append((change.type, change.object["metadata"]["name"]))
            if len(found) == count:
                break
    return found


@pytest.mark.parametrize("api", APIS, ids=IDS)
def test_an_object_of_the_node_lives_through_every_verb(play: Play, api: Api) -> None:
    async def scenario(world: Any) -> None:
        group = f"/apis/{api.group}/v1" if api.group else "/api/v1"
        assert api.plural in {one["name"] for one in (await world.ok("GET", group))["resources"]}
        made = await world.ok("POST", api.path, api.object("one"))
        assert (await world.ok("GET", f"{api.path}/one"))["metadata"]["uid"] == made["metadata"]["uid"]
        patched = await world.patch(f"{api.path}/one", api.change)
        assert int(patched["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
        patched["metadata"].setdefault("annotations", {})["updated"] = "yes"
        updated = await world.ok("PUT", f"{api.path}/one", patched)
        assert updated["metadata"]["annotations"]["updated"] == "yes"
        listed = await world.ok("GET", f"{api.path}?labelSelector=purpose=conformance")
        assert [item["metadata"]["name"] for item in listed["items"]] == ["one"]
        await world.ok("DELETE", f"{api.path}/one")
        assert (await world.ask("GET", f"{api.path}/one"))["code"] == 404
        for name in ("two", "three"):
            await world.ok("POST", api.path, api.object(name))
        await world.ok("DELETE", f"{api.path}?labelSelector=purpose=conformance")
        assert (await world.ok("GET", f"{api.path}?labelSelector=purpose=conformance"))["items"] == []
        assert await seen(world, api, 4) == [
            ("ADDED", "one"),
            ("MODIFIED", "one"),
            ("MODIFIED", "one"),
            ("DELETED", "one"),
        ]

    play(scenario, controllers=False)


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
def test_an_empty_key_is_refused(play: Play, kind: str) -> None:
    async def scenario(world: Any) -> None:
        body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}, "data": {"": "dmFsdWU="}}
        refused = await world.ask("POST", f"{DEFAULT}/{kind.lower()}s", body)
        assert (refused["code"], refused["reason"]) == (422, "Invalid")
        assert refused["details"]["causes"][0]["field"] == "data[]"

    play(scenario, controllers=False)


def test_a_pod_of_an_unknown_runtime_class_is_refused(play: Play) -> None:
    async def scenario(world: Any) -> None:
        refused = await world.ask("POST", PODS, pod(runtimeClassName="none"))
        assert (refused["code"], refused["reason"]) == (403, "Forbidden")
        classes = "/apis/node.k8s.io/v1/runtimeclasses"
        await world.ok("POST", classes, {"kind": "RuntimeClass", "metadata": {"name": "gone"}, "handler": "runc"})
        await world.ok("DELETE", f"{classes}/gone")
        refused = await world.ask("POST", PODS, pod(runtimeClassName="gone"))
        assert (refused["code"], refused["reason"]) == (403, "Forbidden")

    play(scenario)


@pytest.mark.parametrize("overhead", [None, {"podFixed": {"cpu": "10m", "memory": "1Mi"}}])
def test_a_pod_of_a_runtime_class_gets_its_overhead_and_is_scheduled(play: Play, overhead: Any) -> None:
    async def scenario(world: Any) -> None:
        body = {"kind": "RuntimeClass", "metadata": {"name": "c"}, "handler": "runc"}
        await world.ok(
            "POST", "/apis/node.k8s.io/v1/runtimeclasses", body | ({"overhead": overhead} if overhead else {})
        )
        made = await world.ok("POST", PODS, pod(runtimeClassName="c"))
        assert made["spec"].get("overhead") == (overhead or {}).get("podFixed")
        pods = Resource("", "v1", "pods")
        await world.cluster.wait(pods, "default", "p", lambda obj: bool(obj["spec"].get("nodeName")), timeout=30)

    play(scenario)


def test_a_node_lives_through_every_verb(play: Play) -> None:
    async def scenario(world: Any) -> None:
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {"made": "here"}}}
        made = await world.ok("POST", "/api/v1/nodes", body)
        made["metadata"]["labels"]["updated"] = "yes"
        await world.ok("PUT", "/api/v1/nodes/n", made)
        await world.patch("/api/v1/nodes/n", {"metadata": {"labels": {"patched": "yes"}}}, "strategic")
        condition = {"type": "Tested", "status": "True", "reason": "Set", "message": "by a test"}
        answer = await world.patch("/api/v1/nodes/n/status", {"status": {"conditions": [condition]}}, "strategic")
        assert answer["status"]["conditions"][0]["type"] == "Tested"
        listed = await world.ok("GET", "/api/v1/nodes?labelSelector=made=here")
        assert listed["items"][0]["metadata"]["labels"] == {"made": "here", "updated": "yes", "patched": "yes"}
        await world.ok("DELETE", "/api/v1/nodes?labelSelector=made=here")
        assert (await world.ask("GET", "/api/v1/nodes/n"))["code"] == 404

    play(scenario, controllers=False)


QUALITIES = {
    "Guaranteed": {"requests": {"cpu": "1", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}},
    "Burstable": {"requests": {"cpu": "1"}},
    "BestEffort": {},
}


@pytest.mark.parametrize("quality", QUALITIES)
def test_the_quality_of_service_is_in_the_status_of_a_new_pod(play: Play, quality: str) -> None:
    async def scenario(world: Any) -> None:
        containers = [{"name": "c", "image": NEVER, "resources": QUALITIES[quality]}]
        assert (await world.ok("POST", PODS, pod(containers=containers)))["status"]["qosClass"] == quality

    play(scenario)


def test_a_collection_of_pods_is_deleted_by_its_label(play: Play) -> None:
    async def scenario(world: Any) -> None:
        for name in ("one", "two", "three"):
            await world.ok("POST", PODS, pod(name))
        await world.ok("POST", PODS, pod("other") | {"metadata": {"name": "other"}})
        await world.ok("DELETE", f"{PODS}?labelSelector=app=x", {"kind": "DeleteOptions", "gracePeriodSeconds": 0})
        left = await world.ok("GET", PODS)
        assert [item["metadata"]["name"] for item in left["items"]] == ["other"]

    play(scenario)


def test_a_pods_generation_counts_the_changes_of_its_spec(play: Play) -> None:
    async def scenario(world: Any) -> None:
        body = pod()
        body["metadata"]["generation"] = 100
        assert (await world.ok("POST", PODS, body))["metadata"]["generation"] == 1
        path = f"{PODS}/p"
        changes = (
            ({"metadata": {"labels": {"app": "y"}}}, 1),
            ({"spec": {"activeDeadlineSeconds": 5000}}, 2),
            ({"spec": {"tolerations": [{"key": "k", "operator": "Exists", "effect": "NoSchedule"}]}}, 3),
            ({"spec": {"activeDeadlineSeconds": 5000}}, 3),
        )
        for change, generation in changes:
            assert (await world.patch(path, change))["metadata"]["generation"] == generation
        await world.patch(f"{path}/status", {"status": {"message": "not of the spec"}})
        assert (await world.ok("GET", path))["metadata"]["generation"] == 3
        pods = Resource("", "v1", "pods")
        await world.cluster.wait(pods, "default", "p", lambda obj: bool(obj["spec"].get("nodeName")), timeout=30)
        assert (await world.ok("DELETE", path))["metadata"]["generation"] == 4

    play(scenario)


def test_the_status_of_a_pod_is_patched_by_whoever_may(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", PODS, pod())
        patched = await world.patch(f"{PODS}/p/status", {"status": {"message": "patched"}}, "strategic")
        assert patched["status"]["message"] == "patched"
        assert (await world.ok("GET", f"{PODS}/p/status"))["status"]["message"] == "patched"

    play(scenario)
