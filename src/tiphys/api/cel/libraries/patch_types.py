"""The types that mutating policies build patches with: `Object{...}`, `Object.spec{...}` and `JSONPatch{...}`.

Object and every name below it (`Object.spec.template`) are types whose fields may have any name and any value: no
schema says which type an expression is going to meet. Whoever takes such an object checks that the names of its types
are the paths of its fields. Source: KEP-3962.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from tiphys.api.cel.environment import Environment
from tiphys.api.cel.types import DYN, STRING, Field, Type, named

OBJECT = "Object"


class _AnyField(Mapping[str, Field]):
    """Any name is a field, of any type."""

    def __getitem__(self, name: str) -> Field:
        return Field(name, DYN)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __bool__(self) -> bool:
        return True


class Built(dict[str, Any]):
    """An object that an expression built: its fields, and the name it gave the type."""

    __slots__ = ("cel_type",)

    def __init__(self, type: Type, fields: Mapping[str, Any]) -> None:
        super().__init__(fields)
        self.cel_type = type


def _built(type: Type) -> Type:
    return replace(type, construct=partial(Built, type))


_ANY_FIELD = _AnyField()
JSON_PATCH = named(
    "JSONPatch",
    {
        "op": Field("op", STRING),
        "path": Field("path", STRING),
        "from": Field("from", STRING),
        "value": Field("value", DYN),
    },
)


class _Types(dict[str, Type]):
    """The types of an environment, and those of objects by whatever name."""

    def get(self, name: str, default: Any = None) -> Any:
        if name == OBJECT or name.startswith(f"{OBJECT}."):
            return _built(named(name, _ANY_FIELD))
        return super().get(name, default)


def with_patch_types(environment: Environment) -> Environment:
    """`environment` with these types."""
    types = _Types(environment.types)
    types[JSON_PATCH.name] = JSON_PATCH
    return replace(environment, types=types)
