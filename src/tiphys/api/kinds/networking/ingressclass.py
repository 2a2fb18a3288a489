"""IngressClass (API reference, networking.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, FieldError, MutableObject, Object
from tiphys.api.kinds.common import PlainKind, setdefaults
from tiphys.api.kinds.networking.ingress import local_reference
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.names import dns_label
from tiphys.api.validation.paths import domain_path

Struct = Mapping[str, Any]

_DEFAULT = "ingressclass.kubernetes.io/is-default-class"
_MAX_CONTROLLER = 250


class IngressClass(PlainKind):
    group, plural, kind = "networking.k8s.io", "ingressclasses", "IngressClass"
    counts_generation = True
    revalidates_metadata = True
    columns = (
        printing.NAME,
        Column("Controller", description="Controller that is responsible for handling this class"),
        Column("Parameters", description="A reference to a resource with additional parameters"),
        printing.AGE,
    )

    def default(self, obj: MutableObject, version: str) -> None:
        if (parameters := (obj.get("spec") or {}).get("parameters")) is not None:
            setdefaults(parameters, scope="Cluster")

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        spec: Struct = obj.get("spec") or {}
        controller = spec.get("controller", "")
        if len(controller.encode()) > _MAX_CONTROLLER:
            errors.too_long("spec.controller", _MAX_CONTROLLER)
        domain_path(errors, "spec.controller", controller)
        if (parameters := spec.get("parameters")) is not None:
            _parameters(errors, "spec.parameters", parameters)

    def validate_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        errors = Errors()
        controllers = [(obj.get("spec") or {}).get("controller", "") for obj in (new, old)]
        errors.immutable("spec.controller", *controllers)
        errors.extend(super().validate_update(new, old, context))
        return errors

    def cells(self, obj: Object, now: float) -> list[Any]:
        spec: Struct = obj.get("spec") or {}
        annotations = (obj.get("metadata") or {}).get("annotations") or {}
        mark, parameters = " (default)" if annotations.get(_DEFAULT) == "true" else "", printing.NONE
        if (reference := spec.get("parameters")) is not None:
            group = reference.get("apiGroup")
            kind = reference.get("kind", "") + ("" if group is None else f".{group}")
            parameters = f"{kind}/{reference.get('name', '')}"
        return [printing.name(obj) + mark, spec.get("controller", ""), parameters, printing.age(obj, now)]


def _parameters(errors: Errors, path: str, reference: Struct) -> None:
    local_reference(errors, path, reference)
    scope, namespace = reference.get("scope"), reference.get("namespace")
    if scope is None:
        errors.required(f"{path}.scope")
        return
    errors.one_of(f"{path}.scope", scope, ("Cluster", "Namespace"))
    if scope == "Namespace":
        if namespace is None:
            errors.required(f"{path}.namespace", "`parameters.scope` is set to 'Namespace'")
        else:
            errors.each(f"{path}.namespace", namespace, dns_label(namespace))
    elif scope == "Cluster" and namespace is not None:
        errors.forbidden(f"{path}.namespace", "`parameters.scope` is set to 'Cluster'")
