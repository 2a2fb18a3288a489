"""Parameters and the matching of ValidatingAdmissionPolicies against a running server."""

from __future__ import annotations

from typing import Any

import pytest

from policy_world import POLICIES, World, deployment, holds, matching, run

KIND = {"apiVersion": "v1", "kind": "ConfigMap"}
LIMIT = holds("object.spec.replicas <= int(params.data.max)", paramKind=KIND)


def denied(answer: Any, text: str) -> None:
    assert answer["kind"] == "Status", answer
    assert answer["message"].endswith(text), answer["message"]


def test_a_parameter_by_name() -> None:
    async def scenario(world: World) -> None:
        reference = {"name": "limits", "namespace": "default", "parameterNotFoundAction": "Deny"}
        await world.validating(LIMIT, binding={"paramRef": reference})
        missing = "no params found for policy binding with `Deny` parameterNotFoundAction"
        denied(await world.deploy("a", 1), f"failed to configure binding: {missing}")
        await world.config("limits", {"max": "3"})
        denied(await world.deploy("a", 4), "failed expression: object.spec.replicas <= int(params.data.max)")
        assert (await world.deploy("a", 3))["kind"] == "Deployment"
        await world.http(
            "PATCH",
            "/api/v1/namespaces/default/configmaps/limits",
            {"data": {"max": "5"}},
            media="application/merge-patch+json",
        )
        assert (await world.deploy("b", 5))["kind"] == "Deployment"

    run(scenario)


def test_a_missing_parameter_may_be_allowed() -> None:
    async def scenario(world: World) -> None:
        reference = {"name": "limits", "namespace": "default", "parameterNotFoundAction": "Allow"}
        await world.validating(LIMIT, binding={"paramRef": reference})
        assert (await world.deploy("a", 9))["kind"] == "Deployment"

    run(scenario)


def test_parameters_by_label_all_count() -> None:
    async def scenario(world: World) -> None:
        reference = {"selector": {"matchLabels": {"limit": "yes"}}, "parameterNotFoundAction": "Deny"}
        await world.validating(LIMIT, binding={"paramRef": reference})
        await world.config("one", {"max": "5"}, labels={"limit": "yes"})
        await world.config("two", {"max": "3"}, labels={"limit": "yes"})
        await world.config("three", {"max": "1"})
        assert (await world.deploy("a", 3))["kind"] == "Deployment"
        denied(await world.deploy("b", 4), "int(params.data.max)")

    run(scenario)


def test_parameters_come_from_the_namespace_of_the_object_unless_one_is_named() -> None:
    async def scenario(world: World) -> None:
        await world.validating(LIMIT, binding={"paramRef": {"name": "limits", "parameterNotFoundAction": "Allow"}})
        await world.namespace("other")
        await world.config("limits", {"max": "2"}, "other")
        assert (await world.deploy("a", 9))["kind"] == "Deployment"
        denied(await world.deploy("a", 9, "other"), "int(params.data.max)")

    run(scenario)


def test_a_policy_with_parameters_may_be_bound_without() -> None:
    async def scenario(world: World) -> None:
        await world.validating(holds("params == null", paramKind=KIND))
        assert (await world.deploy("a", 1))["kind"] == "Deployment"

    run(scenario)


def test_an_unknown_kind_of_parameters_fails_the_policy() -> None:
    async def scenario(world: World) -> None:
        kind = {"apiVersion": "rules.example.com/v1", "kind": "Limit"}
        await world.validating(
            holds("true", paramKind=kind), binding={"paramRef": {"name": "x", "parameterNotFoundAction": "Allow"}}
        )
        what = "'rules.example.com/v1, Kind=Limit'"
        answer = await world.deploy("a", 1)
        denied(answer, f"failed to configure policy: failed to find resource referenced by paramKind: {what}")
        assert "ValidatingAdmissionPolicy 'policy' denied request: " in answer["message"]

    run(scenario)


def test_parameters_may_be_custom_resources() -> None:
    async def scenario(world: World) -> None:
        kind = {"apiVersion": "rules.example.com/v1", "kind": "Limit"}
        spec = holds("object.spec.replicas <= params.max", paramKind=kind)
        await world.validating(spec, binding={"paramRef": {"name": "x", "parameterNotFoundAction": "Allow"}})
        schema = {"type": "object", "properties": {"max": {"type": "integer"}}}
        definition = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "limits.rules.example.com"},
            "spec": {
                "group": "rules.example.com",
                "scope": "Cluster",
                "names": {"plural": "limits", "kind": "Limit", "singular": "limit", "listKind": "LimitList"},
                "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
            },
        }
        await world.json("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
        url = "/apis/rules.example.com/v1/limits"
        while (await world.http("GET", url)).status != 200:
            await world.server._clock.sleep(0.1)
        limit = {**kind, "metadata": {"name": "x"}, "max": 2}
        assert (await world.json("POST", url, limit))["kind"] == "Limit"
        assert (await world.deploy("a", 2))["kind"] == "Deployment"
        denied(await world.deploy("b", 3), "failed expression: object.spec.replicas <= params.max")

    run(scenario)


def test_namespaced_parameters_need_a_namespace() -> None:
    async def scenario(world: World) -> None:
        constraints = matching("", "v1", "nodes", "*")
        spec = holds("true", paramKind=KIND, constraints=constraints)
        await world.validating(spec, binding={"paramRef": {"name": "limits", "parameterNotFoundAction": "Allow"}})
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}
        text = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
        denied(await world.json("POST", "/api/v1/nodes", node), text)

    run(scenario)


@pytest.mark.parametrize(
    ("more", "concerned"),
    [
        ({"objectSelector": {"matchLabels": {"app": "a"}}}, False),
        ({"objectSelector": {"matchLabels": {"tier": "x"}}}, True),
        ({"namespaceSelector": {"matchLabels": {"env": "prod"}}}, True),
        ({"namespaceSelector": {"matchLabels": {"env": "test"}}}, False),
        ({"excludeResourceRules": [{**matching()["resourceRules"][0], "resourceNames": ["a"]}]}, False),
        ({"excludeResourceRules": [{**matching()["resourceRules"][0], "resourceNames": ["b"]}]}, True),
    ],
)
def test_selectors_and_exclusions(more: dict[str, Any], concerned: bool) -> None:
    async def scenario(world: World) -> None:
        await world.namespace("prod", env="prod")
        await world.validating(holds("false", constraints=matching(**more)))
        answer = await world.deploy("a", 1, "prod", labels={"tier": "x"})
        assert (answer["kind"] == "Status") is concerned

    run(scenario)


def test_a_binding_narrows_its_policy() -> None:
    async def scenario(world: World) -> None:
        await world.namespace("prod", env="prod")
        resources = {"namespaceSelector": {"matchLabels": {"env": "prod"}}}
        await world.validating(holds("false"), binding={"matchResources": resources})
        assert (await world.deploy("a", 1))["kind"] == "Deployment"
        assert (await world.deploy("a", 1, "prod"))["kind"] == "Status"

    run(scenario)


@pytest.mark.parametrize(("policy", "concerned"), [("Equivalent", True), ("Exact", False)])
def test_equivalent_versions_are_converted_for_expressions(policy: str, concerned: bool) -> None:
    async def scenario(world: World) -> None:
        constraints = matching("autoscaling", "v1", "horizontalpodautoscalers", matchPolicy=policy)
        expression = (
            "object.apiVersion == 'autoscaling/v1' && request.kind.version == 'v1' && "
            "request.requestKind.version == 'v2' && object.spec.targetCPUUtilizationPercentage > 50"
        )
        await world.validating(holds(expression, constraints=constraints))
        resource = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 40}}
        scaler = {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "s"},
            "spec": {
                "maxReplicas": 3,
                "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"},
                "metrics": [{"type": "Resource", "resource": resource}],
            },
        }
        url = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
        assert ((await world.json("POST", url, scaler))["kind"] == "Status") is concerned
        resource["target"] = {"type": "Utilization", "averageUtilization": 60}
        assert (await world.json("POST", url, {**scaler, "metadata": {"name": "t"}}))["kind"] != "Status"

    run(scenario)


def test_hostile_parameters_do_no_harm() -> None:
    async def scenario(world: World) -> None:
        spec = holds("object.metadata.name.matches(params.data.pattern)", paramKind=KIND)
        await world.validating(spec, binding={"paramRef": {"name": "p", "parameterNotFoundAction": "Deny"}})
        await world.config("p", {"pattern": "(a*)*(a*)*(a*)*$"})
        assert (await world.deploy("a" * 60, 1))["kind"] == "Deployment"
        url = "/api/v1/namespaces/default/configmaps/p"
        change = {"data": {"pattern": "(" * 500}}
        await world.http("PATCH", url, change, media="application/merge-patch+json")
        answer = await world.deploy("b", 1)
        assert "expression nests too deeply" in answer["message"]

    run(scenario)


def test_policies_that_match_nothing_cost_other_requests_nothing() -> None:
    async def scenario(world: World) -> None:
        spec = holds("object.broken.field", constraints=matching("apps", "v1", "statefulsets"))
        answer = await world.json(
            "POST",
            f"{POLICIES}/validatingadmissionpolicies",
            {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "ValidatingAdmissionPolicy",
                "metadata": {"name": "p"},
                "spec": spec,
            },
        )
        assert "must evaluate to bool but got dyn" in answer["message"]
        url = "/apis/apps/v1/namespaces/default/deployments"
        assert (await world.json("POST", url, deployment("a", 1)))["kind"] == "Deployment"

    run(scenario)
