"""Discovery documents, made from the catalog: the plain ones (/api, /apis, a group, a version) and the aggregated.

A client asks for the aggregated form by `Accept: application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList`
and gets all groups at once, with an ETag. Versions that upstream no longer serves come after the current ones there,
so that kubectl and Helm accept old manifests. The plain lists of groups and versions leave them out: clients that read
these (Python's) choose a kind by its name alone and would find it twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from tiphys.api.catalog import Catalog, ResourceInfo, SubresourceInfo, group_version

AGGREGATED_GROUP = "apidiscovery.k8s.io"
AGGREGATED_KIND = "APIGroupDiscoveryList"
AGGREGATED_VERSIONS = ("v2", "v2beta1")

Document = dict[str, Any]


def core_versions(catalog: Catalog, address: str) -> Document:
    """/api. `address` is host:port as the client may use it."""
    servers = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    return {
        "kind": "APIVersions",
        "versions": list(catalog.versions("")),
        "serverAddressByClientCIDRs": servers,
    }


def group_list(catalog: Catalog) -> Document:
    """/apis."""
    groups = [_group(catalog, name) for name in catalog.groups() if name and catalog.current_versions(name)]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(catalog: Catalog, name: str) -> Document | None:
    """/apis/GROUP; None for an unknown group."""
    if not name or not catalog.versions(name):
        return None
    return {"kind": "APIGroup", "apiVersion": "v1"} | _group(catalog, name)


def _group(catalog: Catalog, name: str) -> Document:
    served = catalog.current_versions(name) or catalog.versions(name)
    versions = [{"groupVersion": group_version(name, version), "version": version} for version in served]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def resource_list(catalog: Catalog, group: str, version: str) -> Document | None:
    """/api/v1 or /apis/GROUP/VERSION; None for an unknown one."""
    members = catalog.members(group, version)
    if not members:
        return None
    resources = [entry for info in members for entry in _entries(info)]
    head: Document = {"kind": "APIResourceList"}
    if group:
        head["apiVersion"] = "v1"
    return head | {"groupVersion": group_version(group, version), "resources": resources}


def _entries(info: ResourceInfo) -> Iterable[Document]:
    entry: Document = {
        "name": info.plural,
        "singularName": info.singular,
        "namespaced": info.namespaced,
        "kind": info.kind,
        "verbs": list(info.verbs),
    }
    yield entry | _names(info) | _present({"storageVersionHash": info.storage_version_hash})
    for name, sub in _subresources(info):
        yield {
            "name": f"{info.plural}/{name}",
            "singularName": "",
            "namespaced": info.namespaced,
            **(_present({"group": sub.group, "version": sub.version}) if _foreign(sub, info) else {}),
            "kind": sub.kind,
            "verbs": list(sub.verbs),
        }


def _subresources(info: ResourceInfo) -> list[tuple[str, SubresourceInfo]]:
    """By name; those of custom resources as they are."""
    found = list(info.subresources.items())
    return found if info.custom else sorted(found)


def _names(info: ResourceInfo) -> Document:
    return _present({"shortNames": list(info.short_names), "categories": list(info.categories)})


def _foreign(sub: SubresourceInfo, info: ResourceInfo) -> bool:
    return (sub.group, sub.version) != (info.group, info.version)


def _present(fields: Mapping[str, Any]) -> Document:
    return {name: value for name, value in fields.items() if value}


def aggregated(catalog: Catalog, *, core: bool, api: str = "v2") -> Document:
    """/api (`core`) or /apis in the aggregated form; `api` is v2 or v2beta1."""
    names = [name for name in catalog.groups() if (name == "") == core]
    return {
        "kind": AGGREGATED_KIND,
        "apiVersion": f"{AGGREGATED_GROUP}/{api}",
        "metadata": {},
        "items": [_aggregated_group(catalog, name) for name in names],
    }


def _aggregated_group(catalog: Catalog, name: str) -> Document:
    versions = [
        {
            "version": version,
            "resources": [_aggregated_resource(info) for info in catalog.members(name, version)],
            "freshness": "Current",
        }
        for version in catalog.versions(name)
    ]
    return {"metadata": _present({"name": name}), "versions": versions}


def _aggregated_resource(info: ResourceInfo) -> Document:
    subresources = [
        {
            "subresource": name,
            "responseKind": _response_kind(sub.group, sub.version, sub.kind, full=info.custom or _foreign(sub, info)),
            "verbs": list(sub.verbs),
        }
        for name, sub in _subresources(info)
    ]
    return {
        "resource": info.plural,
        "responseKind": _response_kind(info.group, info.version, info.kind, full=info.custom),
        "scope": "Namespaced" if info.namespaced else "Cluster",
        "singularResource": info.singular,
        "verbs": list(info.verbs),
        **_names(info),
        **_present({"subresources": subresources}),
    }


def _response_kind(group: str, version: str, kind: str, *, full: bool) -> Document:
    """Built-in resources leave group and version empty where they are those of the document's place."""
    return {"group": group if full else "", "version": version if full else "", "kind": kind}


def etag(body: bytes) -> str:
    """An entity tag that changes with the document."""
    return f'"{hashlib.sha512(body).hexdigest().upper()}"'


def wants_aggregated(accept: str) -> str:
    """The apidiscovery version that an Accept header prefers; "" for the plain form."""
    for part in accept.split(","):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        options = dict(parameter.partition("=")[::2] for parameter in parameters)
        if media not in ("application/json", "*/*", "application/*"):
            continue
        if "as" not in options:
            return ""
        known = options.get("g") == AGGREGATED_GROUP and options["as"] == AGGREGATED_KIND
        if known and options.get("v") in AGGREGATED_VERSIONS:
            return str(options["v"])
    return ""


def content_type(api: str) -> str:
    """The Content-Type of an aggregated document."""
    return f"application/json;g={AGGREGATED_GROUP};v={api};as={AGGREGATED_KIND}"
