"""Manifests of the past: accepted, stored as today's version, shown in theirs, with a warning that names today's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

Play = Callable[[Callable[[Any], Awaitable[None]]], None]
LABELS = {"app": "web"}
TEMPLATE = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}}


def url(api_version: str, plural: str, name: str = "", namespace: str = "default") -> str:
    place = f"namespaces/{namespace}/" if namespace else ""
    return f"/apis/{api_version}/{place}{plural}" + (f"/{name}" if name else "")


async def create(world: Any, api_version: str, plural: str, kind: str, namespace: str = "default", **body: Any) -> Any:
    name = body.pop("name", "web")
    made = await world.http(
        "POST",
        url(api_version, plural, namespace=namespace) + "?fieldValidation=Strict",
        {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **body},
    )
    assert made.status == 201, made.body
    assert f"{api_version} {kind} is deprecated in" in made.headers["Warning"]
    return await world.json("GET", url(api_version, plural, name, namespace))


@pytest.mark.parametrize(
    ("api_version", "limit", "unavailable", "deadline"),
    [
        ("extensions/v1beta1", 2**31 - 1, 1, 2**31 - 1),
        ("apps/v1beta1", 2, "25%", 600),
        ("apps/v1beta2", 10, "25%", 600),
    ],
)
def test_deployments_have_the_defaults_of_their_version(
    play: Play, api_version: str, limit: int, unavailable: Any, deadline: int
) -> None:
    async def scenario(world: Any) -> None:
        spec: dict[str, Any] = {"template": TEMPLATE}
        if api_version == "apps/v1beta2":
            spec["selector"] = {"matchLabels": LABELS}
        shown = await create(world, api_version, "deployments", "Deployment", spec=spec)
        assert shown["apiVersion"] == api_version
        found = (await world.json("GET", url("apps/v1", "deployments", "web")))["spec"]
        assert found["selector"] == {"matchLabels": LABELS}
        assert found["revisionHistoryLimit"] == limit
        assert found["progressDeadlineSeconds"] == deadline
        assert found["strategy"]["rollingUpdate"]["maxUnavailable"] == unavailable

    play(scenario)


def test_a_rollback_is_an_annotation_today(play: Play) -> None:
    async def scenario(world: Any) -> None:
        spec = {"template": TEMPLATE, "rollbackTo": {"revision": 3}}
        shown = await create(world, "extensions/v1beta1", "deployments", "Deployment", spec=spec)
        assert shown["spec"]["rollbackTo"] == {"revision": 3}
        new = await world.json("GET", url("apps/v1", "deployments", "web"))
        assert "rollbackTo" not in new["spec"]
        assert new["metadata"]["annotations"] == {"deprecated.deployment.rollback.to": "3"}

    play(scenario)


@pytest.mark.parametrize("api_version", ["extensions/v1beta1", "networking.k8s.io/v1beta1"])
def test_an_ingress_of_names_and_ports(play: Play, api_version: str) -> None:
    async def scenario(world: Any) -> None:
        old = {"serviceName": "web", "servicePort": 80}
        spec = {
            "backend": {"serviceName": "other", "servicePort": "http"},
            "rules": [{"host": "x.io", "http": {"paths": [{"path": "/", "backend": old}]}}],
        }
        shown = await create(world, api_version, "ingresses", "Ingress", spec=spec)
        assert shown["spec"]["rules"][0]["http"]["paths"][0] == {
            "path": "/",
            "pathType": "ImplementationSpecific",
            "backend": old,
        }
        assert shown["spec"]["backend"] == spec["backend"]
        new = (await world.json("GET", url("networking.k8s.io/v1", "ingresses", "web")))["spec"]
        assert new["defaultBackend"] == {"service": {"name": "other", "port": {"name": "http"}}}
        assert new["rules"][0]["http"]["paths"][0]["backend"] == {"service": {"name": "web", "port": {"number": 80}}}

    play(scenario)


def test_a_patch_in_the_old_version_keeps_what_it_does_not_name(play: Play) -> None:
    async def scenario(world: Any) -> None:
        spec = {"backend": {"serviceName": "web", "servicePort": 80}}
        await create(world, "networking.k8s.io/v1beta1", "ingresses", "Ingress", spec=spec)
        merge = "application/merge-patch+json"
        where = url("networking.k8s.io/v1beta1", "ingresses", "web")
        await world.http("PATCH", where, {"spec": {"backend": {"servicePort": 81}}}, content_type=merge)
        new = await world.json("GET", url("networking.k8s.io/v1", "ingresses", "web"))
        assert new["spec"]["defaultBackend"] == {"service": {"name": "web", "port": {"number": 81}}}

    play(scenario)


def test_a_field_of_another_version_is_unknown(play: Play) -> None:
    async def scenario(world: Any) -> None:
        body = {"apiVersion": "networking.k8s.io/v1beta1", "kind": "Ingress", "metadata": {"name": "web"}}
        body |= {"spec": {"defaultBackend": {}}}
        where = url("networking.k8s.io/v1beta1", "ingresses") + "?fieldValidation=Strict"
        refused = await world.json("POST", where, body)
        assert 'unknown field "spec.defaultBackend"' in refused["message"]

    play(scenario)


def test_autoscalers_of_flat_metrics(play: Play) -> None:
    async def scenario(world: Any) -> None:
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
        metrics = [
            {"type": "Resource", "resource": {"name": "cpu", "targetAverageUtilization": 50}},
            {"type": "Pods", "pods": {"metricName": "rps", "targetAverageValue": "10"}},
        ]
        spec = {"scaleTargetRef": target, "maxReplicas": 5, "metrics": metrics}
        where = ("autoscaling/v2beta1", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
        shown = await create(world, *where, spec=spec)
        assert shown["spec"]["metrics"] == metrics
        new = (await world.json("GET", url("autoscaling/v2", where[1], "web")))["spec"]
        assert new["metrics"][0]["resource"] == {
            "name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 50},
        }
        assert new["metrics"][1]["pods"]["target"] == {"type": "AverageValue", "averageValue": "10"}
        later = await world.json("GET", url("autoscaling/v2beta2", where[1], "web"))
        assert later["spec"]["metrics"] == new["metrics"]

    play(scenario)


def test_an_empty_selector_of_a_budget_changed_its_meaning(play: Play) -> None:
    async def scenario(world: Any) -> None:
        where = ("poddisruptionbudgets", "PodDisruptionBudget")
        shown = await create(world, "policy/v1beta1", *where, spec={"minAvailable": 1, "selector": {}})
        assert shown["spec"]["selector"] == {}
        new = await world.json("GET", url("policy/v1", where[0], "web"))
        key = "pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match"
        assert new["spec"]["selector"] == {"matchExpressions": [{"key": key, "operator": "Exists"}]}

    play(scenario)


def test_zones_of_endpoints_were_topology(play: Play) -> None:
    async def scenario(world: Any) -> None:
        topology = {"topology.kubernetes.io/zone": "a", "kubernetes.io/hostname": "n1", "rack": "7"}
        endpoint = {"addresses": ["10.0.0.1"], "nodeName": "n1", "topology": topology}
        where = ("endpointslices", "EndpointSlice")
        shown = await create(
            world, "discovery.k8s.io/v1beta1", *where, addressType="IPv4", endpoints=[endpoint], ports=[]
        )
        assert shown["endpoints"][0]["topology"] == topology
        new = await world.json("GET", url("discovery.k8s.io/v1", where[0], "web"))
        assert new["endpoints"][0]["zone"] == "a"
        assert new["endpoints"][0]["deprecatedTopology"] == {"rack": "7"}

    play(scenario)


def test_a_definition_without_a_schema_keeps_unknown_fields(play: Play) -> None:
    async def scenario(world: Any) -> None:
        names = {"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList"}
        columns = [{"name": "Size", "type": "integer", "JSONPath": ".spec.size"}]
        spec = {"group": "x.io", "version": "v1", "names": names, "additionalPrinterColumns": columns}
        where = ("customresourcedefinitions", "CustomResourceDefinition", "")
        shown = await create(world, "apiextensions.k8s.io/v1beta1", *where, name="foos.x.io", spec=spec)
        assert (shown["spec"]["version"], shown["spec"]["additionalPrinterColumns"]) == ("v1", columns)
        new = await world.json("GET", url("apiextensions.k8s.io/v1", where[0], "foos.x.io", ""))
        version = new["spec"]["versions"][0]
        assert version["schema"]["openAPIV3Schema"] == {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        assert version["additionalPrinterColumns"][0]["jsonPath"] == ".spec.size"

    play(scenario)


def test_webhooks_of_the_past_fail_open(play: Play) -> None:
    async def scenario(world: Any) -> None:
        hook = {"name": "a.x.io", "clientConfig": {"url": "https://x.io/"}}
        where = ("validatingwebhookconfigurations", "ValidatingWebhookConfiguration", "")
        await create(world, "admissionregistration.k8s.io/v1beta1", *where, webhooks=[hook])
        new = await world.json("GET", url("admissionregistration.k8s.io/v1", where[0], "web", ""))
        found = new["webhooks"][0]
        assert (found["failurePolicy"], found["matchPolicy"], found["timeoutSeconds"]) == ("Ignore", "Exact", 30)
        assert (found["sideEffects"], found["admissionReviewVersions"]) == ("Unknown", ["v1beta1"])

    play(scenario)


def test_a_review_names_its_groups_group(play: Play) -> None:
    async def scenario(world: Any) -> None:
        attributes = {"verb": "get", "resource": "pods"}
        body = {
            "apiVersion": "authorization.k8s.io/v1beta1",
            "kind": "SubjectAccessReview",
            "spec": {"group": ["system:masters"], "resourceAttributes": attributes},
        }
        answer = await world.json("POST", "/apis/authorization.k8s.io/v1beta1/subjectaccessreviews", body)
        assert answer["status"]["allowed"] is True
        assert answer["spec"]["group"] == ["system:masters"]

    play(scenario)


def test_every_former_version_can_be_listed_and_is_discovered(play: Play) -> None:
    async def scenario(world: Any) -> None:
        former = [info for info in world.server.catalog.resources if info.legacy]
        assert len(former) > 40
        for info in former:
            listed = await world.json("GET", f"/apis/{info.api_version}")
            assert info.plural in {one["name"] for one in listed["resources"]}
            if info.storable:
                found = await world.json("GET", f"/apis/{info.api_version}/{info.plural}")
                assert (found["kind"], found["apiVersion"]) == (f"{info.kind}List", info.api_version)
                assert all(
                    item["apiVersion"] == info.api_version for item in found["items"][:1] if "apiVersion" in item
                )
            assert f"; use {info.stored_group}" in info.deprecated or "events.k8s.io" in info.deprecated

    play(scenario)
