"""The catalog, and the discovery, tables and OpenAPI documents that are made from it."""

from __future__ import annotations

import dataclasses
import json

import pytest

from tiphys.api import discovery, schema, table
from tiphys.api.catalog import Catalog, ResourceInfo, builtin, version_rank
from tiphys.api.kinds.base import Kind
from tiphys.api.openapi.documents import OpenApi


class Pods(Kind):
    plural, kind = "pods", "Pod"


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return builtin([Pods()])


def get(catalog: Catalog, group: str, version: str, plural: str) -> ResourceInfo:
    info = catalog.get(group, version, plural)
    assert info is not None
    return info


def test_resources_have_behaviour_and_schema(catalog: Catalog) -> None:
    pods = get(catalog, "", "v1", "pods")
    assert isinstance(pods.behaviour, Pods)
    assert pods.type is not None
    assert "spec" in pods.type.fields
    assert pods.short_names == ("po",)
    assert pods.subresources["eviction"].kind == "Eviction"
    assert catalog.of_kind("apps", "v1", "Deployment") is get(catalog, "apps", "v1", "deployments")
    assert catalog.get("apps", "v2", "deployments") is None
    assert all(one.type is not None for one in catalog.resources)


def test_old_versions_are_served_with_a_warning(catalog: Catalog) -> None:
    old = get(catalog, "batch", "v1beta1", "cronjobs")
    assert (
        old.deprecated == "batch/v1beta1 CronJob is deprecated in v1.21+, unavailable in v1.25+; use batch/v1 CronJob"
    )
    assert (old.stored_group, old.stored_version) == ("batch", "v1")
    assert old.type is get(catalog, "batch", "v1", "cronjobs").type
    assert catalog.versions("batch") == ("v1", "v1beta1")
    assert old not in catalog.stored()


def test_custom_resources_make_a_new_catalog(catalog: Catalog) -> None:
    base = get(catalog, "", "v1", "configmaps")
    new = [dataclasses.replace(base, group="x.io", version=version, plural="foos") for version in ("v1beta1", "v1")]
    more = catalog.with_resources(new)
    assert catalog.get("x.io", "v1", "foos") is None
    assert more.versions("x.io") == ("v1", "v1beta1")
    assert more.groups()[-1] == "x.io"
    assert more.without([("x.io", "v1", "foos")]).versions("x.io") == ("v1beta1",)


def test_versions_rank_as_kubernetes_ranks_them() -> None:
    ranked = ["v10", "v2", "v1", "v2beta1", "v1beta2", "v1alpha1", "alpha"]
    assert sorted([*ranked[3:], *ranked[:3]], key=version_rank) == ranked


def test_plain_discovery(catalog: Catalog) -> None:
    document = discovery.resource_list(catalog, "", "v1")
    assert document is not None
    entries = {entry["name"]: entry for entry in document["resources"]}
    assert entries["pods"] == {
        "name": "pods",
        "singularName": "pod",
        "namespaced": True,
        "kind": "Pod",
        "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        "shortNames": ["po"],
        "categories": ["all"],
        "storageVersionHash": "xPOwRZ+Yhw8=",
    }
    assert entries["serviceaccounts/token"]["group"] == "authentication.k8s.io"
    assert list(entries) == sorted(entries)
    assert discovery.group(catalog, "none") is None
    names = [group["name"] for group in discovery.group_list(catalog)["groups"]]
    assert names[:2] == ["apiregistration.k8s.io", "apps"]
    assert discovery.core_versions(catalog, "10.0.0.1:6443")["versions"] == ["v1"]


def test_plain_lists_leave_former_versions_out_and_the_aggregated_form_has_them(catalog: Catalog) -> None:
    plain = {one["name"]: one for one in discovery.group_list(catalog)["groups"]}
    assert "extensions" not in plain
    assert [one["version"] for one in plain["apps"]["versions"]] == ["v1"]
    full = {one["metadata"]["name"]: one for one in discovery.aggregated(catalog, core=False)["items"]}
    assert [one["version"] for one in full["extensions"]["versions"]] == ["v1beta1"]
    assert full["apps"]["versions"][0]["version"] == "v1"
    assert len(full["apps"]["versions"]) == 3


def test_aggregated_discovery(catalog: Catalog) -> None:
    document = discovery.aggregated(catalog, core=False)
    (batch,) = [item for item in document["items"] if item["metadata"]["name"] == "batch"]
    assert [version["version"] for version in batch["versions"]] == ["v1", "v1beta1"]
    accept = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
    assert discovery.wants_aggregated(accept) == "v2beta1"
    assert discovery.wants_aggregated("application/json") == ""
    body = json.dumps(document).encode()
    assert discovery.etag(body) != discovery.etag(body + b" ")


def test_tables_of_kinds_without_cells_show_name_and_creation(catalog: Catalog) -> None:
    info = get(catalog, "", "v1", "limitranges")
    name, created = table.definitions(info)
    assert name["description"].startswith("Name must be unique within a namespace.")
    assert (created["name"], created["type"]) == ("Created At", "date")
    obj = {"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}}
    assert table.cells(info, obj, 0) == ["a", "2026-01-01T00:00:00Z"]


def test_openapi_v3_is_what_kubectl_reads(catalog: Catalog) -> None:
    documents = OpenApi(catalog, schema.builtin(), "v1.36.0")
    index = documents.index()["paths"]
    assert index["apis/apps/v1"]["serverRelativeURL"].startswith("/openapi/v3/apis/apps/v1?hash=")
    body = documents.v3("api/v1")
    assert body is not None
    assert documents.v3("api/v1") == body
    assert documents.v3("apis/none/v1") is None
    document = json.loads(body)
    patch = document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"]
    assert "fieldValidation" in [parameter["name"] for parameter in patch["parameters"]]
    assert patch["x-kubernetes-group-version-kind"] == {"group": "", "kind": "Pod", "version": "v1"}
    status = document["components"]["schemas"]["io.k8s.api.core.v1.PodStatus"]
    assert status["properties"]["phase"]["description"]
    references = {text.split('"')[0] for text in body.decode().split("#/components/schemas/")[1:]}
    assert references <= document["components"]["schemas"].keys()


def test_openapi_v3_of_an_old_version_names_its_kind(catalog: Catalog) -> None:
    body = OpenApi(catalog, schema.builtin(), "v1.36.0").v3("apis/batch/v1beta1")
    assert body is not None
    kinds = json.loads(body)["components"]["schemas"]["io.k8s.api.batch.v1.CronJob"]["x-kubernetes-group-version-kind"]
    assert {"group": "batch", "kind": "CronJob", "version": "v1beta1"} in kinds


def test_openapi_v2(catalog: Catalog) -> None:
    document = json.loads(OpenApi(catalog, schema.builtin(), "v1.36.0").v2())
    assert document["swagger"] == "2.0"
    post = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments"]["post"]
    assert post["parameters"][0]["schema"] == {"$ref": "#/definitions/io.k8s.api.apps.v1.Deployment"}
    assert document["definitions"]["io.k8s.apimachinery.pkg.api.resource.Quantity"]["type"] == "string"
