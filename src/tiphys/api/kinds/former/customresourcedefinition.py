"""CustomResourceDefinition of apiextensions.k8s.io/v1beta1: one schema, columns and subresources for all versions."""

from __future__ import annotations

from typing import Any

from tiphys.api.kinds.apiextensions.customresourcedefinition import CustomResourceDefinition
from tiphys.api.kinds.base import MutableObject
from tiphys.api.kinds.common import child, fill_empty, setdefaults
from tiphys.api.kinds.former.base import Former, move, structs

_SHARED = (("validation", "schema"), ("subresources", "subresources"), ("additionalPrinterColumns",) * 2)
"""Field of the spec, and the field of each version that it stands for."""


class FormerDefinition(Former, CustomResourceDefinition):
    def default(self, obj: MutableObject, version: str) -> None:
        spec = child(obj, "spec")
        fill_empty(spec, scope="Namespaced")
        setdefaults(spec, preserveUnknownFields=True)
        if not spec.get("versions") and spec.get("version"):
            spec["versions"] = [{"name": spec["version"], "served": True, "storage": True}]
        if not spec.get("version") and structs(spec.get("versions")):
            spec["version"] = spec["versions"][0].get("name", "")
        conversion = child(spec, "conversion")
        fill_empty(conversion, strategy="None")
        if conversion["strategy"] == "Webhook" and not conversion.get("conversionReviewVersions"):
            conversion["conversionReviewVersions"] = ["v1beta1"]
        super().default(obj, version)

    def renew(self, obj: MutableObject) -> None:
        spec = obj.get("spec") or {}
        spec.pop("version", None)
        shared = {field: spec.pop(source) for source, field in _SHARED if spec.get(source)}
        versions = structs(spec.get("versions"))
        for version in versions:
            setdefaults(version, **shared)
            _columns(version, "JSONPath", "jsonPath")
            if spec.get("preserveUnknownFields"):
                _preserve(version)
        spec.pop("preserveUnknownFields", None)
        _renew_conversion(spec.get("conversion"))

    def restore(self, obj: MutableObject) -> None:
        spec = obj.get("spec") or {}
        versions = structs(spec.get("versions"))
        for version in versions:
            _columns(version, "jsonPath", "JSONPath")
        if versions:
            spec["version"] = versions[0].get("name", "")
        for source, field in _SHARED:
            values = [version.get(field) for version in versions]
            if values and values[0] and all(value == values[0] for value in values):
                spec[source] = values[0]
                for version in versions:
                    del version[field]
        _restore_conversion(spec.get("conversion"))
        setdefaults(spec, preserveUnknownFields=False)


def _preserve(version: dict[str, Any]) -> None:
    """Say in today's words that unknown fields are kept: at the root of the schema, which is required now."""
    schema = child(child(version, "schema"), "openAPIV3Schema")
    setdefaults(schema, type="object")
    schema["x-kubernetes-preserve-unknown-fields"] = True


def _columns(version: dict[str, Any], source: str, target: str) -> None:
    for column in structs(version.get("additionalPrinterColumns")):
        move(column, source, target)


def _renew_conversion(conversion: Any) -> None:
    if not isinstance(conversion, dict):
        return
    client, versions = conversion.pop("webhookClientConfig", None), conversion.pop("conversionReviewVersions", None)
    if client is not None or versions:
        conversion["webhook"] = {"conversionReviewVersions": versions or []}
        if client is not None:
            conversion["webhook"]["clientConfig"] = client


def _restore_conversion(conversion: Any) -> None:
    webhook = conversion.pop("webhook", None) if isinstance(conversion, dict) else None
    if webhook:
        move(webhook, "clientConfig", "webhookClientConfig")
        conversion |= webhook
