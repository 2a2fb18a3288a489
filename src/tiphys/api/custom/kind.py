"""A custom resource as a `Kind`: one object for each version of a definition.

Objects are validated in the version of their request, which upstream does before it converts them to the stored one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from tiphys.api.custom import embedded, listtypes, rules, scaling, values
from tiphys.api.custom.checks import Check, checker
from tiphys.api.custom.columns import Printer
from tiphys.api.custom.correlation import Correlated
from tiphys.api.custom.defaulting import Default, defaulter
from tiphys.api.custom.gotext import shown
from tiphys.api.custom.jsonpath import JsonPath, parse
from tiphys.api.custom.results import invalid
from tiphys.api.custom.schemas import EMBEDDED, EMPTY, Schema, properties, some
from tiphys.api.kinds.base import Column, Context, ErrorType, FieldError, Kind, MutableObject, Object
from tiphys.api.kinds.common import keep
from tiphys.api.validation.names import qualified_name

Struct = Mapping[str, Any]
_BLOCKING = {
    ErrorType.NOT_SUPPORTED,
    ErrorType.REQUIRED,
    ErrorType.TOO_LONG,
    ErrorType.TOO_MANY,
    ErrorType.TYPE_INVALID,
}
_UNCHECKED = (
    "some validation rules were not checked because the object was invalid; correct the existing errors to complete "
    "validation"
)
_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")


class CustomKind(Kind):
    """See the module's docstring. `version` is an entry of spec.versions, `schema` its schema, if it has one."""

    name_check = "dns_subdomain"
    qualified_finalizers = False
    unconditional_update = False
    counts_generation = False  # done here: without a status subresource, changes of the status count, too
    status_resets_metadata = True

    def __init__(self, group: str, names: Struct, version: Struct, schema: Schema | None, stored_version: str) -> None:
        self.group, self.plural, self.kind = group, names.get("plural", ""), names.get("kind", "")
        self.version: str = version.get("name", "")
        self.stored_version = stored_version
        self.schema = schema
        subresources = version.get("subresources") or {}
        self.has_status = subresources.get("status") is not None
        self._scale: Struct | None = subresources.get("scale")
        self.scale = scaling.paths(self._scale)
        self._printed = version.get("additionalPrinterColumns")
        self._noted: tuple[Object | None, list[str]] = (None, [])
        """The object that was validated last, and the broken rules that were let through: `warnings` is asked next."""
        self._selected = [field.get("jsonPath", "") for field in version.get("selectableFields") or ()]

    @cached_property
    def _printer(self) -> Printer:
        return Printer(self._printed)

    @property
    def columns(self) -> tuple[Column, ...]:  # type: ignore[override]  # made when first asked for
        return self._printer.columns

    @cached_property
    def _default(self) -> Default | None:
        return defaulter(self.schema)

    @cached_property
    def _check(self) -> Check | None:
        return checker(self.schema)

    @cached_property
    def _list_check(self) -> Check | None:
        return listtypes.checker(self.schema)

    @cached_property
    def _embeds(self) -> bool:
        return some(self.schema, EMBEDDED)

    @cached_property
    def _status_check(self) -> Check | None:
        return checker(self._status_schema)

    @cached_property
    def _rules(self) -> rules.Rules | None:
        return rules.of(self.schema)

    @cached_property
    def _fields(self) -> list[tuple[str, JsonPath]]:
        return [(path.removeprefix("."), parse(path)) for path in self._selected]

    @property
    def _status_schema(self) -> Schema | None:
        return properties(self.schema or EMPTY).get("status")

    def default(self, obj: MutableObject, version: str) -> None:
        if self._default is not None:
            self._default(obj)

    def convert(self, obj: MutableObject, source: str, target: str) -> MutableObject:
        """As the strategy None does: only apiVersion differs."""
        return {**obj, "apiVersion": f"{self.group}/{target}"}

    def prepare_create(self, obj: MutableObject, context: Context) -> None:
        if self.has_status:
            obj.pop("status", None)
        obj["metadata"]["generation"] = 1

    def prepare_update(self, new: MutableObject, old: Object, context: Context) -> None:
        if self.has_status:
            keep(new, old, "status")
        if _differs(new, old):
            new["metadata"]["generation"] = (old["metadata"].get("generation") or 0) + 1

    def prepare_status_update(self, new: MutableObject, old: Object, context: Context) -> None:
        new["metadata"] = {**old["metadata"], "resourceVersion": new["metadata"].get("resourceVersion", "")}

    def validate(self, obj: Object, context: Context) -> list[FieldError]:
        found = self._type_problems(obj)
        if found:
            return found
        found += self._value_problems(obj, None)
        found += scaling.spec_problems(obj, self._scale)
        found += scaling.status_problems(obj, self._scale)
        found += embedded.problems(self.schema, obj) if self._embeds else []
        found += listtypes.quick_problems(self._list_check, self.schema, obj)
        return found + self._rule_problems(found, obj, None, None)

    def validate_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        found = self._type_problems(new)
        if found:
            return found
        correlated = Correlated(new, old, self.schema or EMPTY)
        found += self._value_problems(new, correlated)
        found += scaling.spec_problems(new, self._scale)
        found += scaling.status_problems(new, self._scale)
        found += embedded.problems(self.schema, new) if self._embeds else []
        found += self._list_problems(new, old)
        return found + self._rule_problems(found, new, old, correlated)

    def validate_status_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        found = self._type_problems(new)
        if found:
            return found
        correlated = Correlated(new, old, self.schema or EMPTY)
        schema, check = self._status_schema, self._status_check
        if schema is not None and check is not None and "status" in new and not check(new["status"]):
            found += values.explain(schema, new["status"], "status", correlated.key("status"))
        found += scaling.status_problems(new, self._scale)
        found += self._list_problems(new, old)
        return found + self._rule_problems(found, new, old, correlated)

    def warnings(self, obj: Object, old: Object | None, context: Context) -> list[str]:
        finalizers = set((obj.get("metadata") or {}).get("finalizers") or ())
        if old is not None:
            finalizers -= set((old.get("metadata") or {}).get("finalizers") or ())
        noted, self._noted = self._noted, (None, [])
        return [
            *(noted[1] if noted[0] is obj else ()),
            *(text for name in sorted(finalizers) for text in _finalizer_warnings(name)),
        ]

    def fields(self, obj: Object) -> Mapping[str, str]:
        return {name: _field_text(path.find(obj)) for name, path in self._fields}

    def cells(self, obj: Object, now: float) -> list[Any]:
        return self._printer.cells(obj, now)

    def _type_problems(self, obj: Object) -> list[FieldError]:
        wanted = {"kind": self.kind, "apiVersion": f"{self.group}/{self.version}"}
        return [
            invalid(name, obj.get(name, ""), f"must be {value}")
            for name, value in wanted.items()
            if obj.get(name, value) != value
        ]

    def _value_problems(self, obj: Object, correlated: Correlated | None) -> list[FieldError]:
        if self.schema is None or self._check is None:
            return []
        plain = obj if obj.__class__ is dict else dict(obj)
        return [] if self._check(plain) else values.explain(self.schema, plain, "", correlated)

    def _list_problems(self, new: Object, old: Object) -> list[FieldError]:
        """Sets and maps that had duplicates before may go on having them."""
        found = listtypes.quick_problems(self._list_check, self.schema, new)
        return [] if found and listtypes.problems(self.schema, old) else found

    def _rule_problems(
        self, found: Sequence[FieldError], new: Object, old: Object | None, correlated: Correlated | None
    ) -> list[FieldError]:
        if self._rules is None:
            return []
        if any(error.type in _BLOCKING for error in found):
            return [invalid("", None, _UNCHECKED)]
        verdict = self._rules.check(new, old, correlated)
        self._noted = (new, verdict.warnings)
        return verdict.errors


def _differs(new: Object, old: Object) -> bool:
    """Whether anything but metadata changed."""
    names = (new.keys() | old.keys()) - {"metadata", "kind", "apiVersion"}
    return any(new.get(name) != old.get(name) or (name in new) != (name in old) for name in names)


def _field_text(found: list[Any]) -> str:
    value = found[0] if found else None
    return "" if value is None else value if isinstance(value, str) else shown(value)


def _finalizer_warnings(name: str) -> list[str]:
    out = [f'metadata.finalizers: "{name}": {message}' for message in qualified_name(name)]
    if "/" not in name and name not in _FINALIZERS:
        path = "including a path (/) " if "." in name else ""
        out.append(
            f'metadata.finalizers: "{name}": prefer a domain-qualified finalizer name {path}to avoid accidental '
            "conflicts with other finalizer writers"
        )
    return out
