"""Pieces of structural schemas that the Gateway API's kinds share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Schema = dict[str, Any]
Rules = Sequence[Schema]
"""Of CEL: see `rule`."""

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_DOMAIN_PATH = rf"{_SUBDOMAIN}\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+"


def text(least: int = 0, most: int = 0, pattern: str = "", **more: Any) -> Schema:
    """A string of so many characters."""
    schema: Schema = {"type": "string"}
    if least:
        schema["minLength"] = least
    if most:
        schema["maxLength"] = most
    if pattern:
        schema["pattern"] = pattern
    return schema | more


def number(least: int, most: int = 0, form: str = "int32", **more: Any) -> Schema:
    schema: Schema = {"type": "integer", "format": form, "minimum": least}
    if most:
        schema["maximum"] = most
    return schema | more


def choice(*values: str, **more: Any) -> Schema:
    return {"type": "string", "enum": list(values)} | more


def record(required: str = "", rules: Rules = (), **properties: Schema) -> Schema:
    """An object. Names that are Python's own words end in "_"; `required` are names by spaces."""
    schema: Schema = {"type": "object", "properties": {name.rstrip("_"): one for name, one in properties.items()}}
    if required:
        schema["required"] = required.split()
    if rules:
        schema["x-kubernetes-validations"] = list(rules)
    return schema


def array(
    items: Schema, most: int, *, kind: str = "atomic", keys: str = "", least: int = 0, rules: Rules = (), **more: Any
) -> Schema:
    schema: Schema = {"type": "array", "items": items, "maxItems": most, "x-kubernetes-list-type": kind}
    if keys:
        schema["x-kubernetes-list-map-keys"] = keys.split()
    if least:
        schema["minItems"] = least
    if rules:
        schema["x-kubernetes-validations"] = list(rules)
    return schema | more


def table(values: Schema, most: int, rules: Rules = ()) -> Schema:
    """An object of any names."""
    schema: Schema = {"type": "object", "additionalProperties": values, "maxProperties": most}
    return schema | ({"x-kubernetes-validations": list(rules)} if rules else {})


def rule(expression: str, message: str) -> Schema:
    return {"rule": expression, "message": message}


def described(schema: Schema, description: str) -> Schema:
    return {"description": description, **schema}


def group(**more: Any) -> Schema:
    return text(0, 253, rf"^$|^{_SUBDOMAIN}$", **more)


def kind(**more: Any) -> Schema:
    return text(1, 63, "^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$", **more)


def namespace() -> Schema:
    return text(1, 63, f"^{_LABEL}$")


def section() -> Schema:
    return text(1, 253, f"^{_SUBDOMAIN}$")


def hostname(*, wildcard: bool = True) -> Schema:
    return text(1, 253, rf"^(\*\.)?{_SUBDOMAIN}$" if wildcard else f"^{_SUBDOMAIN}$")


def controller() -> Schema:
    return text(1, 253, f"^{_DOMAIN_PATH}$")


def port() -> Schema:
    return number(1, 65535)


def selector() -> Schema:
    """A LabelSelector."""
    expression = record("key operator", key=text(), operator=text(), values=array(text(), 4096))
    del expression["properties"]["values"]["maxItems"]
    expressions = array(expression, 4096)
    del expressions["maxItems"]
    labels: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
    return record(matchExpressions=expressions, matchLabels=labels) | {"x-kubernetes-map-type": "atomic"}


def conditions(least: int = 0, **more: Any) -> Schema:
    """metav1.Condition, by type."""
    condition = record(
        "lastTransitionTime message reason status type",
        lastTransitionTime=text(format="date-time"),
        message=text(0, 32768),
        observedGeneration=number(0, form="int64"),
        reason=text(1, 1024, "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"),
        status=choice("True", "False", "Unknown"),
        type=text(0, 316, rf"^({_SUBDOMAIN}/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"),
    )
    return array(condition, 8, kind="map", keys="type", least=least, **more)


def waiting(*types: str) -> list[dict[str, str]]:
    """Conditions of what no controller has seen yet."""
    return [
        {
            "type": one,
            "status": "Unknown",
            "reason": "Pending",
            "message": "Waiting for controller",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        }
        for one in types
    ]


def reference(required: str) -> Schema:
    """A reference by group, kind and name; with a namespace where it says so."""
    return record(required, group=group(), kind=kind(), name=text(1, 253))


def address_type() -> Schema:
    pattern = f"^Hostname|IPAddress|NamedAddress|{_DOMAIN_PATH}$"
    return text(1, 253, pattern, default="IPAddress")


def protocol() -> Schema:
    return text(1, 255, rf"^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$|{_SUBDOMAIN}\/[A-Za-z0-9]+$")


HOST_CHARACTERS = rf'r"""^(\*\.)?{_SUBDOMAIN}$"""'
"""For expressions."""


def versions(columns: list[dict[str, Any]], schema: Schema, names: tuple[str, ...] = ("v1", "v1beta1")) -> Any:
    """All versions alike; the first is the one that is stored."""
    return [
        {
            "name": name,
            "served": True,
            "storage": place == 0,
            "additionalPrinterColumns": columns,
            "schema": {"openAPIV3Schema": schema},
            **({"subresources": {"status": {}}} if "status" in schema["properties"] else {}),
        }
        for place, name in enumerate(names)
    ]


def whole(description: str, spec: Schema, status: Schema | None = None) -> Schema:
    """The schema of a kind."""
    properties: Schema = {"apiVersion": text(), "kind": text(), "metadata": {"type": "object"}, "spec": spec}
    if status is not None:
        properties["status"] = status
    return {"type": "object", "description": description, "required": ["spec"], "properties": properties}


def column(name: str, path: str, form: str = "string", priority: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "jsonPath": path, "type": form}
    return found | ({"priority": priority} if priority else {})


AGE = column("Age", ".metadata.creationTimestamp", "date")
