"""What most kinds do alike: a status of its own endpoint, cells of two columns, warnings about names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, FieldError, Kind, MutableObject, Object
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.metadata import validate_metadata
from tiphys.api.validation.names import dns_label

Struct = Mapping[str, Any]


class PlainKind(Kind):
    """A kind whose objects are checked the same way on create and on update: override `check`."""

    revalidates_metadata = False
    """Whether an update is also checked by the rules for the metadata of a new object."""

    def validate(self, obj: Object, context: Context) -> list[FieldError]:
        errors = Errors()
        self.check(errors, obj, context)
        return errors

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        """Add what is wrong with `obj`, be it new or changed."""

    def validate_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        errors = Errors()
        if self.revalidates_metadata:
            namespaced = bool((new.get("metadata") or {}).get("namespace"))
            errors.extend(validate_metadata(new, self.name_check, namespaced, finalizers=self.qualified_finalizers))
        self.check_update(errors, new, old, context)
        return errors

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        """Add what is wrong with a change; kinds with immutable fields extend it."""
        self.check(errors, new, context)

    def cells(self, obj: Object, now: float) -> list[Any]:
        return [printing.name(obj), printing.age(obj, now)]


class CreatedAtKind(PlainKind):
    """A kind without a printer of its own: its name and when it was created."""

    columns: tuple[Column, ...] = (printing.NAME, printing.CREATED_AT)

    def cells(self, obj: Object, now: float) -> list[Any]:
        return [printing.name(obj), printing.created_at(obj)]


class StatusKind(PlainKind):
    """A kind whose status is written at /status and left alone by everything else."""

    has_status = True
    counts_generation = True
    empty_status: Mapping[str, Any] = {}
    """The status that a new object has."""

    def prepare_create(self, obj: MutableObject, context: Context) -> None:
        obj["status"] = dict(self.empty_status)

    def prepare_update(self, new: MutableObject, old: Object, context: Context) -> None:
        keep(new, old, "status")


def keep(new: MutableObject, old: Object, *names: str) -> None:
    """Take these top-level fields from the stored object."""
    for name in names:
        if name in old:
            new[name] = old[name]
        else:
            new.pop(name, None)


def setdefaults(struct: MutableObject, **values: Any) -> None:
    """Fill in fields that are absent or null."""
    for name, value in values.items():
        if struct.get(name) is None:
            struct[name] = value


def fill_empty(struct: MutableObject, **values: Any) -> None:
    """Fill in fields that are absent, null or empty: those whose zero means 'not set'."""
    for name, value in values.items():
        if not struct.get(name):
            struct[name] = value


def child(struct: MutableObject, name: str) -> MutableObject:
    """The struct in field `name`, made when it is absent."""
    value = struct.get(name)
    if value is None:
        value = struct[name] = {}
    return value


def count_labels(new: MutableObject, old: Object, *names: str) -> None:
    """Count a change of these parts of metadata as one of the object: the generation goes up."""
    meta, was = new.get("metadata") or {}, old.get("metadata") or {}
    if any((meta.get(name) or {}) != (was.get(name) or {}) for name in names):
        meta["generation"] = (was.get("generation") or 0) + 1


def first_of(struct: MutableObject, single: str, plural: str) -> None:
    """Keep a field and the list that it is the first item of in step; the single one wins."""
    one, listed = struct.get(single) or "", struct.get(plural) or []
    if one and listed[:1] != [one]:
        struct[plural] = [one]
    elif listed and not one:
        struct[single] = listed[0]


def has_changed(new: Object, old: Object | None, *names: str) -> bool:
    return old is None or any(new.get(name) != old.get(name) for name in names)


def hostname_warning(obj: Object, what: str = "Pod names and hostnames") -> list[str]:
    """Names of pods and of what makes pods become host names."""
    if found := dns_label(printing.name(obj)):
        text = f"metadata.name: this is used in {what}, which can result in surprising behavior"
        return [f"{text}; a DNS label is recommended: [{' '.join(found)}]"]
    return []
