"""Objects that expressions built (`Object{...}`, `JSONPatch{...}`) as plain JSON values."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from tiphys.api.cel.types import EvaluationError
from tiphys.api.cel.values import Duration, Optional, Struct, Timestamp, Uint, type_of

_EXACT = 2**53 - 1
"""Whole numbers beyond it are strings in JSON, as protobuf's mapping has it."""


class Unsuitable(Exception):
    """The value of an expression is no patch; the text says why."""


def check_names(value: Struct) -> None:
    """The names of the types must be the paths of the fields, from that of `value` on. Raises Unsuitable."""
    found = list(_misnamed(value, value.cel_type.name))
    if found:
        raise Unsuitable("type mismatch: " + "\n".join(found))


def _misnamed(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, Struct):
        if value.cel_type.name != path:
            what = f'unexpected type name "{value.cel_type.name}", expected "{path}"'
            yield f"{what}, which matches field name path from root Object type"
        for key, item in value.items():
            yield from _misnamed(item, f"{path}.{key}")
    elif isinstance(value, dict):
        for item in value.values():
            yield from _misnamed(item, path)
    elif isinstance(value, list):
        for item in value:
            yield from _misnamed(item, path)


def plain(value: Any) -> Any:
    """A value of CEL as JSON. Raises Unsuitable for what JSON has not."""
    if isinstance(value, Mapping):
        return {_key(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, str, float)):
        return value
    if isinstance(value, (int, Uint)):
        return int(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, (Timestamp, Duration)):
        return _text(value)
    if isinstance(value, Optional) and value.present:
        return plain(value.value)
    raise Unsuitable(f"unsupported value of type {type_of(value)}")


def as_json(value: Any) -> Any:
    """The value of a JSON patch's operation: large whole numbers become strings."""
    made = plain(value)
    return _narrow(made)


def _narrow(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _narrow(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_narrow(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _EXACT:
        return str(value)
    return value


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise Unsuitable(f"map key {key} is of type {type_of(key)}, not string")
    return key


def _text(value: Any) -> str:
    from tiphys.api.cel.conversions import to_string

    try:
        return str(to_string(value))
    except EvaluationError as error:
        raise Unsuitable(str(error)) from None
