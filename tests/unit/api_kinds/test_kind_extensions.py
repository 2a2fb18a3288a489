"""Kinds that extend the API or guard it: schemas, webhooks, storage, networks."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tiphys.api.kinds.admissionregistration.webhooks import ValidatingWebhookConfiguration
from tiphys.api.kinds.apiextensions.customresourcedefinition import CustomResourceDefinition
from tiphys.api.kinds.apiregistration.apiservice import APIService
from tiphys.api.kinds.base import Context, Kind
from tiphys.api.kinds.core.node import Node
from tiphys.api.kinds.core.persistentvolume import PersistentVolume
from tiphys.api.kinds.flowcontrol.prioritylevelconfiguration import PriorityLevelConfiguration
from tiphys.api.kinds.networking.networkpolicy import NetworkPolicy
from tiphys.api.kinds.storage.storageclass import StorageClass

_CONTEXT = Context(now=1_700_000_000.0)


def _problems(kind: Kind, obj: dict[str, Any]) -> list[str]:
    obj = copy.deepcopy(obj)
    kind.default(obj, "v1")
    kind.prepare_create(obj, _CONTEXT)
    return [str(error) for error in kind.validate(obj, _CONTEXT)]


def _definition(schema: dict[str, Any]) -> dict[str, Any]:
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "foos", "kind": "Foo"}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    return {"metadata": {"name": "foos.example.com"}, "spec": spec}


def test_a_definition_gets_the_names_that_follow_from_its_kind() -> None:
    obj = _definition({"type": "object"})
    CustomResourceDefinition().default(obj, "v1")
    assert obj["spec"]["names"] == {"plural": "foos", "kind": "Foo", "singular": "foo", "listKind": "FooList"}
    assert obj["spec"]["conversion"] == {"strategy": "None"}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "object"}, []),
        ({}, ["type: Required value: must not be empty at the root"]),
        (
            {"type": "object", "properties": {"a": {}}},
            ["properties[a].type: Required value: must not be empty for specified object fields"],
        ),
        (
            {"type": "object", "anyOf": [{"type": "object"}]},
            ["anyOf[0].type: Forbidden: must be empty to be structural"],
        ),
        (
            {"type": "object", "not": {"properties": {"a": {"minimum": 1}}}},
            [
                "properties[a]: Required value: because it is defined in"
                " spec.validation.openAPIV3Schema.not.properties[a]"
            ],
        ),
        (
            {"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}},
            ['properties[a].default: Invalid value: "string":  in body must be of type integer: "string"'],
        ),
    ],
)
def test_schemas_have_to_be_structural(schema: dict[str, Any], expected: list[str]) -> None:
    found = _problems(CustomResourceDefinition(), _definition(schema))
    assert found == [f"spec.validation.openAPIV3Schema.{text}" for text in expected]


def test_a_definition_is_called_after_its_plural_and_group() -> None:
    obj = _definition({"type": "object"})
    obj["metadata"]["name"] = "other.example.com"
    assert _problems(CustomResourceDefinition(), obj) == [
        'metadata.name: Invalid value: "other.example.com": must be spec.names.plural+"."+spec.group'
    ]


def test_webhooks_say_where_they_are_and_that_they_change_nothing() -> None:
    hook = {"name": "a.example.com", "clientConfig": {}, "admissionReviewVersions": ["v1"]}
    found = _problems(ValidatingWebhookConfiguration(), {"metadata": {"name": "w"}, "webhooks": [hook]})
    assert found == [
        "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
        "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
    ]


def test_an_api_service_is_called_after_its_version_and_group() -> None:
    spec = {"group": "example.com", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}
    assert _problems(APIService(), {"metadata": {"name": "v1.example.com"}, "spec": spec}) == []
    (problem,) = _problems(APIService(), {"metadata": {"name": "a"}, "spec": spec})
    assert problem.startswith('metadata.name: Invalid value: "a": must be `spec.version')


def test_the_class_of_storage_cannot_be_turned_into_another() -> None:
    old = {"metadata": {"name": "s", "resourceVersion": "1"}, "provisioner": "a.example.com"}
    StorageClass().default(old, "v1")
    new = {**copy.deepcopy(old), "provisioner": "b.example.com"}
    assert [str(error) for error in StorageClass().validate_update(new, old, _CONTEXT)] == [
        'provisioner: Invalid value: "b.example.com": field is immutable'
    ]


def test_a_volume_has_one_source() -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}
    obj = {"metadata": {"name": "v"}, "spec": spec}
    assert _problems(PersistentVolume(), obj) == ["spec: Required value: must specify a volume type"]
    spec.update(hostPath={"path": "/a"}, nfs={"server": "s", "path": "/p"})
    assert _problems(PersistentVolume(), obj) == ["spec.nfs: Forbidden: may not specify more than 1 volume type"]


def test_hands_of_queues_are_limited() -> None:
    queuing = {"queues": 4, "handSize": 5}
    limited = {"limitResponse": {"type": "Queue", "queuing": queuing}}
    obj = {"metadata": {"name": "p"}, "spec": {"type": "Limited", "limited": limited}}
    assert _problems(PriorityLevelConfiguration(), obj) == [
        "spec.limited.limitResponse.queuing.handSize: Invalid value: 5: should not be greater than queues (4)"
    ]


def test_exceptions_of_a_policy_lie_inside_its_network() -> None:
    block = {"cidr": "10.0.0.0/16", "except": ["10.1.0.0/24"]}
    obj = {"metadata": {"name": "n"}, "spec": {"ingress": [{"from": [{"ipBlock": block}]}]}}
    assert _problems(NetworkPolicy(), obj) == [
        'spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: "10.1.0.0/24": must be a strict subset of `cidr`'
    ]


def test_a_default_of_the_wrong_type_is_a_cause_of_its_own() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}}
    definition = _definition(schema)
    CustomResourceDefinition().default(definition, "v1")
    causes = {error.cause()["reason"] for error in CustomResourceDefinition().validate(definition, _CONTEXT)}
    assert "FieldValueTypeInvalid" in causes


def test_nodes_have_no_configuration_of_their_own_any_more() -> None:
    node: dict[str, Any] = {"metadata": {"name": "n"}, "spec": {"configSource": {}}, "status": {"config": {}}}
    Node().prepare_create(node, _CONTEXT)
    assert (node["spec"], node["status"]) == ({}, {})
    node["status"]["config"] = {}
    Node().prepare_status_update(node, {"metadata": {"name": "n"}, "status": {}}, _CONTEXT)
    assert node["status"] == {}
