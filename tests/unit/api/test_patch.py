"""Patches: RFC 6902, RFC 7396 and strategic merge, and what a patched object must still be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tiphys.api import schema
from tiphys.api.decode.request import Codec, Expected
from tiphys.api.patch import json_patch, merge_patch, strategic
from tiphys.api.patch.request import JSON, MERGE, STRATEGIC, patch
from tiphys.base.errors import ApiError, BadRequest, Invalid, TooLarge

DEFINITIONS = schema.builtin()
CODEC = Codec(DEFINITIONS)
POD = Expected("", "v1", "Pod", DEFINITIONS.of("", "v1", "Pod"))


@pytest.mark.parametrize(
    ("document", "operations", "result"),
    [
        ({"a": 1}, [{"op": "add", "path": "/b", "value": 2}], {"a": 1, "b": 2}),
        ({"a": [1, 3]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2, 3]}),
        ({"a": [1]}, [{"op": "add", "path": "/a/-", "value": 2}], {"a": [1, 2]}),
        ({"a": [1, 2]}, [{"op": "remove", "path": "/a/0"}], {"a": [2]}),
        ({"a": {"b/c": 1, "d~e": 2}}, [{"op": "remove", "path": "/a/b~1c"}], {"a": {"d~e": 2}}),
        ({"a": 1}, [{"op": "replace", "path": "/a", "value": {"x": 1}}], {"a": {"x": 1}}),
        ({"a": {"b": 1}}, [{"op": "move", "from": "/a/b", "path": "/c"}], {"a": {}, "c": 1}),
        ({"a": {"b": 1}}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"b": 1}, "c": {"b": 1}}),
        ({"a": 1}, [{"op": "test", "path": "/a", "value": 1}], {"a": 1}),
        ({"a": 1}, [{"op": "test", "path": "/b", "value": None}], {"a": 1}),
        ({"a": 1}, [{"op": "replace", "path": "", "value": {"z": 1}}], {"z": 1}),
        ({"a": 1}, [{"op": "copy", "from": "/nope", "path": "/b"}], {"a": 1, "b": None}),
    ],
)
def test_json_patch(document: Any, operations: Any, result: Any) -> None:
    before = json.dumps(document)
    assert json_patch.apply(document, operations) == result
    assert json.dumps(document) == before, "the document is shared and must stay"


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/x"},
        {"op": "replace", "path": "/x", "value": 1},
        {"op": "add", "path": "/x/y", "value": 1},
        {"op": "test", "path": "/a", "value": True},
        {"op": "remove", "path": "/l/1"},
        {"op": "add", "path": "/l/3", "value": 1},
        {"op": "move", "from": "/o", "path": "/o/p"},
        {"op": "fly", "path": "/a"},
        {"op": "add", "path": "a", "value": 1},
    ],
)
def test_json_patches_that_do_not_fit_are_refused(operation: Any) -> None:
    with pytest.raises(Invalid) as caught:
        json_patch.apply({"a": 1, "l": [1], "o": {}}, [operation])
    assert caught.value.message == "the server rejected our request due to an error in our request"


def test_json_patch_limits() -> None:
    with pytest.raises(BadRequest):
        json_patch.check({"op": "add"})
    with pytest.raises(TooLarge, match="allowed maximum operations in a JSON patch is 10000, got 10001"):
        json_patch.check([{}] * 10_001)
    assert json_patch.check([{"op": "add", "path": "/a", "what": 1}]) == ['json patch unknown field "[0].what"']


def test_merge_patch() -> None:
    document = {"a": {"b": 1, "c": 2}, "l": [1, 2], "k": 1}
    assert merge_patch.apply(document, {"a": {"b": None, "d": {"e": None, "f": 1}}, "l": [3], "k": None}) == {
        "a": {"c": 2, "d": {"f": 1}},
        "l": [3],
    }
    assert document["k"] == 1


def spec(*containers: Any, **more: Any) -> dict[str, Any]:
    return {"spec": {"containers": list(containers), **more}}


def merged(document: Any, change: Any, kind: tuple[str, str, str] = ("", "v1", "Pod")) -> Any:
    before = json.dumps(document)
    out = strategic.apply(document, change, DEFINITIONS.of(*kind), DEFINITIONS)
    assert json.dumps(document) == before, "the document is shared and must stay"
    return out


A, B, C = ({"name": name, "image": name} for name in "abc")


def test_lists_merge_by_key() -> None:
    assert merged(spec(A, B), spec({"name": "b", "image": "new"})) == spec(A, {"name": "b", "image": "new"})
    assert merged(spec(A), spec(B)) == spec(B, A)
    assert merged(spec(A), {"spec": {"tolerations": [{"key": "x"}]}}) == spec(A, tolerations=[{"key": "x"}])
    assert merged(spec(A, tolerations=[{"key": "x"}]), {"spec": {"tolerations": [{"key": "y"}]}}) == spec(
        A, tolerations=[{"key": "y"}]
    )


def test_items_are_deleted_by_directive() -> None:
    assert merged(spec(A, B), spec({"name": "a", "$patch": "delete"})) == spec(B)
    assert merged(spec(A, B), spec(C, {"$patch": "replace"})) == spec(C)
    assert merged(spec(A), {"spec": {"$patch": "replace", "nodeName": "n"}}) == {"spec": {"nodeName": "n"}}
    assert merged({"metadata": {"labels": {"a": "b"}}}, {"metadata": {"labels": {"$patch": "delete"}}}) == {
        "metadata": {"labels": {}}
    }


def test_order_is_the_one_the_patch_asks_for() -> None:
    order = [{"name": "c"}, {"name": "a"}]
    assert merged(spec(A, B), {"spec": {"$setElementOrder/containers": order, "containers": [C]}}) == spec(C, A, B)
    assert merged(spec(A, B, C), {"spec": {"$setElementOrder/containers": order}}) == spec(B, C, A)


def test_primitive_lists_merge_as_sets() -> None:
    document = {"metadata": {"finalizers": ["a", "b"]}}
    assert merged(document, {"metadata": {"finalizers": ["c"]}})["metadata"]["finalizers"] == ["c", "a", "b"]
    change = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}
    assert merged(document, change)["metadata"]["finalizers"] == ["b"]


def test_retain_keys_clears_the_others() -> None:
    document = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    change = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert merged(document, change, ("apps", "v1", "Deployment")) == {"spec": {"strategy": {"type": "Recreate"}}}
    with pytest.raises(BadRequest, match="invalid patch format of retainKeys"):
        merged(document, {"spec": {"strategy": {"$retainKeys": ["x"], "type": "y"}}}, ("apps", "v1", "Deployment"))


def test_null_removes_and_is_not_kept_in_new_objects() -> None:
    assert merged({"metadata": {"labels": {"a": "1", "b": "2"}}}, {"metadata": {"labels": {"a": None}}}) == {
        "metadata": {"labels": {"b": "2"}}
    }
    assert merged({}, {"metadata": {"labels": {"a": None, "b": "2"}}}) == {"metadata": {"labels": {"b": "2"}}}


def test_a_list_item_without_its_key_is_refused() -> None:
    with pytest.raises(ApiError, match=r"map: map\[image:x\] does not contain declared merge key: name"):
        merged(spec(A), spec({"image": "x"}))


CURRENT = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [A]}}


def test_a_patched_object_is_decoded_again() -> None:
    done = patch(CURRENT, b'{"spec":{"containers":[{"name":"a","ports":[]}]}}', STRATEGIC, POD, CODEC)
    assert done.obj["spec"]["containers"] == [A | {"resources": {}}]
    assert not done.warnings


def test_unknown_and_duplicate_fields_of_patches() -> None:
    body = b'{"spec":{"foo":1,"nodeName":"a","nodeName":"b"}}'
    assert patch(CURRENT, body, MERGE, POD, CODEC).warnings == (
        'duplicate field "spec.nodeName"',
        'unknown field "spec.foo"',
    )
    assert patch(CURRENT, body, MERGE, POD, CODEC, "Ignore").warnings == ()
    with pytest.raises(
        Invalid, match=r'strict decoding error: duplicate field "spec\.nodeName", unknown field "spec\.foo"'
    ):
        patch(CURRENT, body, MERGE, POD, CODEC, "Strict")


@pytest.mark.parametrize(
    ("media", "body", "error"),
    [
        (MERGE, b"{", BadRequest),
        (MERGE, b"[]", BadRequest),
        (JSON, b"{}", BadRequest),
        (STRATEGIC, b"1", BadRequest),
        (MERGE, b'{"spec":{"hostNetwork":"x"}}', Invalid),
        (MERGE, b'{"kind":"Node"}', Invalid),
        (JSON, b'[{"op":"remove","path":"/kind"}]', Invalid),
        (JSON, b'[{"op":"remove","path":"/spec/none"}]', Invalid),
    ],
)
def test_bad_patches(media: str, body: bytes, error: type[ApiError]) -> None:
    with pytest.raises(error):
        patch(CURRENT, body, media, POD, CODEC)


def test_copies_of_copies_have_a_limit() -> None:
    doubling = [{"op": "copy", "from": "/data", "path": f"/data/c{number}"} for number in range(40)]
    with pytest.raises(Invalid):
        json_patch.apply({"data": {"a": "x" * 1000}}, doubling)
    assert json_patch.apply({"a": 1}, [{"op": "copy", "from": "/a", "path": "/b"}]) == {"a": 1, "b": 1}


def test_an_index_of_thousands_of_digits_is_refused() -> None:
    with pytest.raises(Invalid):
        json_patch.apply({"a": []}, [{"op": "add", "path": "/a/" + "9" * 5000, "value": 1}])
