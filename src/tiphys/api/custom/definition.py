"""A CustomResourceDefinition compiled: the resources that it makes the server serve.

`compile_definition` is cheap; what a version needs is made when it is first used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tiphys.api.catalog import ALL_VERBS, ResourceInfo, SubresourceInfo, group_version, version_rank
from tiphys.api.custom import approval
from tiphys.api.custom.kind import CustomKind
from tiphys.api.custom.schemas import EMPTY, Schema
from tiphys.api.custom.types import custom_type, list_type
from tiphys.api.kinds.apiextensions.structural import structural, unstructured
from tiphys.api.kinds.base import MutableObject, Object
from tiphys.api.schema import Definitions, Type, builtin
from tiphys.api.validation.errors import Errors

Struct = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class CustomVersion:
    """One version of a definition."""

    definition: CustomDefinition
    spec: Struct
    """The entry of spec.versions."""

    @property
    def name(self) -> str:
        return str(self.spec.get("name", ""))

    @property
    def served(self) -> bool:
        return bool(self.spec.get("served"))

    @property
    def storage(self) -> bool:
        return bool(self.spec.get("storage"))

    @property
    def schema(self) -> Schema | None:
        """Its openAPIV3Schema."""
        return (self.spec.get("schema") or {}).get("openAPIV3Schema")

    @property
    def type_name(self) -> str:
        """The name of its definition in OpenAPI documents: com.example.stable.v1.CronTab."""
        definition = self.definition
        return model_name(definition.group, self.name, definition.names.get("kind", ""))

    @cached_property
    def type(self) -> Type:
        """What decoding and server-side apply go by."""
        definition = self.definition
        kind = (definition.group, self.name, definition.names.get("kind", ""))
        keeps = definition.keeps_unknown
        return custom_type(self.type_name, kind, self.schema, self.selectable, keeps_unknown=keeps)

    @property
    def selectable(self) -> list[str]:
        """The paths of its selectable fields."""
        return [field.get("jsonPath", "") for field in self.spec.get("selectableFields") or ()]

    @property
    def list_kind(self) -> str:
        names = self.definition.names
        return str(names.get("listKind") or names.get("kind", "") + "List")

    @cached_property
    def list_type(self) -> Type:
        """The type of its lists, for OpenAPI."""
        definition = self.definition
        kind = (definition.group, self.name, self.list_kind)
        plural = definition.names.get("plural", "")
        return list_type(model_name(*kind), kind, self.type, plural, self.selectable)

    @cached_property
    def kind(self) -> CustomKind:
        definition = self.definition
        return CustomKind(definition.group, definition.names, self.spec, self.schema, definition.stored.name)

    @cached_property
    def info(self) -> ResourceInfo:
        """Its line in the catalog."""
        definition, names = self.definition, self.definition.names
        return ResourceInfo(
            group=definition.group,
            version=self.name,
            kind=names.get("kind", ""),
            plural=names.get("plural", ""),
            singular=names.get("singular") or names.get("kind", "").lower(),
            namespaced=definition.namespaced,
            behaviour=self.kind,
            definitions=definition.definitions,
            type_name=self.type_name,
            short_names=tuple(names.get("shortNames") or ()),
            categories=tuple(names.get("categories") or ()),
            verbs=ALL_VERBS,
            subresources=self._subresources(),
            stored_group=definition.group,
            stored_version=definition.stored.name,
            hash_version=definition.stored.name,
            deprecated=self._deprecation(),
            list_kind=self.list_kind,
        )

    def read(self, obj: MutableObject) -> None:
        """Fill in, in place, the defaults that a stored object shows when it is read."""
        self.kind.default(obj, self.name)

    def _subresources(self) -> dict[str, SubresourceInfo]:
        group, kind = self.definition.group, self.definition.names.get("kind", "")
        out = {}
        if self.kind.has_status:
            out["status"] = SubresourceInfo("status", group, self.name, kind)
        if self.kind.scale is not None:
            out["scale"] = SubresourceInfo("scale", "autoscaling", "v1", "Scale")
        return out

    def _deprecation(self) -> str:
        """The text of the Warning header: the definition's own, or the one that names a newer version."""
        if not self.spec.get("deprecated"):
            return ""
        own = self.spec.get("deprecationWarning")
        if own is not None:
            return str(own)
        definition, kind = self.definition, self.definition.names.get("kind", "")
        text = f"{group_version(definition.group, self.name)} {kind} is deprecated"
        newer = [
            version.name
            for version in definition.versions.values()
            if version.served and not version.spec.get("deprecated") and rank(version.name) < rank(self.name)
        ]
        best = min(newer, key=rank, default="")
        return f"{text}; use {group_version(definition.group, best)} {kind}" if best else text


class CustomDefinition:
    """See the module's docstring. `names` are the accepted ones, or the wanted ones while none are."""

    def __init__(self, crd: Object) -> None:
        spec: Struct = crd.get("spec") or {}
        accepted = (crd.get("status") or {}).get("acceptedNames") or {}
        self.name: str = (crd.get("metadata") or {}).get("name", "")
        self.uid: str = (crd.get("metadata") or {}).get("uid", "")
        self.group: str = spec.get("group", "")
        self.names: Struct = accepted if accepted.get("plural") else spec.get("names") or {}
        self.namespaced = spec.get("scope") == "Namespaced"
        self.keeps_unknown = bool(spec.get("preserveUnknownFields"))
        self.conversion: Struct = spec.get("conversion") or EMPTY
        self.versions: dict[str, CustomVersion] = {
            version.get("name", ""): CustomVersion(self, version) for version in spec.get("versions") or ()
        }

    @cached_property
    def stored(self) -> CustomVersion:
        """The version that the store holds."""
        return next(version for version in self.versions.values() if version.storage)

    @cached_property
    def definitions(self) -> Definitions:
        """The built-in types and those of all its versions."""
        versions = self.versions.values()
        return builtin().with_types(one for version in versions for one in (version.type, version.list_type))

    def resources(self) -> tuple[ResourceInfo, ...]:
        """What is served, the preferred version first."""
        served = [version for version in self.versions.values() if version.served]
        return tuple(version.info for version in sorted(served, key=lambda version: rank(version.name)))

    def convert(self, obj: MutableObject, target: str) -> MutableObject:
        """As the strategy None does: only apiVersion differs."""
        return {**obj, "apiVersion": group_version(self.group, target)}


def compile_definition(crd: Object) -> CustomDefinition:
    """The value of a CustomResourceDefinition as it is stored (v1, canonical)."""
    return CustomDefinition(crd)


def conditions(crd: Object) -> tuple[dict[str, str] | None, dict[str, str] | None]:
    """The conditions NonStructuralSchema and KubernetesAPIApprovalPolicyConformant, without lastTransitionTime; None
    for one that the definition should not have."""
    return _non_structural(crd), approval.condition(crd)


def _non_structural(crd: Object) -> dict[str, str] | None:
    found, spec = Errors(), crd.get("spec") or {}
    if spec.get("preserveUnknownFields"):
        found.invalid("spec.preserveUnknownFields", True, "must be false")
    for i, version in enumerate(spec.get("versions") or ()):
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if schema is None:
            continue
        if problem := unstructured(schema):
            name = version.get("name", "")
            text = f"failed to check validation schema for version {name}: {problem}"
            return _schema_condition("Unknown", "StructuralError", text)
        found += structural(f"spec.versions[{i}].schema.openAPIV3Schema", schema)
    if not found:
        return None
    texts = list(dict.fromkeys(map(str, found)))
    return _schema_condition("True", "Violations", texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")


def _schema_condition(status: str, reason: str, message: str) -> dict[str, str]:
    return {"type": "NonStructuralSchema", "status": status, "reason": reason, "message": message}


def rank(version: str) -> tuple[int, int, int, str]:
    """Sorts versions, the preferred one first."""
    return version_rank(version)


def model_name(group: str, version: str, kind: str) -> str:
    """stable.example.com, v1, CronTab: com.example.stable.v1.CronTab."""
    return ".".join([*reversed(group.split(".")), version, kind])
