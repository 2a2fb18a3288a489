"""What single kinds do with a request, besides the rules of their fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Play = Callable[..., None]
CLASSES = "/apis/resource.k8s.io/v1/deviceclasses"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
TOKEN = "/api/v1/namespaces/default/serviceaccounts/default/token"


def _class(expression: str) -> dict[str, Any]:
    return {"metadata": {"name": "gpu"}, "spec": {"selectors": [{"cel": {"expression": expression}}]}}


def _definition(schema: dict[str, Any]) -> dict[str, Any]:
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "foos", "kind": "Foo"}
    spec = {"group": "x.example.com", "scope": "Cluster", "names": names, "versions": [version]}
    return {"metadata": {"name": "foos.x.example.com"}, "spec": spec}


@pytest.mark.parametrize(
    "expression",
    [
        'device.driver == "d.example.com"',
        'device.attributes["d.example.com"].present',
        'cel.bind(d, device.attributes["d.example.com"], d.a && d.b)',
        'device.capacity["d.example.com"].memory.compareTo(quantity("1Gi")) >= 0',
    ],
)
def test_a_selector_of_devices_that_is_a_condition_is_taken(play: Play, expression: str) -> None:
    async def scenario(world: Any) -> None:
        assert (await world.http("POST", CLASSES, _class(expression))).status == 201

    play(scenario)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("devices", "compilation failed: ERROR: <input>:1:1: undeclared reference to 'devices'"),
        ("device.driver", "must evaluate to bool or the unknown type, not string"),
        ("[1, 2].all(x, device.attributes.all(y, device.attributes.all(z, device.attributes.all(v, true))))", ""),
    ],
)
def test_a_selector_of_devices_that_is_none_is_refused(play: Play, expression: str, text: str) -> None:
    async def scenario(world: Any) -> None:
        refused = await world.json("POST", CLASSES, _class(expression))
        if text:
            assert text in refused["details"]["causes"][0]["message"]
        else:
            assert refused["metadata"]["name"] == "gpu"

    play(scenario)


@pytest.mark.parametrize(
    ("schema", "code", "text"),
    [
        ({"type": "array", "items": "x"}, 422, "items: Required value: must be specified"),
        ({"type": "array", "items": {"type": 5}}, 400, "cannot unmarshal number"),
        ({"type": "object", "additionalProperties": "x"}, 400, "boolean or JSON schema expected"),
        (
            {"type": "array", "items": {"type": "object", "properties": {"k": None}}},
            422,
            "properties[k].type: Required",
        ),
        ({"type": "array", "items": {"type": "object", "properties": {"k": "x"}}}, 400, "cannot unmarshal string"),
    ],
)
def test_schemas_inside_schemas_are_decoded_as_schemas(
    play: Play, schema: dict[str, Any], code: int, text: str
) -> None:
    async def scenario(world: Any) -> None:
        whole = {"type": "object", "properties": {"spec": schema}}
        refused = await world.json("POST", DEFINITIONS, _definition(whole))
        assert refused["code"] == code
        assert text in refused["message"]

    play(scenario)


def test_a_class_of_attributes_is_kept_while_it_is_in_use(play: Play) -> None:
    async def scenario(world: Any) -> None:
        body = {"metadata": {"name": "fast"}, "driverName": "d.example.com", "parameters": {"iops": "1"}}
        made = await world.json("POST", "/apis/storage.k8s.io/v1/volumeattributesclasses", body)
        assert made["metadata"]["finalizers"] == ["kubernetes.io/vac-protection"]

    play(scenario)


def test_topology_of_former_versions_is_dropped(play: Play) -> None:
    async def scenario(world: Any) -> None:
        endpoint = {"addresses": ["10.0.0.1"], "deprecatedTopology": {"kubernetes.io/hostname": "n"}}
        body = {"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": [endpoint], "ports": []}
        made = await world.json("POST", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", body)
        assert made["endpoints"] == [{"addresses": ["10.0.0.1"], "conditions": {}}]

    play(scenario)


def test_a_review_tells_who_set_its_fields(play: Play) -> None:
    async def scenario(world: Any) -> None:
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews?fieldManager=me"
        review = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
        answer = await world.json("POST", path, review)
        (entry,) = answer["metadata"]["managedFields"]
        assert (entry["manager"], entry["operation"]) == ("me", "Update")
        assert entry["fieldsV1"] == {"f:spec": {"f:resourceAttributes": {".": {}, "f:resource": {}, "f:verb": {}}}}

    play(scenario)


def test_a_selector_that_cannot_be_read_is_told_in_the_review(play: Play) -> None:
    async def scenario(world: Any) -> None:
        selector = {"rawSelector": "a b"}
        spec = {"resourceAttributes": {"verb": "list", "resource": "pods", "labelSelector": selector}}
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        status = (await world.json("POST", path, {"spec": spec}))["status"]
        assert status["evaluationError"] == "spec.resourceAttributes.labelSelector ignored due to parse error"

    play(scenario)


def test_a_request_for_a_token_is_tracked_and_checked_before_what_it_is_bound_to(play: Play) -> None:
    async def scenario(world: Any) -> None:
        answer = await world.json("POST", TOKEN, {"spec": {}})
        (entry,) = answer["metadata"]["managedFields"]
        assert (entry["subresource"], entry["fieldsV1"]) == ("token", {"f:spec": {"f:expirationSeconds": {}}})
        bound = {"kind": "Secret", "apiVersion": "v1", "name": "nope"}
        refused = await world.json("POST", TOKEN, {"spec": {"expirationSeconds": 0, "boundObjectRef": bound}})
        assert refused["message"].endswith("may not specify a duration less than 10 minutes")
        nothing = await world.json("POST", TOKEN, {"spec": {"boundObjectRef": {}}})
        assert nothing["message"] == "cannot bind token to object of type /, Kind="

    play(scenario)


def test_options_of_a_deletion_are_decoded_by_their_schema(play: Play) -> None:
    async def scenario(world: Any) -> None:
        path = "/api/v1/namespaces/default/serviceaccounts/default"
        refused = await world.json("DELETE", path, {"gracePeriodSeconds": "x"})
        assert refused["message"] == (
            "json: cannot unmarshal string into Go struct field DeleteOptions.gracePeriodSeconds of type int64"
        )
        strange = await world.json("DELETE", path, {"kind": "Foo", "apiVersion": "v1"})
        assert (strange["code"], strange["message"][:27]) == (400, 'no kind "Foo" is registered')

    play(scenario)


def test_a_deletion_that_is_tried_by_the_query_deletes_nothing(play: Play) -> None:
    async def scenario(world: Any) -> None:
        path = "/api/v1/namespaces/default/serviceaccounts/default"
        assert (await world.http("DELETE", f"{path}?dryRun=All")).status == 200
        assert (await world.http("GET", path)).status == 200

    play(scenario)
