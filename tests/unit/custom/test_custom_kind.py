"""A custom resource as a kind: preparation, validation, columns, fields; its type, its ownership, its documents."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tiphys.api.apply.nodes import How, Nodes
from tiphys.api.catalog import builtin
from tiphys.api.custom.definition import CustomDefinition, CustomVersion, compile_definition, conditions
from tiphys.api.custom.jsonpath import PathError, parse
from tiphys.api.decode.request import Codec, Decoded, Expected
from tiphys.api.kinds.base import Context
from tiphys.api.openapi.documents import OpenApi
from tiphys.base.errors import BadRequest

CONTEXT = Context(now=1_700_000_000.0)
SPEC: dict[str, Any] = {
    "type": "object",
    "required": ["schedule"],
    "x-kubernetes-validations": [{"rule": "self.replicas <= 10", "message": "too many"}],
    "properties": {
        "schedule": {
            "type": "string",
            "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "is fixed"}],
        },
        "replicas": {"type": "integer", "default": 1},
        "mode": {"type": "string", "enum": ["fast", "slow"]},
        "port": {"x-kubernetes-int-or-string": True},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "nullable": {"type": "array", "nullable": True, "items": {"type": "string"}},
        "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "parts": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string", "default": "main"}, "v": {"type": "integer"}},
            },
        },
        "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}},
    },
}
STATUS = {"type": "object", "properties": {"replicas": {"type": "integer"}, "text": {"type": "string"}}}
VERSION: dict[str, Any] = {
    "name": "v1",
    "served": True,
    "storage": True,
    "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": SPEC, "status": STATUS}}},
    "subresources": {
        "status": {},
        "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
                  "labelSelectorPath": ".status.text"},
    },
    "selectableFields": [{"jsonPath": ".spec.mode"}, {"jsonPath": ".spec.replicas"}],
    "additionalPrinterColumns": [
        {"name": "Schedule", "type": "string", "jsonPath": ".spec.schedule"},
        {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas", "priority": 1},
        {"name": "Free", "type": "string", "jsonPath": ".spec.free"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ],
}  # fmt: skip


def definition(**changes: Any) -> CustomDefinition:
    version = {**copy.deepcopy(VERSION), **changes}
    names = {"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "listKind": "CronTabList",
             "shortNames": ["ct"]}  # fmt: skip
    spec = {"group": "stable.example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    return compile_definition({"metadata": {"name": "crontabs.stable.example.com"}, "spec": spec})


def version(**changes: Any) -> CustomVersion:
    return definition(**changes).versions["v1"]


def cron_tab(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "stable.example.com/v1",
        "kind": "CronTab",
        "metadata": {"name": "a", "namespace": "b", "generation": 1, "resourceVersion": "1"},
        "spec": {"schedule": "* * * * *", "replicas": 1, **spec},
    }


def decode(obj: Any, validation: str = "Warn") -> Decoded:
    found = version()
    codec = Codec(found.definition.definitions)
    expected = Expected("stable.example.com", "v1", "CronTab", found.type)
    return codec.decode(json.dumps(obj).encode(), "application/json", expected, validation)


def test_decoding_prunes_and_reports() -> None:
    obj = cron_tab(unknown=1)
    obj["metadata"]["strange"] = True
    decoded = decode(obj)
    assert "unknown" not in decoded.obj["spec"]
    assert "strange" not in decoded.obj["metadata"]
    assert decoded.warnings == ('unknown field "metadata.strange"', 'unknown field "spec.unknown"')
    with pytest.raises(BadRequest, match='strict decoding error: unknown field "metadata'):
        decode(obj, "Strict")


def test_decoding_reports_unknown_fields_of_inner_metadata() -> None:
    inner = {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {"spec": {"type": "array", "items": inner}}}
    found = version(schema={"openAPIV3Schema": schema})
    resource = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "odd": 1}}
    body = json.dumps({**cron_tab(), "spec": [resource]}).encode()
    expected = Expected("stable.example.com", "v1", "CronTab", found.type)
    decoded = Codec(found.definition.definitions).decode(body, "application/json", expected)
    assert decoded.obj["spec"] == [{**resource, "metadata": {"name": "a"}}]
    assert decoded.warnings == ('unknown field "spec[0].metadata.odd"',)


def test_decoding_reports_duplicate_fields() -> None:
    found = version()
    codec = Codec(found.definition.definitions)
    body = b'{"apiVersion":"stable.example.com/v1","kind":"CronTab","spec":{"mode":"fast","mode":"slow"}}'
    expected = Expected("stable.example.com", "v1", "CronTab", found.type)
    assert codec.decode(body, "application/json", expected).warnings == ('duplicate field "spec.mode"',)


def test_decoding_refuses_metadata_of_the_wrong_type() -> None:
    with pytest.raises(BadRequest, match="labels"):
        decode({**cron_tab(), "metadata": {"labels": 5}})


@pytest.mark.parametrize("field", ["free", "unknown"])
def test_what_is_nested_too_deeply_is_refused_or_dropped(field: str) -> None:
    deep = '{"a":' * 800 + "1" + "}" * 800
    text = json.dumps(cron_tab()).replace('"replicas"', f'"{field}": {deep}, "replicas"')
    if field == "free":
        with pytest.raises(BadRequest, match="exceeded max depth"):
            decode(json.loads(text))
    else:
        assert decode(json.loads(text)).warnings == ('unknown field "spec.unknown"',)


def test_without_a_schema_everything_goes_unless_unknown_fields_are_preserved() -> None:
    found = version(schema=None)
    codec = Codec(found.definition.definitions)
    assert codec.normalize({"spec": {"any": [None, {}]}}, found.type) == {}
    crd = {"spec": {"group": "example.com", "names": {"kind": "Foo"}, "preserveUnknownFields": True,
                    "versions": [{"name": "v1", "served": True, "storage": True}]}}  # fmt: skip
    open_version = compile_definition(crd).versions["v1"]
    kept = Codec(open_version.definition.definitions).normalize({"spec": {"any": [None, {}]}}, open_version.type)
    assert kept == {"spec": {"any": [None, {}]}}


def test_status_is_the_servers_until_it_is_written_there() -> None:
    kind = version().kind
    obj = {**cron_tab(), "status": {"replicas": 5}}
    kind.prepare_create(obj, CONTEXT)
    assert "status" not in obj
    assert obj["metadata"]["generation"] == 1
    old = {**cron_tab(), "status": {"replicas": 5}}
    new = {**cron_tab(mode="slow"), "status": {"replicas": 7}}
    kind.prepare_update(new, old, CONTEXT)
    assert new["status"] == {"replicas": 5}
    assert new["metadata"]["generation"] == 2


def test_a_change_of_metadata_is_no_new_generation() -> None:
    new = cron_tab()
    new["metadata"]["labels"] = {"a": "b"}
    version().kind.prepare_update(new, cron_tab(), CONTEXT)
    assert new["metadata"]["generation"] == 1


def test_without_a_status_subresource_the_status_counts() -> None:
    new = {**cron_tab(), "status": {"replicas": 1}}
    version(subresources={}).kind.prepare_update(new, cron_tab(), CONTEXT)
    assert new["metadata"]["generation"] == 2
    assert new["status"] == {"replicas": 1}


def test_status_writes_leave_metadata_alone() -> None:
    new, old = cron_tab(), cron_tab()
    new["metadata"]["labels"] = {"a": "b"}
    version().kind.prepare_status_update(new, old, CONTEXT)
    assert new["metadata"] == old["metadata"]


def test_problems_of_a_new_object() -> None:
    kind = version().kind
    assert kind.validate(cron_tab(), CONTEXT) == []
    assert [str(error) for error in kind.validate(cron_tab(replicas=11), CONTEXT)] == ["spec: Invalid value: too many"]
    assert [str(error) for error in kind.validate(cron_tab(replicas=-1), CONTEXT)] == [
        ".spec.replicas: Invalid value: -1: should be a non-negative integer"
    ]


def test_rules_wait_for_values_that_make_sense() -> None:
    found = version().kind.validate(cron_tab(mode="x", replicas=11), CONTEXT)
    assert [error.field for error in found] == ["spec.mode", "<nil>"]
    assert found[1].message.startswith("Invalid value: null: some validation rules were not checked")


def test_rules_about_changes() -> None:
    kind = version().kind
    found = kind.validate_update(cron_tab(schedule="@daily"), cron_tab(), CONTEXT)
    assert [str(error) for error in found] == ['spec.schedule: Invalid value: "@daily": is fixed']


def test_what_was_broken_before_may_stay_with_a_warning() -> None:
    kind, new = version().kind, {**cron_tab(replicas=20), "status": {"text": "x"}}
    old = cron_tab(replicas=20)
    assert kind.validate_update(new, old, CONTEXT) == []
    assert kind.warnings(new, old, CONTEXT) == ["spec: Invalid value: too many"]
    assert kind.warnings(new, old, CONTEXT) == []


def test_a_status_is_validated_by_its_own_schema() -> None:
    kind = version().kind
    new = {**cron_tab(replicas=20, mode="x"), "status": {"replicas": "x"}}
    found = kind.validate_status_update(new, cron_tab(replicas=20, mode="x"), CONTEXT)
    assert str(found[0]) == (
        'status.replicas: Invalid value: "string": replicas in body must be of type integer: "string"'
    )


def test_finalizers_should_be_qualified() -> None:
    obj = cron_tab()
    obj["metadata"]["finalizers"] = ["a", "b.example.com", "c.example.com/d", "orphan"]
    assert version().kind.warnings(obj, None, CONTEXT) == [
        'metadata.finalizers: "a": prefer a domain-qualified finalizer name to avoid accidental conflicts with other '
        "finalizer writers",
        'metadata.finalizers: "b.example.com": prefer a domain-qualified finalizer name including a path (/) to avoid '
        "accidental conflicts with other finalizer writers",
    ]


def test_columns() -> None:
    kind = version().kind
    obj = cron_tab(free={"b": 1, "a": [True]})
    obj["metadata"]["creationTimestamp"] = "2023-11-14T22:08:20Z"
    assert [column.name for column in kind.columns] == ["Name", "Schedule", "Replicas", "Free", "Age"]
    assert kind.columns[1].description == "Custom resource definition column (in JSONPath format): .spec.schedule"
    assert kind.cells(obj, CONTEXT.now) == ["a", "* * * * *", 1, '{"a":[true],"b":1}', "5m"]
    plain = version(additionalPrinterColumns=None).kind
    assert plain.cells(obj, CONTEXT.now) == ["a", "5m"]


@pytest.mark.parametrize(
    ("kind", "value", "cell"),
    [("integer", 1.9, 1), ("integer", "x", None), ("number", 1.5, 1.5), ("boolean", True, True), ("boolean", "x", None),
     ("string", 5, "5"), ("string", None, "<no value>"), ("date", "yesterday", "<invalid>"), ("date", 5, None)],
)  # fmt: skip
def test_cells_are_of_their_columns_types(kind: str, value: Any, cell: Any) -> None:
    columns = [{"name": "X", "type": kind, "jsonPath": ".spec.x"}]
    found = version(additionalPrinterColumns=columns).kind
    assert found.cells({"metadata": {"name": "a"}, "spec": {"x": value}}, CONTEXT.now) == ["a", cell]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".a.b", [1]),
        (".a.missing.x", []),
        (".list[0].n", ["x"]),
        (".list[-1].n", ["y"]),
        (".list[*].n", ["x", "y"]),
        (".list[0:2].n", ["x", "y"]),
        (".list[?(@.n=='y')].v", [2]),
        (".list[?(@.v>1)].n", ["y"]),
        (".list[?(@.gone)].n", []),
        (".list[0,1].n", ["x", "y"]),
        ("..v", [1, 2]),
        (".a['b']", [1]),
        (r".metadata.annotations.a\.b/c", ["z"]),
    ],
)
def test_json_paths(path: str, found: list[Any]) -> None:
    obj = {
        "a": {"b": 1},
        "list": [{"n": "x", "v": 1}, {"n": "y", "v": 2}],
        "metadata": {"annotations": {"a.b/c": "z"}},
    }
    assert parse(path).find(obj) == found


@pytest.mark.parametrize("path", [".a[", ".a[x]", ".a[?(@.b", "#", ".a[?(@.b=~'c')]"])
def test_paths_that_are_none(path: str) -> None:
    with pytest.raises(PathError):
        parse(path)


def test_selectable_fields() -> None:
    kind = version().kind
    assert kind.fields(cron_tab(mode="fast")) == {"spec.mode": "fast", "spec.replicas": "1"}
    assert kind.fields({"metadata": {}}) == {"spec.mode": "", "spec.replicas": ""}


def test_the_catalog_line() -> None:
    info = version().info
    assert (info.api_version, info.plural, info.namespaced, info.short_names) == (
        "stable.example.com/v1", "crontabs", True, ("ct",)
    )  # fmt: skip
    assert list(info.subresources) == ["status", "scale"]
    assert info.behaviour.scale is not None
    assert info.behaviour.scale.status_replicas == "status.replicas"


def test_deprecated_versions_name_a_better_one() -> None:
    crd = {
        "spec": {
            "group": "example.com", "scope": "Cluster", "names": {"plural": "foos", "kind": "Foo"},
            "versions": [
                {"name": "v1beta1", "served": True, "deprecated": True},
                {"name": "v1", "served": True, "storage": True},
                {"name": "v1alpha1", "served": True, "deprecated": True, "deprecationWarning": "gone soon"},
            ],
        }
    }  # fmt: skip
    infos = {info.version: info.deprecated for info in compile_definition(crd).resources()}
    assert infos == {
        "v1": "",
        "v1beta1": "example.com/v1beta1 Foo is deprecated; use example.com/v1 Foo",
        "v1alpha1": "gone soon",
    }


def test_ownership_follows_the_schema() -> None:
    found = version()
    node = Nodes(found.definition.definitions).of(found.type)
    spec = node.fields["spec"][1]
    how = {name: part.how for name, (_, part) in spec.fields.items()}
    assert how == {
        "schedule": How.LEAF, "replicas": How.LEAF, "mode": How.LEAF, "port": How.LEAF, "free": How.MAP,
        "nullable": How.LEAF, "tags": How.SET, "parts": How.LIST, "whole": How.LEAF,
    }  # fmt: skip
    parts = spec.fields["parts"][1]
    assert (parts.keys, parts.defaults) == (("name",), {"name": "main"})
    assert node.fields["metadata"][1].fields["finalizers"][1].how is How.SET
    assert Nodes(found.definition.definitions).of(version(schema=None).type).how is How.OPEN


def test_documents() -> None:
    found = definition()
    catalog = builtin(()).with_resources(found.resources())
    documents = OpenApi(catalog, found.definitions, "v1")
    body = documents.v3("apis/stable.example.com/v1")
    assert body is not None
    v3 = json.loads(body)["components"]["schemas"]
    shown = v3["com.example.stable.v1.CronTab"]
    assert shown["x-kubernetes-group-version-kind"] == [
        {"group": "stable.example.com", "kind": "CronTab", "version": "v1"}
    ]
    assert shown["x-kubernetes-selectable-fields"] == [{"fieldPath": "spec.mode"}, {"fieldPath": "spec.replicas"}]
    assert shown["properties"]["spec"]["properties"]["port"]["anyOf"] == [{"type": "integer"}, {"type": "string"}]
    assert shown["properties"]["metadata"]["allOf"][0]["$ref"].endswith(".ObjectMeta")
    assert v3["com.example.stable.v1.CronTabList"]["required"] == ["items"]
    v2 = json.loads(documents.v2())["definitions"]["com.example.stable.v1.CronTab"]["properties"]["spec"]["properties"]
    assert v2["port"] == {"x-kubernetes-int-or-string": True}
    assert v2["nullable"] == {}
    assert v2["free"] == {"x-kubernetes-preserve-unknown-fields": True}
    assert documents.hash("apis/stable.example.com/v1") == documents.hash("apis/stable.example.com/v1")


def test_limits_of_nothing_are_published() -> None:
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "integer", "minimum": 0, "default": 0, "nullable": False}},
    }
    found = version(schema={"openAPIV3Schema": schema}).type.custom
    assert found is not None
    for v3 in (True, False):
        published = found.published.document("#/", v3=v3)["properties"]["spec"]
        assert published == {"type": "integer", "minimum": 0, "default": 0}


def test_conditions() -> None:
    assert conditions({"spec": {"group": "example.com", "versions": [VERSION]}}) == (None, None)
    broken = {**VERSION, "schema": {"openAPIV3Schema": {"properties": {"a": {"type": "string"}}}}}
    schema, approval = conditions({"spec": {"group": "foo.k8s.io", "versions": [broken]}})
    assert schema == {
        "type": "NonStructuralSchema", "status": "True", "reason": "Violations",
        "message": "spec.versions[0].schema.openAPIV3Schema.type: Required value: must not be empty at the root",
    }  # fmt: skip
    assert approval is not None
    assert (approval["status"], approval["reason"]) == ("False", "MissingAnnotation")
    annotated = {"metadata": {"annotations": {"api-approved.kubernetes.io": "https://example.com/1"}},
                 "spec": {"group": "foo.k8s.io", "versions": []}}  # fmt: skip
    assert conditions(annotated)[1] == {
        "type": "KubernetesAPIApprovalPolicyConformant", "status": "True", "reason": "ApprovedAnnotation",
        "message": "approved in https://example.com/1",
    }  # fmt: skip
