"""`Object{...}`: parts of an object that a mutating policy makes, without a schema.

Any field may be set to anything; the type's name says where the part belongs: `Object.spec.template{...}` stands only
in the field `template` of an `Object.spec{...}`. `misplaced` finds what stands elsewhere, which a policy refuses.

Source: k8s.io/apiserver/pkg/cel/mutation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tiphys.api.cel.types import DYN, STRING, Field, Type, named
from tiphys.api.cel.values import Struct

ROOT = "Object"


class _AnyFields(Mapping[str, Field]):
    """Every name is a field of type dyn."""

    def __getitem__(self, name: str) -> Field:
        return Field(name, DYN)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


_FIELDS = _AnyFields()


JSON_PATCH = named(
    "JSONPatch",
    {
        "op": Field("op", STRING),
        "path": Field("path", STRING),
        "from": Field("from", STRING),
        "value": Field("value", DYN),
    },
)


def resolve(name: str) -> Type | None:
    """The type `Object`, one below it, or `JSONPatch`."""
    if name == JSON_PATCH.name:
        return JSON_PATCH
    return named(name, _FIELDS) if name == ROOT or name.startswith(f"{ROOT}.") else None


def misplaced(value: Any) -> list[str]:
    """What is wrong with the names of the types in a value that should be an `Object{...}`."""
    return list(_misplaced(value, ROOT))


def _misplaced(value: Any, expected: str) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _misplaced(item, expected)
        return
    if not isinstance(value, dict):
        return
    if isinstance(value, Struct):
        if value.cel_type.name != expected:
            yield (
                f'unexpected type name "{value.cel_type.name}", expected "{expected}", '
                "which matches field name path from root Object type"
            )
        for name, field in value.items():
            yield from _misplaced(field, f"{expected}.{name}")
        return
    for field in value.values():
        yield from _misplaced(field, expected)
