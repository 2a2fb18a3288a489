"""ResourceQuotas: what they count, when they refuse, and that what goes is given back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tiphys.client.resources import RESOURCE_QUOTAS

Play = Callable[..., None]
NS = "/api/v1/namespaces/default"
QUOTAS = f"{NS}/resourcequotas"
CONTAINER = {"name": "c", "image": "nginx"}
LABELS = {"app": "counted"}
TEMPLATE = {"metadata": {"labels": LABELS}, "spec": {"containers": [CONTAINER]}}


def quota(hard: dict[str, str], **spec: Any) -> dict[str, Any]:
    meta = {"name": "test", "labels": {"purpose": "quota"}}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": hard, **spec}}


def pod(name: str, requests: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    container = {**CONTAINER, "resources": {"requests": requests}} if requests else CONTAINER
    spec = {"containers": [container], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def limited(name: str, **spec: Any) -> dict[str, Any]:
    resources = {"requests": {"cpu": "100m"}, "limits": {"cpu": "1", "memory": "1Gi"}}
    return pod(name, **{"containers": [{**CONTAINER, "resources": resources}], **spec})


async def used(world: Any, wanted: dict[str, str], name: str = "test") -> None:
    """Wait until the quota's status says that so much is used."""

    def said(obj: Any) -> bool:
        found = (obj.get("status") or {}).get("used") or {}
        return all(found.get(resource) == amount for resource, amount in wanted.items())

    await world.cluster.wait(RESOURCE_QUOTAS, "default", name, said, timeout=20)


OBJECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "configmaps": (
        f"{NS}/configmaps",
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "data": {"a": "b"}},
    ),
    "secrets": (f"{NS}/secrets", {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "one"}}),
    "services": (
        f"{NS}/services",
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "one"}, "spec": {"ports": [{"port": 80}]}},
    ),
    "replicationcontrollers": (
        f"{NS}/replicationcontrollers",
        {
            "apiVersion": "v1",
            "kind": "ReplicationController",
            "metadata": {"name": "one"},
            "spec": {"replicas": 0, "selector": LABELS, "template": TEMPLATE},
        },
    ),
    "count/replicasets.apps": (
        "/apis/apps/v1/namespaces/default/replicasets",
        {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {"name": "one"},
            "spec": {"replicas": 0, "selector": {"matchLabels": LABELS}, "template": TEMPLATE},
        },
    ),
}


@pytest.mark.parametrize("resource", OBJECTS)
def test_an_object_is_counted_while_it_lives(play: Play, resource: str) -> None:
    path, body = OBJECTS[resource]

    async def scenario(world: Any) -> None:
        await world.clock.sleep(5)
        before = len((await world.ok("GET", path))["items"])
        await world.ok("POST", QUOTAS, quota({resource: str(before + 1)}))
        await used(world, {resource: str(before)})
        await world.ok("POST", path, body)
        await used(world, {resource: str(before + 1)})
        refused = await world.ask("POST", path, {**body, "metadata": {"name": "two"}})
        assert (refused["code"], refused["reason"]) == (403, "Forbidden")
        assert f"exceeded quota: test, requested: {resource}=1, used: {resource}={before + 1}" in refused["message"]
        await world.ok("DELETE", f"{path}/one?propagationPolicy=Background")
        await used(world, {resource: str(before)})
        await world.ok("POST", path, {**body, "metadata": {"name": "two"}})

    play(scenario)


def test_services_of_each_type_are_counted(play: Play) -> None:
    async def scenario(world: Any) -> None:
        hard = {"services": "10", "services.nodeports": "1", "services.loadbalancers": "1"}
        await world.ok("POST", QUOTAS, quota(hard))
        path, body = OBJECTS["services"]
        await used(world, {"services": "1", "services.nodeports": "0"})
        node_port = {**body["spec"], "type": "NodePort"}
        balancer = {**body["spec"], "type": "LoadBalancer", "allocateLoadBalancerNodePorts": False}
        await world.ok("POST", path, {**body, "metadata": {"name": "n"}, "spec": node_port})
        await world.ok("POST", path, {**body, "metadata": {"name": "l"}, "spec": balancer})
        await used(world, {"services": "3", "services.nodeports": "1", "services.loadbalancers": "1"})
        assert (await world.ask("POST", path, {**body, "metadata": {"name": "m"}, "spec": node_port}))["code"] == 403
        await world.ok("DELETE", f"{path}/n")
        await world.ok("DELETE", f"{path}/l")
        await used(world, {"services": "1", "services.nodeports": "0", "services.loadbalancers": "0"})

    play(scenario)


def test_a_pod_is_counted_with_what_it_asks_for(play: Play) -> None:
    async def scenario(world: Any) -> None:
        hard = {"pods": "5", "cpu": "1", "memory": "500Mi", "requests.example.com/dongle": "3"}
        await world.ok("POST", QUOTAS, quota(hard))
        await used(world, {"pods": "0", "cpu": "0"})
        dongles = {"example.com/dongle": "2"}
        asked = {"cpu": "500m", "memory": "252Mi", **dongles}
        body = pod("one", asked)
        body["spec"]["containers"][0]["resources"]["limits"] = dongles
        await world.ok("POST", f"{NS}/pods", body)
        await used(world, {"pods": "1", "cpu": "500m", "memory": "252Mi", "requests.example.com/dongle": "2"})
        refused = await world.ask("POST", f"{NS}/pods", pod("two", {"cpu": "600m", "memory": "100Mi"}))
        assert "exceeded quota: test, requested: cpu=600m, used: cpu=500m, limited: cpu=1" in refused["message"]
        nothing = await world.ask("POST", f"{NS}/pods", pod("three"))
        assert nothing["code"] == 403
        assert "failed quota: test: must specify cpu for: c; memory for: c" in nothing["message"]
        changed = {"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}}
        grown = await world.http(
            "PATCH", f"{NS}/pods/one", changed, content_type="application/strategic-merge-patch+json"
        )
        assert grown.status in (403, 422)
        await used(world, {"cpu": "500m"})
        await world.ok("DELETE", f"{NS}/pods/one?gracePeriodSeconds=0")
        await used(world, {"pods": "0", "cpu": "0", "memory": "0", "requests.example.com/dongle": "0"})

    play(scenario)


@pytest.mark.parametrize(
    ("scope", "opposite", "inside", "outside"),
    [
        ("BestEffort", "NotBestEffort", pod("one"), limited("one")),
        ("Terminating", "NotTerminating", limited("one", activeDeadlineSeconds=3600), limited("one")),
    ],
)
def test_scopes_choose_the_pods_that_are_counted(
    play: Play, scope: str, opposite: str, inside: dict[str, Any], outside: dict[str, Any]
) -> None:
    async def scenario(world: Any) -> None:
        for name, one in (("in", scope), ("out", opposite)):
            body = quota({"pods": "5"}, scopes=[one])
            await world.ok("POST", QUOTAS, {**body, "metadata": {"name": name}})
            await used(world, {"pods": "0"}, name)
        for body, counts in ((inside, ("1", "0")), (outside, ("0", "1"))):
            await world.ok("POST", f"{NS}/pods", body)
            await used(world, {"pods": counts[0]}, "in")
            await used(world, {"pods": counts[1]}, "out")
            await world.ok("DELETE", f"{NS}/pods/one?gracePeriodSeconds=0")
            await used(world, {"pods": "0"}, "in")
            await used(world, {"pods": "0"}, "out")

    play(scenario)


def test_a_pod_that_gets_a_deadline_is_counted_by_other_quotas_at_once(play: Play) -> None:
    async def scenario(world: Any) -> None:
        for name, scope in (("in", "Terminating"), ("out", "NotTerminating")):
            body = quota({"pods": "1"}, scopes=[scope])
            await world.ok("POST", QUOTAS, {**body, "metadata": {"name": name}})
            await used(world, {"pods": "0"}, name)
        await world.ok("POST", f"{NS}/pods", limited("one"))
        await used(world, {"pods": "1"}, "out")
        await world.patch(f"{NS}/pods/one", {"spec": {"activeDeadlineSeconds": 3600}})
        refused = await world.ask("POST", f"{NS}/pods", limited("two", activeDeadlineSeconds=3600))
        assert "exceeded quota: in, requested: pods=1, used: pods=1, limited: pods=1" in refused["message"]
        await used(world, {"pods": "0"}, "out")

    play(scenario, nodes=0)


def test_a_quota_lives_through_every_verb(play: Play) -> None:
    async def scenario(world: Any) -> None:
        made = await world.ok("POST", QUOTAS, quota({"cpu": "500m", "memory": "500Mi"}))
        listed = await world.ok("GET", "/api/v1/resourcequotas?labelSelector=purpose=quota")
        assert len(listed["items"]) == 1
        made["spec"]["hard"]["memory"] = "1Gi"
        updated = await world.ok("PUT", f"{QUOTAS}/test", {**made, "metadata": {"name": "test"}})
        assert updated["spec"]["hard"] == {"cpu": "500m", "memory": "1Gi"}
        patched = await world.patch(f"{QUOTAS}/test", {"spec": {"hard": {"cpu": "1"}}}, "strategic")
        assert patched["spec"]["hard"] == {"cpu": "1", "memory": "1Gi"}
        await used(world, {"cpu": "0", "memory": "0"})
        await world.ok("DELETE", f"{QUOTAS}/test")
        assert (await world.ask("GET", f"{QUOTAS}/test"))["code"] == 404
        await world.ok("POST", QUOTAS, quota({"pods": "1"}))
        await world.ok("DELETE", f"{QUOTAS}?labelSelector=purpose=quota")
        assert (await world.ok("GET", QUOTAS))["items"] == []

    play(scenario)


def test_a_status_that_somebody_else_wrote_is_put_right_with_the_next_full_count(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", QUOTAS, quota({"cpu": "500m", "memory": "500Mi"}))
        await used(world, {"cpu": "0"})
        wrong = {"status": {"hard": {"cpu": "2", "memory": "2Gi"}}}
        shown = await world.patch(f"{QUOTAS}/test/status", wrong, "strategic")
        assert shown["status"]["hard"] == {"cpu": "2", "memory": "2Gi"}
        assert shown["spec"]["hard"] == {"cpu": "500m", "memory": "500Mi"}
        await world.clock.sleep(301)
        assert (await world.ok("GET", f"{QUOTAS}/test"))["status"]["hard"] == {"cpu": "500m", "memory": "500Mi"}

    play(scenario)
