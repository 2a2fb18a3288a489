"""Metadata that all kinds share, and the answer that errors become."""

from __future__ import annotations

from typing import Any

from tiphys.api.kinds.base import invalid, not_supported, quote, required, too_many
from tiphys.api.validation.errors import invalid_error
from tiphys.api.validation.metadata import validate_metadata, validate_metadata_update, validate_new_names


def _fields(errors: Any) -> list[str]:
    return [f"{error.field}: {error.type}" for error in errors]


def _object(**metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a", "namespace": "default", **metadata}}


def test_a_plain_object_is_well() -> None:
    assert validate_metadata(_object(labels={"app": "web"}), "dns_subdomain", namespaced=True) == []


def test_an_object_needs_a_name_and_a_namespace() -> None:
    errors = validate_metadata({"metadata": {}}, "dns_subdomain", namespaced=True)
    assert _fields(errors) == ["metadata.name: FieldValueRequired", "metadata.namespace: FieldValueRequired"]
    assert errors[0].message == "Required value: name or generateName is required"


def test_cluster_scoped_objects_have_no_namespace() -> None:
    errors = validate_metadata(_object(), "dns_subdomain", namespaced=False)
    assert str(errors[0]) == "metadata.namespace: Forbidden: not allowed on this type"


def test_finalizers_have_a_domain_unless_the_kind_does_not_care() -> None:
    obj = _object(finalizers=["mine"])
    (error,) = validate_metadata(obj, "dns_subdomain", namespaced=True)
    assert error.field == "metadata.finalizers[0]"
    assert validate_metadata(obj, "dns_subdomain", namespaced=True, finalizers=False) == []


def test_what_the_server_gave_an_object_cannot_be_changed() -> None:
    old = _object(uid="1", resourceVersion="7", creationTimestamp="2024-01-01T00:00:00Z")
    new = _object(uid="2", resourceVersion="7", creationTimestamp="2024-01-01T00:00:00Z")
    found = validate_metadata_update(new, old, namespaced=True)
    assert _fields(found) == ["metadata.uid: FieldValueInvalid"] * 2


def test_a_change_is_judged_by_the_rules_for_all_objects_then_twice_by_those_for_changes() -> None:
    old = _object(uid="1", resourceVersion="7")
    new = _object(uid="1", resourceVersion="7", labels={"a": "no way!"}, finalizers=["", "x"])
    fields = [error.field for error in validate_metadata_update(new, old, namespaced=True)]
    labels, finalizers = ["metadata.labels"], ["metadata.finalizers"]
    qualified = ["metadata.finalizers[0]", "metadata.finalizers[1]"]
    assert fields == labels + finalizers * 2 + labels * 2 + qualified


def test_names_become_segments_of_paths_whatever_the_kind_says() -> None:
    (error,) = validate_new_names(_object(generateName="a/b"))
    assert str(error) == "metadata.generateName: Invalid value: \"a/b\": may not contain '/'"
    (error,) = validate_metadata_update(
        _object(generateName="a/b", resourceVersion="7"), _object(resourceVersion="7"), namespaced=True
    )
    assert error.field == "metadata.generateName"


def test_several_errors_are_listed_and_each_is_a_cause() -> None:
    errors = [required("spec.a"), invalid("spec.b", 1, "must be even"), required("spec.a")]
    status = invalid_error("Thing", "example.com", "t", errors).status()
    assert status["code"] == 422
    assert status["message"] == (
        'Thing.example.com "t" is invalid: [spec.a: Required value, spec.b: Invalid value: 1: must be even]'
    )
    assert status["details"] == {
        "name": "t",
        "group": "example.com",
        "kind": "Thing",
        "causes": [error.cause() for error in errors],
    }


def test_values_are_shown_as_go_shows_them() -> None:
    assert quote("a\n\x01é") == '"a\\n\\x01é"'
    assert quote({"a": "<b>"}) == '{"a":"\\u003cb\\u003e"}'
    assert not_supported("f", "x", ("A", "B")).message == 'Unsupported value: "x": supported values: "A", "B"'
    assert too_many("f", 2, 1).message == "Too many: 2: must have at most 1 item"
