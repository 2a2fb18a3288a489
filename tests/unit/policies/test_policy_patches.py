"""What expressions built, as JSON and as patches."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.api import schema
from tiphys.api.apply.nodes import Nodes
from tiphys.api.kinds.admissionregistration.expressions import Compiler, Names, returns
from tiphys.apiserver.policies.objects import Unsuitable, as_json
from tiphys.apiserver.policies.patching import apply_configuration, json_patches

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "labels": {"a": "b"}},
    "spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "A", "value": "1"}]}], "nodeSelector": {}},
}


def built(expression: str, kind: str = "ApplyConfiguration") -> Any:
    compiled = Compiler().compile(expression, returns(kind), Names(authorizer=True, patches=True))
    assert compiled.program is not None, compiled.error
    return compiled.program.run({"object": POD})


def applied(expression: str) -> dict[str, Any]:
    node = Nodes(schema.builtin()).of(schema.builtin().of("", "v1", "Pod"))
    return apply_configuration(POD, built(expression), node)


def test_maps_and_keyed_lists_are_merged() -> None:
    side = 'Object.spec.containers{name: "side", image: "s"}'
    env = 'Object.spec.containers{name: "c", env: [Object.spec.containers.env{name: "B", value: "2"}]}'
    made = applied(
        f'Object{{metadata: Object.metadata{{labels: {{"x": "y"}}}}, spec: Object.spec{{containers: [{env}, {side}]}}}}'
    )
    assert made["metadata"]["labels"] == {"a": "b", "x": "y"}
    first, second = made["spec"]["containers"]
    assert first == {"name": "c", "image": "i", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}
    assert second == {"name": "side", "image": "s"}
    assert POD["metadata"] == {"name": "p", "labels": {"a": "b"}}


def test_fields_may_be_left_out() -> None:
    made = applied("Object{spec: Object.spec{?hostname: object.spec.?hostname, ?nodeName: optional.of('n')}}")
    assert "hostname" not in made["spec"]
    assert made["spec"]["nodeName"] == "n"


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("Object{spec: Object.metadata{}}", 'unexpected type name "Object.metadata", expected "Object.spec"'),
        ("Object{spec: Object.spec{containers: [Object.spec{}]}}", 'expected "Object.spec.containers"'),
        ("Object{spec: Object.spec{hostNetwork: 'x'}}", ".spec.hostNetwork: expected boolean"),
        ("Object{spec: Object.spec{nodeSelector: {'a': 'b'}}}", "may not mutate atomic arrays, maps or structs"),
        ("Object{metadata: Object.metadata{labels: {1: 'b'}}}", "map key 1 is of type int, not string"),
    ],
)
def test_what_is_no_configuration(expression: str, text: str) -> None:
    with pytest.raises(Unsuitable) as raised:
        applied(expression)
    assert text in str(raised.value)


def test_values_of_json_patches() -> None:
    value = built(
        """[
          JSONPatch{op: "add", path: "/spec/hostname", value: "h"},
          JSONPatch{op: "add", path: "/spec/volumes", value: [Object.spec.volumes{name: "v"}]},
          JSONPatch{op: "copy", from: "/metadata/name", path: "/spec/nodeName"},
          JSONPatch{op: "add", path: "/spec/priority", value: 9007199254740993},
          JSONPatch{op: "remove", path: "/metadata/labels/a"}
        ]""",
        "JSONPatch",
    )
    made = json_patches(POD, value)
    assert made is not None
    assert made["spec"]["volumes"] == [{"name": "v"}]
    assert (made["spec"]["hostname"], made["spec"]["nodeName"]) == ("h", "p")
    assert made["spec"]["priority"] == "9007199254740993"
    assert made["metadata"]["labels"] == {}


def test_a_failing_test_leaves_the_object_as_it_is() -> None:
    value = built(
        '[JSONPatch{op: "replace", path: "/kind", value: "X"}, JSONPatch{op: "test", path: "/kind", value: "Y"}]',
        "JSONPatch",
    )
    assert json_patches(POD, value) is None


def test_copies_of_copies_are_bounded() -> None:
    many = 'lists.range(60).map(i, JSONPatch{op: "copy", from: "/metadata", path: "/metadata/x" + string(i)})'
    with pytest.raises(Unsuitable, match="JSON Patch: copy operation"):
        json_patches(POD, built(many, "JSONPatch"))
    with pytest.raises(Unsuitable, match="12000 operations are more than 10000"):
        json_patches(POD, built('lists.range(12000).map(i, JSONPatch{op: "remove", path: "/x"})', "JSONPatch"))


def test_what_json_has_not() -> None:
    with pytest.raises(Unsuitable, match=r"unsupported value of type net\.IP"):
        as_json([built("[JSONPatch{op: 'add', path: '/x', value: ip('::1')}]", "JSONPatch")[0]["value"]])


@pytest.mark.parametrize(
    ("expression", "kind", "error"),
    [
        ("object.spec", "ApplyConfiguration", "must evaluate to Object but got dyn"),
        ("Object.spec{}", "ApplyConfiguration", "must evaluate to Object but got Object.spec"),
        ("[1]", "JSONPatch", "must evaluate to list(JSONPatch) but got list(int)"),
        ("'x'", "condition", "must evaluate to bool but got string"),
        ("1", "annotation", "must evaluate to one of [string null_type] but got int"),
    ],
)
def test_types_that_places_take(expression: str, kind: str, error: str) -> None:
    names = Names(authorizer=True, patches=True)
    assert Compiler().compile(expression, returns(kind), names).error == error
