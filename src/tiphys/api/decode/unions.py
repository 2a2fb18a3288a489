"""The unions inside the schemas of a CustomResourceDefinition: a schema, or else a list, a boolean or names.

Their JSON says by its first character which it is. What is none of them is nothing, or refused where only a boolean
would do (apiextensions v1, JSONSchemaPropsOrArray, OrBool and OrStringArray).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tiphys.api.decode import values
from tiphys.api.decode.values import Mismatch

if TYPE_CHECKING:
    from tiphys.api.decode.objects import Decoder, Pass

Convert = Callable[[Any, "Pass"], Any]
Schema = Callable[[Any], Any]

PACKAGE = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."
SCHEMA = PACKAGE + "JSONSchemaProps"


def converter(decoder: Decoder, name: str, fresh: Callable[[], Pass], count: Callable[[Any], int]) -> Convert | None:
    """The function for the union called `name`; None for what is none of them.

    Unknown fields inside a union are dropped without a word: it is decoded by itself, as `fresh` says."""
    choose = {PACKAGE + kind: found for kind, found in _UNIONS.items()}.get(name)
    if choose is None:
        return None

    def schema(value: Any) -> Any:
        if value is None:
            return {}
        if value.__class__ is not dict:
            raise Mismatch(values.json_type(value), "v1.JSONSchemaProps")
        return decoder.of(SCHEMA)(value, fresh())

    def convert(value: Any, state: Pass) -> Any:
        state.keys += count(value)
        return choose(value, schema)

    return convert


def _or_array(value: Any, schema: Schema) -> Any:
    if value.__class__ is list:
        return [schema(one) for one in value]
    return schema(value) if value.__class__ is dict else []


def _or_bool(value: Any, schema: Schema) -> Any:
    if value.__class__ is dict:
        return schema(value)
    if value.__class__ is bool:
        return value
    raise ValueError("boolean or JSON schema expected")


def _or_strings(value: Any, schema: Schema) -> Any:
    if value.__class__ is not list:
        return schema(value) if value.__class__ is dict else []
    for one in value:
        if one.__class__ is not str:
            raise Mismatch(values.json_type(one), "string")
    return value


_UNIONS: dict[str, Callable[[Any, Schema], Any]] = {
    "JSONSchemaPropsOrArray": _or_array,
    "JSONSchemaPropsOrBool": _or_bool,
    "JSONSchemaPropsOrStringArray": _or_strings,
}
