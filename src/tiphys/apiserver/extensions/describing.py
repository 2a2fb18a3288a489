"""What a CustomResourceDefinition says about what is served, without its schemas: cheap, and small in memory.

Hundreds of definitions may be there of which few are used, and a decoded schema can take megabytes; so the server keeps
only this of each, and compiles the rest (`api.custom`) when a request for such a resource comes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from tiphys.api.catalog import ResourceInfo, SubresourceInfo, version_rank
from tiphys.api.kinds.base import Kind
from tiphys.api.meta import is_true
from tiphys.api.schema import Definitions

Object = Mapping[str, Any]

GROUP, PLURAL = "apiextensions.k8s.io", "customresourcedefinitions"
VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
TERMINATING_VERBS = ("delete", "deletecollection", "get", "list", "watch")
"""What discovery shows of a resource whose definition is being deleted."""
CHANGING = ("get", "patch", "update")
ESTABLISHED, NAMES_ACCEPTED, TERMINATING = "Established", "NamesAccepted", "Terminating"
_PLAIN = Kind()


@dataclass(frozen=True, slots=True)
class Served:
    """One definition as of one generation."""

    name: str
    uid: str
    generation: int
    names: Mapping[str, Any]
    """status.acceptedNames"""
    namespaced: bool
    storage_version: str
    versions: tuple[str, ...]
    """All versions, served or not: objects may be stored in each."""
    shapes: Mapping[str, str]
    """A digest of each version's schema, to tell where conversion changes nothing but apiVersion."""
    webhook: Mapping[str, Any] | None
    """spec.conversion.webhook if that is the strategy."""
    resources: tuple[ResourceInfo, ...] = field(compare=False)
    """The served versions."""
    established: bool = False
    terminating: bool = False

    @property
    def group(self) -> str:
        return self.name.partition(".")[2]

    @property
    def plural(self) -> str:
        return self.name.partition(".")[0]

    def same_but_state(self, other: Served) -> bool:
        """Whether it serves the same objects in the same way."""
        mine, others = ((one.uid, one.generation, one.names) for one in (self, other))
        return mine == others

    def discovered(self) -> tuple[ResourceInfo, ...]:
        """What discovery shows."""
        return self.resources if self.established else ()


def is_served(crd: Object) -> bool:
    """Whether requests for its resources are answered."""
    return is_true(crd, NAMES_ACCEPTED) or is_true(crd, ESTABLISHED)


def describe(crd: Object, definitions: Definitions) -> Served:
    """The short form of a definition whose names are accepted."""
    spec, metadata = crd["spec"], crd["metadata"]
    versions = spec["versions"]
    terminating = is_true(crd, TERMINATING)
    webhook = (
        spec.get("conversion", {}).get("webhook") if spec.get("conversion", {}).get("strategy") == "Webhook" else None
    )
    return Served(
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        names=dict((crd.get("status") or {}).get("acceptedNames") or {}),
        namespaced=spec["scope"] == "Namespaced",
        storage_version=next((version["name"] for version in versions if version.get("storage")), ""),
        versions=tuple(version["name"] for version in versions),
        shapes={version["name"]: _shape(version) for version in versions} if len(versions) > 1 else {},
        webhook=webhook,
        resources=tuple(_infos(crd, definitions, TERMINATING_VERBS if terminating else VERBS)),
        established=is_true(crd, ESTABLISHED),
        terminating=terminating,
    )


def _shape(version: Object) -> str:
    return hashlib.sha256(orjson.dumps(version.get("schema"), option=orjson.OPT_SORT_KEYS)).hexdigest()


def _infos(crd: Object, definitions: Definitions, verbs: tuple[str, ...]) -> list[ResourceInfo]:
    spec, names = crd["spec"], crd["status"]["acceptedNames"]
    group = spec["group"]
    stored: Object = next((version for version in spec["versions"] if version.get("storage")), {})
    infos = []
    for version in spec["versions"]:
        if not version.get("served"):
            continue
        infos.append(
            ResourceInfo(
                group,
                version["name"],
                names.get("kind", ""),
                names.get("plural", ""),
                names.get("singular", ""),
                spec["scope"] == "Namespaced",
                _PLAIN,
                definitions,
                short_names=tuple(names.get("shortNames") or ()),
                categories=tuple(names.get("categories") or ()),
                verbs=verbs,
                subresources=_subresources(version, group, names.get("kind", "")),
                stored_group=group,
                stored_version=stored.get("name", ""),
                deprecated=_deprecation(version, spec) if version.get("deprecated") else "",
                list_kind=names.get("listKind", ""),
                custom=True,
            )
        )
    return infos


def _subresources(version: Object, group: str, kind: str) -> dict[str, SubresourceInfo]:
    found = version.get("subresources") or {}
    out = {}
    if found.get("status") is not None:
        out["status"] = SubresourceInfo("status", group, version["name"], kind, CHANGING)
    if found.get("scale") is not None:
        out["scale"] = SubresourceInfo("scale", "autoscaling", "v1", "Scale", CHANGING)
    return out


def _deprecation(version: Object, spec: Object) -> str:
    """The text of the Warning header: the definition's own, or one that names the best version instead."""
    own: str | None = version.get("deprecationWarning")
    if own is not None:
        return own
    group, kind, rank = spec["group"], spec["names"]["kind"], version_rank(version["name"])
    text = f"{group}/{version['name']} {kind} is deprecated"
    better = sorted(
        (
            version_rank(other["name"])
            for other in spec["versions"]
            if other.get("served") and not other.get("deprecated") and version_rank(other["name"]) < rank
        ),
    )
    names = {version_rank(other["name"]): other["name"] for other in spec["versions"]}
    return text + (f"; use {group}/{names[better[0]]} {kind}" if better else "")
