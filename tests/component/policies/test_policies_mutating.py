"""MutatingAdmissionPolicies against a running server."""

from __future__ import annotations

from typing import Any

import pytest

from policy_world import CONFIG_MAPS, DEPLOYMENTS, World, applies, deployment, matching, patches, run

CONFIGS = matching("", "v1", "configmaps")


def denied(answer: Any, text: str) -> None:
    assert answer["message"] == f"policy 'policy' with binding 'policy-binding' denied request: {text}"
    assert (answer["code"], answer["reason"]) == (403, "Invalid")
    assert answer["details"]["causes"] == [{"message": answer["message"]}]


def test_a_deployment_gets_annotations() -> None:
    async def scenario(world: World) -> None:
        await world.mutating(
            applies('Object{metadata: Object.metadata{annotations: {"mutated-by": "admission-policy"}}}')
        )
        made = await world.deploy("marker", 1, annotations={"own": "x"})
        assert made["metadata"]["annotations"] == {"own": "x", "mutated-by": "admission-policy"}
        stored = await world.json("GET", DEPLOYMENTS.format("default") + "/marker")
        assert stored["metadata"]["annotations"]["mutated-by"] == "admission-policy"

    run(scenario)


def test_a_deployment_gets_replicas() -> None:
    async def scenario(world: World) -> None:
        await world.mutating(applies("Object{spec: Object.spec{replicas: 1337}}"))
        made = await world.deploy("marker", 1)
        assert made["spec"]["replicas"] == 1337
        assert made["spec"]["template"]["spec"]["containers"][0]["name"] == "c"

    run(scenario)


def test_updates_are_mutated_too_and_deletions_are_let_be() -> None:
    async def scenario(world: World) -> None:
        await world.mutating(
            applies(
                'Object{data: {"seen": request.operation}}'.replace("data", "metadata: Object.metadata{labels", 1)
                + "}",
                CONFIGS,
            )
        )
        url = CONFIG_MAPS.format("default")
        made = await world.config("a", {})
        assert made["metadata"]["labels"] == {"seen": "CREATE"}
        merge = "application/merge-patch+json"
        changed = await world.json("PATCH", f"{url}/a", {"data": {"x": "y"}}, media=merge)
        assert changed["metadata"]["labels"] == {"seen": "UPDATE"}
        assert changed["data"] == {"x": "y"}
        assert (await world.http("DELETE", f"{url}/a")).status == 200

    run(scenario)


def test_items_of_lists_are_merged_by_their_keys() -> None:
    async def scenario(world: World) -> None:
        containers = '[Object.spec.template.spec.containers{name: "c", image: "other"}, ' + (
            'Object.spec.template.spec.containers{name: "side", image: "s"}]'
        )
        spec = "Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: %s}}}"
        await world.mutating(applies(f"Object{{spec: {spec % containers}}}"))
        made = await world.deploy("a", 1)
        found = [(one["name"], one["image"]) for one in made["spec"]["template"]["spec"]["containers"]]
        assert found == [("c", "other"), ("side", "s")]
        assert made["spec"]["template"]["spec"]["containers"][1]["imagePullPolicy"] == "Always"

    run(scenario)


def test_a_json_patch_changes_what_its_operations_say() -> None:
    async def scenario(world: World) -> None:
        await world.mutating(
            patches(
                """[
                  JSONPatch{op: "test", path: "/data/a", value: "1"},
                  JSONPatch{op: "replace", path: "/data/a", value: "2"},
                  JSONPatch{op: "add", path: "/metadata/labels", value: {"x": "y"}},
                  JSONPatch{op: "add", path: "/metadata/labels/" + jsonpatch.escapeKey("e.com/z"), value: "w"},
                  JSONPatch{op: "move", from: "/data/b", path: "/data/c"}
                ]""",
                CONFIGS,
            )
        )
        made = await world.config("a", {"a": "1", "b": "3"})
        assert made["data"] == {"a": "2", "c": "3"}
        assert made["metadata"]["labels"] == {"x": "y", "e.com/z": "w"}
        untouched = await world.config("b", {"a": "9", "b": "3"})
        assert untouched["data"] == {"a": "9", "b": "3"}

    run(scenario)


def test_a_json_patch_that_does_not_fit_is_refused() -> None:
    async def scenario(world: World) -> None:
        await world.mutating(patches('[JSONPatch{op: "replace", path: "/spec/no", value: 1}]', CONFIGS))
        answer = await world.config("a", {})
        text = "JSON Patch: replace operation does not apply: doc is missing key: /spec/no: missing value"
        denied(answer, text)

    run(scenario)


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("/spec/color", '"red"', 'strict decoding error: unknown field "spec.color"'),
        (
            "/spec/replicas",
            '"x"',
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of ",
        ),
    ],
)
def test_a_json_patch_must_leave_an_object_of_its_kind(path: str, value: str, text: str) -> None:
    async def scenario(world: World) -> None:
        await world.mutating(patches(f'[JSONPatch{{op: "add", path: "{path}", value: {value}}}]'))
        answer = await world.deploy("a", 1)
        assert answer["message"].startswith(f"Internal error occurred: {text}")
        assert answer["code"] == 500

    run(scenario)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (
            "Object{spec: Object.wrong{replicas: 3}}",
            'type mismatch: unexpected type name "Object.wrong", expected "Object.spec", '
            "which matches field name path from root Object type",
        ),
        (
            "Object{spec: Object.spec{replica: 3}}",
            "error applying patch: failed to convert patch object to typed object: "
            ".spec.replica: field not declared in schema",
        ),
        (
            "Object{spec: Object.spec{selector: Object.spec.selector{}}}",
            "error applying patch: invalid ApplyConfiguration: "
            "may not mutate atomic arrays, maps or structs: .spec.selector",
        ),
        (
            "Object{spec: Object.spec{replicas: object.spec.nothing}}",
            "expression 'Object{spec: Object.spec{replicas: object.spec.nothing}}' resulted in error: "
            "no such key: nothing",
        ),
    ],
)
def test_configurations_that_cannot_be_applied_are_refused(expression: str, text: str) -> None:
    async def scenario(world: World) -> None:
        await world.mutating(applies(expression))
        denied(await world.deploy("a", 1), text)

    run(scenario)


def test_a_policy_that_fails_may_be_overlooked() -> None:
    async def scenario(world: World) -> None:
        await world.mutating(applies("Object{spec: Object.spec{replicas: object.no}}", failurePolicy="Ignore"))
        assert (await world.deploy("a", 1))["spec"]["replicas"] == 1

    run(scenario)


def test_mutations_and_policies_run_in_order_and_see_what_was_made() -> None:
    async def scenario(world: World) -> None:
        first = 'Object{data: {"trace": object.data.trace + "1"}}'
        second = 'Object{data: {"trace": object.data.trace + "2"}}'
        spec = applies(first.replace("data:", "data:"), CONFIGS)
        spec["mutations"].append({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": second}})
        await world.mutating(spec, "alpha")
        await world.mutating(applies('Object{data: {"trace": object.data.trace + "3"}}', CONFIGS), "beta")
        assert (await world.config("a", {"trace": ""}))["data"]["trace"] == "123"

    run(scenario)


def test_policies_that_want_to_run_again_do_once_something_changed() -> None:
    async def scenario(world: World) -> None:
        count = 'Object{data: {"%s": string(int(object.data[?"%s"].orValue("0")) + 1)}}'
        again = applies(count % ("again", "again"), CONFIGS, reinvocationPolicy="IfNeeded")
        await world.mutating(again, "alpha")
        await world.mutating(applies(count % ("once", "once"), CONFIGS), "beta")
        assert (await world.config("a", {"x": ""}))["data"] == {"x": "", "again": "2", "once": "1"}

    run(scenario)


def test_conditions_variables_and_parameters() -> None:
    async def scenario(world: World) -> None:
        spec = applies(
            "Object{spec: Object.spec{replicas: variables.least}}",
            paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
            variables=[{"name": "least", "expression": "int(params.data.least)"}],
            matchConditions=[{"name": "few", "expression": "object.spec.replicas < int(params.data.least)"}],
        )
        reference = {"name": "limits", "namespace": "default", "parameterNotFoundAction": "Deny"}
        await world.config("limits", {"least": "3"})
        await world.mutating(spec, binding={"paramRef": reference})
        assert (await world.deploy("a", 1))["spec"]["replicas"] == 3
        assert (await world.deploy("b", 5))["spec"]["replicas"] == 5

    run(scenario)


def test_what_policies_make_is_validated() -> None:
    async def scenario(world: World) -> None:
        await world.mutating(applies("Object{spec: Object.spec{replicas: -1}}"))
        answer = await world.deploy("a", 1)
        assert "spec.replicas: Invalid value: -1" in answer["message"]

    run(scenario)


def test_custom_resources_are_mutated() -> None:
    async def scenario(world: World) -> None:
        properties: dict[str, Any] = {
            "size": {"type": "integer", "default": 1},
            "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        }
        schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}
        definition = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": "things.example.com"},
            "spec": {
                "group": "example.com",
                "scope": "Cluster",
                "names": {"plural": "things", "kind": "Thing", "singular": "thing", "listKind": "ThingList"},
                "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
            },
        }
        await world.json("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
        url = "/apis/example.com/v1/things"
        while (await world.http("GET", url)).status != 200:
            await world.server._clock.sleep(0.1)
        expression = 'Object{spec: Object.spec{size: object.spec.size + 1, tags: ["b"]}}'
        await world.mutating(applies(expression, matching("example.com", "v1", "things")))
        thing = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "x"}, "spec": {"tags": ["a"]}}
        made = await world.json("POST", url, thing)
        assert made["spec"] == {"size": 2, "tags": ["a", "b"]}
        label = '[JSONPatch{op: "add", path: "/metadata/labels", value: {"x": "y"}}]'
        await world.mutating(patches(label, matching("example.com", "v1", "things")), "labels")
        again = await world.json("POST", url, {**thing, "metadata": {"name": "y"}})
        assert again["spec"] == {"size": 2, "tags": ["a", "b"]}
        assert again["metadata"]["labels"] == {"x": "y"}

    run(scenario)


def test_a_large_patch_is_bounded() -> None:
    async def scenario(world: World) -> None:
        many = 'Object{data: {"x": lists.range(20000).map(i, "abcdefghij").join("0123456789")}}'
        await world.mutating(applies(many, CONFIGS))
        answer = await world.config("a", {})
        assert answer.get("kind") in ("Status", "ConfigMap")

    run(scenario)


def test_a_server_without_policies_does_not_load_cel() -> None:
    async def scenario(world: World) -> None:
        url = DEPLOYMENTS.format("default")
        assert (await world.json("POST", url, deployment("a", 1)))["kind"] == "Deployment"

    run(scenario)
