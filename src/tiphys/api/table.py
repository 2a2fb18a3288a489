"""Tables: what `kubectl get` prints. Columns and cells come from the kind; the rest from here.

A column's description may be `@Type.field`: the text is then the schema's own for that field. Kinds without
cells of their own show name and creation time, as upstream's default printer does.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from tiphys.api.catalog import ResourceInfo
from tiphys.api.kinds.base import Column, Kind
from tiphys.api.schema import Definitions, Description

Object = Mapping[str, Any]

PLAIN_COLUMNS = (
    Column("Name", format="name", description="@ObjectMeta.name"),
    Column("Created At", "date", description="@ObjectMeta.creationTimestamp"),
)
_PREFERRED = ("io.k8s.apimachinery.pkg.apis.meta.v1.", "io.k8s.api.core.v1.")


def definitions(info: ResourceInfo) -> list[dict[str, Any]]:
    """The Table's columnDefinitions. Shared: never change them."""
    return _definitions(info.behaviour, info.definitions, info.type_name)


def columns(behaviour: Kind) -> tuple[Column, ...]:
    """The kind's own columns, or the plain ones."""
    return behaviour.columns if has_cells(behaviour) else PLAIN_COLUMNS


def has_cells(behaviour: Kind) -> bool:
    """Whether the kind prints more than name and creation time."""
    return type(behaviour).cells is not Kind.cells


def cells(info: ResourceInfo, obj: Object, now: float) -> list[Any]:
    """One row: a value for each column. `now` is in seconds since the epoch."""
    if has_cells(info.behaviour):
        return info.behaviour.cells(obj, now)
    metadata = obj.get("metadata") or {}
    return [metadata.get("name", ""), metadata.get("creationTimestamp")]


@lru_cache(maxsize=256)
def _definitions(behaviour: Kind, definitions: Definitions, near: str) -> list[dict[str, Any]]:
    found = columns(behaviour)
    # All texts are read for the few that are used, and dropped again: they take more memory than time.
    texts = definitions.descriptions() if any(column.description.startswith("@") for column in found) else {}
    return [
        {
            "name": column.name,
            "type": column.type,
            "format": column.format,
            "description": _text(column.description, texts, near),
            "priority": column.priority,
        }
        for column in found
    ]


def _text(text: str, texts: Mapping[str, Description], near: str) -> str:
    """What `@Type.field` refers to: a type without a package is first looked for beside the table's own kind."""
    if not text.startswith("@"):
        return text
    owner, _, field = text[1:].rpartition(".")
    prefixes = ("",) if "." in owner else (near.rpartition(".")[0] + ".", *_PREFERRED)
    found = next((texts[prefix + owner] for prefix in prefixes if prefix + owner in texts), None)
    return found.fields.get(field, "") if found else ""
