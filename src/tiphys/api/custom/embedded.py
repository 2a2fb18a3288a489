"""Resources inside of resources (x-kubernetes-embedded-resource): apiVersion, kind and metadata that make sense."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from tiphys.api.custom.pruning import Coerce
from tiphys.api.custom.results import invalid
from tiphys.api.custom.schemas import EMBEDDED, Schema, extra, field, items, some
from tiphys.api.decode.objects import DecodeError, Decoder, Pass
from tiphys.api.decode.strict import unknown_fields
from tiphys.api.kinds.base import FieldError, required
from tiphys.api.schema import OBJECT_META, Type, builtin
from tiphys.api.validation.metadata import validate_metadata
from tiphys.api.validation.names import dns1035_label


@cache
def _metadata() -> tuple[Decoder, Type]:
    definitions = builtin()
    return Decoder(definitions), definitions.type(OBJECT_META)


def decode_metadata(value: Any, state: Pass) -> dict[str, Any]:
    """ObjectMeta in canonical form. Raises DecodeError."""
    decoder, type = _metadata()
    out = decoder.decode(value, type, state)
    if out.get("creationTimestamp") is None:
        out.pop("creationTimestamp", None)
    return out


def unknown_metadata(value: Any) -> list[str]:
    """Fields of metadata that are none."""
    if not isinstance(value, Mapping):
        return []
    return [f"metadata.{path}" for path in unknown_fields(value, _metadata()[1], builtin())]


def unknown_inner_metadata(schema: Schema | None, value: Any) -> list[str]:
    """Fields of embedded resources' metadata that are none; sorted."""
    return sorted(_unknown(schema, value, "")) if some(schema, EMBEDDED) else []


def _unknown(schema: Schema | None, value: Any, path: str) -> Iterator[str]:
    if schema is None:
        return
    if isinstance(value, list):
        for i, item in enumerate(value):
            yield from _unknown(items(schema), item, f"{path}[{i}]")
    elif isinstance(value, Mapping):
        if schema.get(EMBEDDED):
            yield from (f"{path}.{name}" if path else name for name in unknown_metadata(value.get("metadata")))
        other = extra(schema) is not None
        for key, item in value.items():
            where = f"{path}[{key}]" if other else f"{path}.{key}" if path else key
            yield from _unknown(field(schema, key), item, where)


def coerce(value: dict[str, Any], state: Pass) -> None:
    """Put an embedded resource in order, in place. Raises DecodeError."""
    for name in ("apiVersion", "kind"):
        if name in value and not isinstance(value[name], str):
            raise DecodeError(str(invalid(name, value[name], "must be a string")))
    if "metadata" in value:
        try:
            value["metadata"] = decode_metadata(value["metadata"], state)
        except DecodeError as error:
            raise DecodeError(str(invalid("metadata", value["metadata"], str(error)))) from error


COERCE: Coerce = coerce


def problems(schema: Schema | None, value: Any, path: str = "") -> list[FieldError]:
    """What is wrong with the embedded resources of an object."""
    return list(_value(schema, value, path)) if some(schema, EMBEDDED) else []


def _value(schema: Schema | None, value: Any, path: str) -> Iterator[FieldError]:
    if schema is None:
        return
    if isinstance(value, Mapping):
        if schema.get(EMBEDDED):
            yield from _resource(value, path)
        other = extra(schema) is not None
        for key, item in value.items():
            where = f"{path}[{key}]" if other else f"{path}.{key}" if path else key
            yield from _value(field(schema, key), item, where)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _value(items(schema), item, f"{path}[{i}]")


def _resource(value: Mapping[str, Any], path: str) -> Iterator[FieldError]:
    prefix = f"{path}." if path else ""
    for name in ("apiVersion", "kind"):
        if name not in value:
            yield required(f"{prefix}{name}")
    for name, check in (("apiVersion", _api_version), ("kind", _kind)):
        if name in value and (detail := check(value[name])):
            yield invalid(f"{prefix}{name}", value[name], detail)
    if "metadata" in value:
        yield from _meta(value["metadata"], prefix)


def _api_version(value: Any) -> str:
    if not isinstance(value, str):
        return "must be a string"
    if not value:
        return "must not be empty"
    return f"unexpected GroupVersion string: {value}" if value.count("/") > 1 else ""


def _kind(value: Any) -> str:
    if not isinstance(value, str):
        return "must be a string"
    if not value:
        return "must not be empty"
    found = dns1035_label(value.lower())
    return f"may have mixed case, but should otherwise match: {','.join(found)}" if found else ""


def _meta(value: Any, prefix: str) -> Iterator[FieldError]:
    try:
        meta = decode_metadata(value, Pass())
    except DecodeError as problem:
        yield invalid(f"{prefix}metadata", value, str(problem))
        return
    meta.setdefault("name", "fakename")
    namespaced = bool(meta.get("namespace"))
    for error in validate_metadata({"metadata": meta}, "path_segment", namespaced, finalizers=False):
        yield replace(error, field=prefix + error.field)
