"""CustomResourceDefinitions: schemas, defaults, rules, versions, and what may stay as it was."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tiphys.api.cel import types_of
from tiphys.api.custom.expressions import compile_rule
from tiphys.api.kinds.apiextensions.customresourcedefinition import CustomResourceDefinition
from tiphys.api.kinds.base import Context

CONTEXT = Context(now=1_700_000_000.0)
KIND = CustomResourceDefinition()
TEXT = {"type": "string"}
SCHEMA = "spec.validation.openAPIV3Schema"
"""Where refusals say that the schema is which all versions share."""


def definition(spec_schema: Any, **version: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"spec": spec_schema}}
    one = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, **version}
    names = {"plural": "foos", "kind": "Foo"}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [one]}
    return {"metadata": {"name": "foos.example.com"}, "spec": spec}


def created(wanted: Any) -> dict[str, Any]:
    obj: dict[str, Any] = copy.deepcopy(wanted)
    KIND.default(obj, "v1")
    KIND.prepare_create(obj, CONTEXT)
    return obj


def problems(obj: Any) -> list[str]:
    return [str(error) for error in KIND.validate(created(obj), CONTEXT)]


def spec_problems(schema: Any) -> list[str]:
    """Problems of a schema of spec, by paths inside of it."""
    return [text.removeprefix(f"{SCHEMA}.properties[spec]") for text in problems(definition(schema))]


def changes(old: Any, new: Any, **status: Any) -> list[str]:
    stored, wanted = created(old), copy.deepcopy(new)
    stored["status"] |= status
    KIND.default(wanted, "v1")
    KIND.prepare_update(wanted, stored, CONTEXT)
    return [str(error) for error in KIND.validate_update(wanted, stored, CONTEXT)]


ESTABLISHED = {"conditions": [{"type": "Established", "status": "True"}]}


@pytest.mark.parametrize(
    ("schema", "texts"),
    [
        ({**TEXT, "default": "x"}, []),
        ({**TEXT, "default": 5},
         ['.default: Invalid value: "integer":  in body must be of type string: "integer"']),
        ({**TEXT, "enum": ["a"], "default": "b"}, ['.default: Unsupported value: "b": supported values: "a"']),
        ({"type": "object", "properties": {"a": TEXT}, "default": {"a": "x", "b": 1}},
         ['.default: Invalid value: {"a":"x","b":1}: must not have unknown fields']),
        ({"type": "object", "properties": {"a": TEXT}, "required": ["a"], "default": {}},
         [".default.a: Required value"]),
        ({"type": "array", "items": {**TEXT, "default": 1}},
         ['.items.default: Invalid value: "integer":  in body must be of type string: "integer"']),
        ({"type": "integer", "default": 1, "x-kubernetes-validations": [{"rule": "self > 1", "message": "more"}]},
         [".default: Invalid value: 1: more"]),
        ({"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True,
          "default": {"kind": "Pod"}}, [".default.apiVersion: Required value"]),
    ],
)  # fmt: skip
def test_defaults_are_values_of_their_schema(schema: Any, texts: list[str]) -> None:
    assert spec_problems(schema) == texts


@pytest.mark.parametrize(
    ("rule", "texts"),
    [
        ({"rule": "self.a == 'x'"}, []),
        ({"rule": "self.a"}, ["rule: cel expression must evaluate to a bool"]),
        ({"rule": "self.b == 1"}, ["rule: compilation failed: ERROR: <input>:1:5: undefined field 'b'"]),
        ({"rule": "true", "messageExpression": "5"},
         ["messageExpression: messageExpression must evaluate to a string"]),
        ({"rule": "true", "messageExpression": "self.z"},
         ["messageExpression: messageExpression compilation failed: ERROR: <input>:1:5: undefined field 'z'"]),
        ({"rule": "self == oldSelf"}, []),
        ({"rule": "true", "optionalOldSelf": True}, ["optionalOldSelf: may not be set if oldSelf is not used in rule"]),
        ({"rule": "oldSelf.orValue(self) == self", "optionalOldSelf": True}, []),
        ({"rule": ""}, ["rule: rule is not specified"]),
        ({"rule": "true", "message": " "}, ["message: must be non-empty if specified"]),
        ({"rule": "true\n&& true"}, ["message: message must be specified if rule contains line breaks"]),
        ({"rule": "true", "reason": "Nope"}, ["reason: supported values"]),
        ({"rule": "true", "fieldPath": ".nope"}, ["fieldPath: must be a valid path"]),
    ],
)  # fmt: skip
def test_rules_compile(rule: Any, texts: list[str]) -> None:
    schema = {"type": "object", "properties": {"a": {**TEXT, "maxLength": 5}}, "x-kubernetes-validations": [rule]}
    found = spec_problems(schema)
    assert len(found) == len(texts)
    for text, wanted in zip(found, texts, strict=True):
        field, _, detail = wanted.partition(": ")
        assert text.startswith(f".x-kubernetes-validations[0].{field}: ")
        assert detail in text


def test_rules_may_not_cost_too_much() -> None:
    inner = {"type": "array", "items": TEXT, "x-kubernetes-validations": [{"rule": "self.all(a, self.all(b, a != b))"}]}
    found = spec_problems({"type": "array", "items": inner})
    assert found[0].startswith(
        ".items.x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more "
        "than 100x (try simplifying the rule"
    )
    assert "contributed to estimated rule cost total exceeding cost limit" in found[1]
    assert "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget" in found[2]
    small = {**inner, "maxItems": 3, "items": {**TEXT, "maxLength": 3}}
    assert spec_problems({"type": "array", "items": small, "maxItems": 3}) == []


@pytest.mark.parametrize(
    ("schema", "rule", "cost"),
    [
        ({"type": "array", "items": {"type": "number"}}, "self[1] == 0.0", 2),
        ({"type": "array", "items": {"type": "number"}}, "self.all(x, true)", 4718591),
        ({"type": "array", "items": {"type": "number"}, "maxItems": 10}, "self.all(x, true)", 32),
        ({"type": "object", "additionalProperties": TEXT}, "self.all(x, x.contains(self[x]))", 2752507),
        ({**TEXT, "maxLength": 10}, "self.contains('test')", 5),
    ],
)
def test_estimates_are_upstreams(schema: Any, rule: str, cost: int) -> None:
    found = types_of.schema(schema)
    assert found is not None
    program = compile_rule({"rule": rule}, found, schema).program
    assert program is not None
    assert program.estimated_cost().maximum == cost


def test_rules_of_an_unchanged_schema_may_cost_what_they_did() -> None:
    dear = definition({"type": "array", "maxItems": 5000, "items": {**TEXT, "maxLength": 10},
                       "x-kubernetes-validations": [{"rule": "self.all(a, self.exists_one(b, a == b))"}]})  # fmt: skip
    assert any("estimated rule cost exceeds budget" in text for text in problems(dear))
    labelled = copy.deepcopy(dear)
    labelled["metadata"]["labels"] = {"a": "b"}
    assert not any("estimated rule cost exceeds" in text for text in changes(dear, labelled))


def test_old_values_are_only_there_where_they_can_be_told_apart() -> None:
    item = {"type": "object", "properties": {"k": TEXT}, "required": ["k"],
            "x-kubernetes-validations": [{"rule": "self.k == oldSelf.k"}]}  # fmt: skip
    found = spec_problems({"type": "array", "items": item, "maxItems": 5})
    assert found == [
        '.items.x-kubernetes-validations[0].rule: Invalid value: "self.k == oldSelf.k": oldSelf cannot be used on the '
        f"uncorrelatable portion of the schema within {SCHEMA}.properties[spec]"
    ]
    keyed = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}
    assert spec_problems({"type": "array", "items": item, "maxItems": 5, **keyed}) == []


def test_schemas_are_not_nested_without_end() -> None:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(150):
        schema = {"type": "object", "properties": {"a": schema}}
    assert problems(definition(schema)) == [
        "spec.versions[0].schema.openAPIV3Schema: Forbidden: must not be nested deeper than 120 levels"
    ]


def test_rules_wait_for_a_sound_schema() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "nonsense"}},
              "x-kubernetes-validations": [{"rule": "!!"}]}  # fmt: skip
    assert all("compilation" not in text for text in spec_problems(schema))


def test_patterns_are_regular_expressions() -> None:
    assert spec_problems({**TEXT, "pattern": "(?=a)"}) == [
        '.pattern: Invalid value: "(?=a)": must be a valid regular expression, but isn\'t: error parsing regexp: '
        "invalid or unsupported Perl syntax: `(?=`"
    ]


def test_selectable_fields_lead_to_scalars() -> None:
    fields = [".spec.a", ".spec", ".spec.gone", ".spec['a']", ".metadata.name", ".spec.a"]
    schema = {"type": "object", "properties": {"a": TEXT}}
    obj = definition(schema, selectableFields=[{"jsonPath": path} for path in fields])
    root = obj["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    root["properties"]["metadata"] = {"type": "object", "properties": {"name": TEXT}}
    texts = "\n".join(problems(obj))
    assert "must point to a field of type string, boolean or integer" in texts
    assert "is an invalid path: does not refer to a valid field" in texts
    assert "is an invalid path: array notation is not allowed" in texts
    assert "must not point to fields in metadata" in texts
    assert 'Duplicate value: ".spec.a"' in texts


def test_more_selectable_fields_than_allowed_may_stay() -> None:
    names = [f"f{i}" for i in range(9)]
    schema = {"type": "object", "properties": dict.fromkeys(names, TEXT)}
    many = definition(schema, selectableFields=[{"jsonPath": f".spec.{name}"} for name in names])
    assert any("Too many: 9: must have at most 8 items" in text for text in problems(many))
    assert changes(many, many) == []


def test_unknown_formats_are_warned_of_once() -> None:
    old, new = created(definition({**TEXT, "format": "made-up"})), created(definition({**TEXT, "format": "other"}))
    assert KIND.warnings(old, None, CONTEXT) == ['unrecognized format "made-up"']
    assert KIND.warnings(old, old, CONTEXT) == []
    assert KIND.warnings(new, old, CONTEXT) == ['unrecognized format "other"']


def test_names_are_fixed_once_they_are_established() -> None:
    old = definition(TEXT)
    new = copy.deepcopy(old)
    new["spec"]["names"]["kind"] = "Bar"
    assert changes(old, new) == []
    assert changes(old, new, **ESTABLISHED) == ['spec.names.kind: Invalid value: "Bar": field is immutable']


def test_versions_that_objects_are_stored_in_stay() -> None:
    old = definition(TEXT)
    new = copy.deepcopy(old)
    new["spec"]["versions"][0]["name"] = "v2"
    found = changes(old, new)
    assert len(found) == 1
    assert found[0].startswith('status.storedVersions[0]: Invalid value: "v1": missing from spec.versions')


def test_ca_bundles_have_to_be_readable_once_the_definition_is_established() -> None:
    old = definition(TEXT)
    new = copy.deepcopy(old)
    config = {"url": "https://example.com/", "caBundle": "bm9uc2Vuc2U="}
    webhook = {"clientConfig": config, "conversionReviewVersions": ["v1"]}
    new["spec"]["conversion"] = {"strategy": "Webhook", "webhook": webhook}
    assert changes(old, new) == []
    assert changes(old, new, **ESTABLISHED) == [
        'spec.conversion.webhookClientConfig.caBundle: Invalid value: "bm9uc2Vuc2U=": unable to load root '
        "certificates: unable to parse bytes as PEM block"
    ]
    assert changes(new, new, **ESTABLISHED) == []


def test_a_definition_keeps_its_status_on_an_update() -> None:
    stored = created(definition(TEXT))
    stored["status"]["acceptedNames"] = {"plural": "foos", "kind": "Foo"}
    new = definition(TEXT)
    new["spec"]["versions"].append({**new["spec"]["versions"][0], "name": "v2"})
    new["spec"]["versions"][0]["storage"] = False
    KIND.prepare_update(new, stored, CONTEXT)
    assert new["status"]["acceptedNames"] == {"plural": "foos", "kind": "Foo"}
    assert new["status"]["storedVersions"] == ["v1", "v2"]
