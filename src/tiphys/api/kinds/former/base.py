"""What former versions have in common: two conversions in place, to and from the version that is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tiphys.api.kinds.base import Kind, MutableObject
from tiphys.api.kinds.common import child, setdefaults

Struct = Mapping[str, Any]


class Former(Kind):
    """Mixed into a subclass of today's kind, before it."""

    def convert(self, obj: MutableObject, source: str, target: str) -> MutableObject:
        if target == self.stored_version:
            self.renew(obj)
        else:
            self.restore(obj)
        return obj

    def renew(self, obj: MutableObject) -> None:
        """Make an object of the former version one of the stored version."""

    def restore(self, obj: MutableObject) -> None:
        """Make an object of the stored version one of the former version."""


def select_own_labels(obj: MutableObject) -> None:
    """Default the selector, and the object's labels, to those of its template."""
    spec = child(obj, "spec")
    labels = (child(spec, "template").get("metadata") or {}).get("labels")
    if labels is None:
        return
    setdefaults(spec, selector={"matchLabels": dict(labels)})
    metadata = child(obj, "metadata")
    if not metadata.get("labels"):
        metadata["labels"] = dict(labels)


def pop_annotation(obj: MutableObject, name: str) -> str | None:
    """Take an annotation off; None if there is none of that name."""
    metadata = obj.get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    if name not in annotations:
        return None
    kept = {key: value for key, value in annotations.items() if key != name}
    metadata["annotations"] = kept
    if not kept:
        del metadata["annotations"]
    return str(annotations[name])


def annotate(obj: MutableObject, name: str, value: str) -> None:
    """Put an annotation on."""
    metadata = child(obj, "metadata")
    metadata["annotations"] = {**(metadata.get("annotations") or {}), name: value}


def move(struct: MutableObject, source: str, target: str, change: Callable[[Any], Any] | None = None) -> None:
    """Give a field another name, and its value another form."""
    if source in struct:
        value = struct.pop(source)
        struct[target] = value if change is None else change(value)


def structs(values: Sequence[Any] | None) -> list[dict[str, Any]]:
    """The items of a list that are structs: conversion comes before validation."""
    return [value for value in values or () if isinstance(value, dict)]
