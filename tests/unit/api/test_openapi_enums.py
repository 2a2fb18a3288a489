"""Fields with a few values say in OpenAPI which: `kubectl explain` shows them."""

from __future__ import annotations

import orjson
import pytest

from tiphys.api.catalog import builtin
from tiphys.api.openapi.documents import OpenApi
from tiphys.api.openapi.schemas import enums
from tiphys.apiserver import plumbing


@pytest.fixture(scope="module")
def documents() -> OpenApi:
    catalog = builtin(plumbing.kinds())
    return OpenApi(catalog, catalog.resources[0].definitions, "v1")


def test_every_line_is_about_a_field_that_there_is() -> None:
    definitions = builtin(plumbing.kinds()).resources[0].definitions
    for name, field in enums():
        assert field in definitions.type(name).fields


def test_a_field_has_its_values_and_a_list_those_of_its_items(documents: OpenApi) -> None:
    schemas = orjson.loads(documents.v3("api/v1") or b"")["components"]["schemas"]
    assert schemas["io.k8s.api.core.v1.Container"]["properties"]["imagePullPolicy"]["enum"] == [
        "Always",
        "IfNotPresent",
        "Never",
    ]
    modes = schemas["io.k8s.api.core.v1.PersistentVolumeSpec"]["properties"]["accessModes"]
    assert modes["items"]["enum"] == ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"]


def test_built_in_objects_are_offered_in_protobuf(documents: OpenApi) -> None:
    listing = orjson.loads(documents.v3("api/v1") or b"")["paths"]["/api/v1/nodes"]["get"]
    assert set(listing["responses"]["200"]["content"]) == {
        "application/json",
        "application/json;stream=watch",
        "application/vnd.kubernetes.protobuf",
        "application/vnd.kubernetes.protobuf;stream=watch",
        "application/yaml",
    }
