"""ValidatingAdmissionPolicies against a running server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from policy_world import CONFIG_MAPS, DEPLOYMENTS, POLICIES, World, deployment, holds, matching, run
from tiphys.base.identity import User

DENIED = "ValidatingAdmissionPolicy 'policy' with binding 'policy-binding' denied request: "


def refused(answer: Any, name: str, text: str, code: int = 422, reason: str = "Invalid") -> None:
    message = f'deployments.apps "{name}" is forbidden: {DENIED}{text}'
    assert answer.get("message") == message
    assert (answer["code"], answer["reason"]) == (code, reason)
    cause = {"message": message.partition("is forbidden: ")[2]}
    assert answer["details"] == {"name": name, "group": "apps", "kind": "deployments", "causes": [cause]}


def test_a_deployment_is_held_against_expressions_and_other_kinds_are_not() -> None:
    async def scenario(world: World) -> None:
        spec = holds("object.spec.replicas > 1", "namespaceObject.metadata.name == 'default'")
        spec["validations"][0]["messageExpression"] = "'wants replicas > 1, got ' + string(object.spec.replicas)"
        await world.validating(spec)
        refused(await world.deploy("marker", 1), "marker", "wants replicas > 1, got 1")
        assert (await world.deploy("replicated", 2))["kind"] == "Deployment"
        lonely = {**deployment("lonely", 1), "kind": "ReplicaSet"}
        made = await world.json("POST", "/apis/apps/v1/namespaces/default/replicasets", lonely)
        assert made["kind"] == "ReplicaSet"
        await world.namespace("other")
        refused(
            await world.deploy("b", 2, "other"), "b", "failed expression: namespaceObject.metadata.name == 'default'"
        )

    run(scenario)


def test_without_a_binding_a_policy_is_not_in_force() -> None:
    async def scenario(world: World) -> None:
        await world.validating(holds("false"), binding={"policyName": "another"})
        assert (await world.deploy("one", 1))["kind"] == "Deployment"

    run(scenario)


def test_variables_may_use_those_before_them() -> None:
    async def scenario(world: World) -> None:
        variables = [
            {"name": "replicas", "expression": "object.spec.replicas"},
            {"name": "odd", "expression": "variables.replicas % 2 == 1"},
        ]
        await world.validating(holds("variables.replicas > 1", "variables.odd", variables=variables))
        refused(await world.deploy("marker", 1), "marker", "failed expression: variables.replicas > 1")
        refused(await world.deploy("even", 2), "even", "failed expression: variables.odd")
        assert (await world.deploy("odd", 3))["kind"] == "Deployment"

    run(scenario)


@pytest.mark.parametrize(
    ("reason", "code"), [("Forbidden", 403), ("Unauthorized", 401), ("RequestEntityTooLarge", 413), ("Invalid", 422)]
)
def test_the_reason_of_a_validation_is_the_answer_s(reason: str, code: int) -> None:
    async def scenario(world: World) -> None:
        spec = holds("object.spec.replicas > 1")
        spec["validations"][0] |= {"reason": reason, "message": " too few "}
        if reason == "Unauthorized":
            answer = await world.json("POST", f"{POLICIES}/validatingadmissionpolicies", _policy(spec))
            assert 'Unsupported value: "Unauthorized"' in answer["message"]
            return
        await world.validating(spec)
        refused(await world.deploy("one", 1), "one", "too few", code, reason)

    run(scenario)


def _policy(spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "p"},
        "spec": spec,
    }


def test_policies_of_the_beta_version_are_accepted() -> None:
    async def scenario(world: World) -> None:
        beta = {"apiVersion": "admissionregistration.k8s.io/v1beta1"}
        url = "/apis/admissionregistration.k8s.io/v1beta1/validatingadmissionpolic"
        await world.json("POST", f"{url}ies", _policy(holds("object.spec.replicas > 1")) | beta)
        spec = {"policyName": "p", "validationActions": ["Deny"]}
        binding = {**beta, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "b"}, "spec": spec}
        await world.json("POST", f"{url}ybindings", binding)
        assert (await world.deploy("one", 1))["kind"] == "Status"
        stored = await world.json("GET", f"{POLICIES}/validatingadmissionpolicies/p")
        assert stored["apiVersion"] == "admissionregistration.k8s.io/v1"

    run(scenario)


def test_a_changed_policy_is_in_force_at_once_and_a_deleted_one_no_more() -> None:
    async def scenario(world: World) -> None:
        url = f"{POLICIES}/validatingadmissionpolicies/policy"
        await world.validating(holds("object.spec.replicas > 1"))
        assert (await world.deploy("one", 1))["kind"] == "Status"
        patch = {"spec": {"validations": [{"expression": "object.spec.replicas < 2"}]}}
        await world.http("PATCH", url, patch, media="application/merge-patch+json")
        assert (await world.deploy("one", 1))["kind"] == "Deployment"
        assert (await world.deploy("two", 2))["kind"] == "Status"
        await world.http("DELETE", url)
        assert (await world.deploy("two", 2))["kind"] == "Deployment"

    run(scenario)


def test_the_message_falls_back_when_its_expression_fails_or_is_no_line() -> None:
    async def scenario(world: World) -> None:
        spec = holds("object.spec.replicas > 1", "object.spec.replicas > 2", "object.spec.replicas > 3")
        spec["validations"][0] |= {"messageExpression": "string(object.spec.nothing)", "message": "first"}
        spec["validations"][1] |= {"messageExpression": "'a\\nb'"}
        spec["validations"][2] |= {"messageExpression": "'  third  '"}
        await world.validating(spec)
        refused(await world.deploy("a", 1), "a", "first")
        refused(await world.deploy("b", 2), "b", "failed expression: object.spec.replicas > 2")
        refused(await world.deploy("c", 3), "c", "third")

    run(scenario)


def test_an_expression_without_a_value_goes_by_the_failure_policy() -> None:
    async def scenario(world: World) -> None:
        await world.validating(holds("object.spec.nothing == 1"))
        text = "expression 'object.spec.nothing == 1' resulted in error: no such key: nothing"
        refused(await world.deploy("a", 1), "a", text)
        url = f"{POLICIES}/validatingadmissionpolicies/policy"
        change = {"spec": {"failurePolicy": "Ignore"}}
        await world.http("PATCH", url, change, media="application/merge-patch+json")
        assert (await world.deploy("a", 1))["kind"] == "Deployment"

    run(scenario)


def test_a_variable_that_fails_says_which_one() -> None:
    async def scenario(world: World) -> None:
        spec = holds("variables.v > 1", variables=[{"name": "v", "expression": "object.nothing"}])
        await world.validating(spec)
        text = 'composited variable "v" fails to evaluate: no such key: nothing'
        refused(await world.deploy("a", 1), "a", f"expression 'variables.v > 1' resulted in error: {text}")

    run(scenario)


def test_match_conditions_select_requests() -> None:
    async def scenario(world: World) -> None:
        conditions = [
            {"name": "not-exempt", "expression": "request.userInfo.username != 'root'"},
            {"name": "named", "expression": "object.metadata.name.startsWith('a')"},
        ]
        await world.validating(holds("false", matchConditions=conditions))
        root = User("root", groups=("system:masters",))
        url = DEPLOYMENTS.format("default")
        assert (await world.json("POST", url, deployment("a", 1), user=root))["kind"] == "Deployment"
        assert (await world.deploy("b", 1))["kind"] == "Deployment"
        assert (await world.deploy("ab", 1))["kind"] == "Status"

    run(scenario)


def test_a_condition_that_fails_refuses_unless_another_is_false() -> None:
    async def scenario(world: World) -> None:
        conditions = [
            {"name": "broken", "expression": "object.nothing == 1"},
            {"name": "small", "expression": "object.spec.replicas > 2"},
        ]
        await world.validating(holds("true", matchConditions=conditions))
        assert (await world.deploy("a", 1))["kind"] == "Deployment"
        text = "expression 'object.nothing == 1' resulted in error: no such key: nothing"
        refused(await world.deploy("b", 3), "b", text)

    run(scenario)


def test_warnings_and_audit_annotations_instead_of_refusals() -> None:
    async def scenario(world: World) -> None:
        spec = holds("object.spec.replicas > 1")
        spec["validations"][0]["message"] = "too <few>"
        spec["auditAnnotations"] = [
            {"key": "replicas", "valueExpression": "'has ' + string(object.spec.replicas)"},
            {"key": "nothing", "valueExpression": "' '"},
        ]
        await world.validating(spec, binding={"validationActions": ["Warn", "Audit"]})
        answer, request = await world.traced("POST", DEPLOYMENTS.format("default"), deployment("a", 1))
        assert answer.status == 201
        text = "Validation failed for ValidatingAdmissionPolicy 'policy' with binding 'policy-binding': too <few>"
        assert any(text in value for value in answer.headers.values())
        notes = request.attributes["audit-annotations"]
        assert notes["policy/replicas"] == "has 1"
        assert "policy/nothing" not in notes
        failure = notes["validation.policy.admission.k8s.io/validation_failure"]
        assert "\\u003cfew\\u003e" in failure
        assert json.loads(failure) == [
            {
                "message": "too <few>",
                "policy": "policy",
                "binding": "policy-binding",
                "expressionIndex": 0,
                "validationActions": ["Warn", "Audit"],
            }
        ]

    run(scenario)


def test_deletions_see_the_old_object_only() -> None:
    async def scenario(world: World) -> None:
        spec = holds(
            "object == null && oldObject.data.keep != 'yes'", constraints=matching("", "v1", "configmaps", "DELETE")
        )
        await world.validating(spec)
        await world.config("kept", {"keep": "yes"})
        await world.config("loose", {"keep": "no"})
        url = CONFIG_MAPS.format("default")
        assert (await world.http("DELETE", f"{url}/kept")).status == 422
        assert (await world.http("DELETE", f"{url}/loose")).status == 200

    run(scenario)


def test_connections_are_held_against_policies() -> None:
    async def scenario(world: World) -> None:
        constraints = matching("", "v1", "pods/exec", "CONNECT")
        await world.validating(
            holds("object.kind == 'PodExecOptions' && !('sh' in object.command)", constraints=constraints)
        )
        answer = await world.json("POST", "/api/v1/namespaces/default/pods/p/exec?command=sh")
        assert "ValidatingAdmissionPolicy 'policy' with binding 'policy-binding' denied request" in answer["message"]
        answer = await world.json("POST", "/api/v1/namespaces/default/pods/p/exec?command=ls")
        assert answer["reason"] == "NotFound"

    run(scenario)


def test_policies_are_not_asked_about_policies_nor_about_reviews() -> None:
    async def scenario(world: World) -> None:
        await world.validating(holds("false", constraints=matching("*", "*", "*/*", "*")))
        assert (await world.deploy("a", 1))["kind"] == "Status"
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        assert (await world.http("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review)).status == 201
        url = f"{POLICIES}/validatingadmissionpolicybindings/policy-binding"
        assert (await world.http("DELETE", url)).status == 200
        assert (await world.deploy("a", 1))["kind"] == "Deployment"

    run(scenario)


def test_who_asks_may_be_asked_about() -> None:
    async def scenario(world: World) -> None:
        spec = holds(
            "authorizer.group('').resource('secrets').namespace('default').check('get').allowed()",
            "authorizer.requestResource.check('create').allowed()",
            "!authorizer.serviceAccount('default', 'nobody').path('/secret').check('get').allowed()",
        )
        await world.validating(spec)
        assert (await world.deploy("a", 1))["kind"] == "Deployment"
        rules = [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["create"]}]
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "r"}}
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        await world.http("POST", f"{rbac}/clusterroles", {**role, "rules": rules})
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "r"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"},
            "subjects": [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}],
        }
        await world.http("POST", f"{rbac}/clusterrolebindings", binding)
        jane = User("jane", groups=("system:authenticated",))
        answer = await world.json("POST", DEPLOYMENTS.format("default"), deployment("b", 1), user=jane)
        assert "resource('secrets')" in answer["message"]

    run(scenario)


def test_what_costs_too_much_is_refused_quickly() -> None:
    async def scenario(world: World) -> None:
        many = "lists.range(400).all(a, lists.range(400).all(b, lists.range(400).all(c, a + b + c >= 0)))"
        await world.validating(holds(many))
        answer = await world.deploy("a", 1)
        assert answer["message"].endswith("resulted in error: operation cancelled: actual cost limit exceeded")

    run(scenario)


def test_all_expressions_of_a_policy_share_a_budget() -> None:
    async def scenario(world: World) -> None:
        await world.validating(
            holds(
                *["lists.range(900).distinct().size() == 900 || true"] * 2,
                *["lists.range(600).distinct().size() == 600"] * 16,
            )
        )
        answer = await world.deploy("a", 1)
        assert answer["kind"] == "Status"

    run(scenario)
