"""Looking at openAPIV3Schema as a structural schema: plain JSON, as a CustomResourceDefinition has it.

Schemas are not turned into objects of their own: what is made of them are functions, once for each schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

PRESERVE = "x-kubernetes-preserve-unknown-fields"
EMBEDDED = "x-kubernetes-embedded-resource"
INT_OR_STRING = "x-kubernetes-int-or-string"
LIST_TYPE = "x-kubernetes-list-type"
LIST_KEYS = "x-kubernetes-list-map-keys"
MAP_TYPE = "x-kubernetes-map-type"
RULES = "x-kubernetes-validations"
META = ("apiVersion", "kind", "metadata")
"""What every resource has, embedded or not."""
JUNCTORS = ("allOf", "anyOf", "oneOf")
EMPTY: Schema = {}


def properties(schema: Schema) -> Mapping[str, Schema]:
    return schema.get("properties") or {}


def items(schema: Schema) -> Schema | None:
    """The schema of a list's items."""
    found = schema.get("items")
    return found if isinstance(found, Mapping) else None


def extra(schema: Schema) -> Schema | None:
    """The schema of properties that have no name in it; None also for `additionalProperties: true`."""
    found = schema.get("additionalProperties")
    return found if isinstance(found, Mapping) else None


def allows_extra(schema: Schema) -> bool:
    """Whether additionalProperties says anything, be it true, false or a schema."""
    return schema.get("additionalProperties") is not None


def field(schema: Schema, name: str) -> Schema | None:
    """The schema of a property, named or not."""
    found = properties(schema).get(name)
    return extra(schema) if found is None else found


def parts(schema: Schema) -> Iterator[Schema]:
    """The schemas of the values right below; not those of value validations."""
    if (one := items(schema)) is not None:
        yield one
    if (one := extra(schema)) is not None:
        yield one
    yield from properties(schema).values()


def some(schema: Schema | None, name: str) -> bool:
    """Whether this schema or one below has a field set."""
    if schema is None:
        return False
    return bool(schema.get(name)) or any(some(part, name) for part in parts(schema))


def has_default(schema: Schema | None) -> bool:
    """Whether this schema or one below has a default, be it an empty one."""
    if schema is None:
        return False
    return schema.get("default") is not None or any(map(has_default, parts(schema)))
