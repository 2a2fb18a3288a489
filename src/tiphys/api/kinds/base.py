"""What a schema cannot say about a kind: defaults, what may change, validation, columns. One module a kind.

The API server asks a `Kind` at fixed places of a request:

    create:  default -> prepare_create -> (admission) -> validate -> store
    update:  default -> prepare_update -> (admission) -> validate_update -> store
    status:  default -> prepare_status_update -> validate_status_update -> store

Objects handed in to be prepared or defaulted are the request's own and changed in place; `old` and anything
read are shared: never change them. Metadata common to all kinds (names, labels, owner references, finalizers,
managedFields ...) is not a kind's business: `api.meta` and `api.validation.metadata` do it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tiphys.base.identity import User

Object = Mapping[str, Any]
MutableObject = dict[str, Any]


class ErrorType(StrEnum):
    """Reasons of a Status cause, as in the API reference."""

    REQUIRED = "FieldValueRequired"
    INVALID = "FieldValueInvalid"
    NOT_SUPPORTED = "FieldValueNotSupported"
    DUPLICATE = "FieldValueDuplicate"
    FORBIDDEN = "FieldValueForbidden"
    NOT_FOUND = "FieldValueNotFound"
    TOO_LONG = "FieldValueTooLong"
    TOO_MANY = "FieldValueTooMany"
    TOO_FEW = "FieldValueTooFew"
    TOO_SHORT = "FieldValueTooShort"
    TYPE_INVALID = "FieldValueTypeInvalid"
    INTERNAL = "InternalError"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with one field; `message` is complete but for the field: 'Required value: ...'."""

    type: ErrorType
    field: str
    message: str

    def cause(self) -> dict[str, str]:
        return {"reason": str(self.type), "message": self.message, "field": self.field}

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


def required(field: str, detail: str = "") -> FieldError:
    return FieldError(ErrorType.REQUIRED, field, _join("Required value", detail))


def invalid(field: str, value: Any, detail: str) -> FieldError:
    return FieldError(ErrorType.INVALID, field, _join(f"Invalid value: {quote(value)}", detail))


def not_supported(field: str, value: Any, allowed: Sequence[str]) -> FieldError:
    """`allowed` in the order that the message shows: mostly sorted, but upstream has exceptions."""
    choices = ", ".join(quote(choice) for choice in allowed)
    detail = f"supported values: {choices}" if choices else ""
    return FieldError(ErrorType.NOT_SUPPORTED, field, _join(f"Unsupported value: {quote(value)}", detail))


def duplicate(field: str, value: Any) -> FieldError:
    return FieldError(ErrorType.DUPLICATE, field, f"Duplicate value: {quote(value)}")


def forbidden(field: str, detail: str) -> FieldError:
    return FieldError(ErrorType.FORBIDDEN, field, _join("Forbidden", detail))


def not_found(field: str, value: Any) -> FieldError:
    return FieldError(ErrorType.NOT_FOUND, field, f"Not found: {quote(value)}")


def too_long(field: str, limit: int) -> FieldError:
    unit = "byte" if limit == 1 else "bytes"
    return FieldError(ErrorType.TOO_LONG, field, f"Too long: may not be more than {limit} {unit}")


def too_many(field: str, count: int, limit: int) -> FieldError:
    return FieldError(
        ErrorType.TOO_MANY, field, f"Too many: {count}: must have at most {limit} {'item' if limit == 1 else 'items'}"
    )


_GO_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}


def quote(value: Any) -> str:
    """A bad value as messages show it: strings as Go's %q writes them, the rest as Go's JSON encoder does."""
    if isinstance(value, str):
        if value.isprintable() and '"' not in value and "\\" not in value:
            return f'"{value}"'
        return '"' + "".join(map(_go_rune, value)) + '"'
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _go_rune(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable():
        return char
    if char in _GO_ESCAPES:
        return _GO_ESCAPES[char]
    code = ord(char)
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _join(head: str, detail: str) -> str:
    return f"{head}: {detail}" if detail else head


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the Table that `kubectl get` prints; priority 0 is always shown, 1 with -o wide."""

    name: str
    type: str = "string"
    format: str = ""
    description: str = ""
    """Ready text, or a reference to the schema, which has it: '@PodStatus.podIP' is the description of that
    property of the definition `io.k8s.api.<group>.<version>.PodStatus`, '@ObjectMeta.name' that of meta/v1."""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Context:
    """What a kind may know about the request: the time, and who asks. Nothing here does I/O."""

    now: float
    """Seconds since the epoch."""
    user: str = ""
    namespace: str = ""
    subresource: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    identity: User | None = None
    """Who asks, with groups; kinds that record it fall back to `user`."""
    version: str = ""
    """The version of the API that is spoken; "" when no request does."""


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """Where the scale subresource finds its numbers; dotted paths."""

    replicas: str = "spec.replicas"
    status_replicas: str = "status.replicas"
    selector: str = "spec.selector"


class Kind:
    """A kind without particulars; each kind's module subclasses it and overrides what differs."""

    group: str = ""
    plural: str = ""
    kind: str = ""
    stored_version: str = "v1"
    """The one version that the store holds; see `convert`."""
    has_status: bool = False
    """Whether /status exists and the main endpoint leaves .status alone."""
    counts_generation: bool = False
    """Whether a change of anything but metadata and status adds one to metadata.generation."""
    name_check: str = "dns_subdomain"
    """dns_subdomain, dns_label, dns1035_label, path_segment, or a name that the kind's own validate handles: none."""
    qualified_finalizers: bool = True
    """Whether finalizers must have a domain or be one of Kubernetes' own (`validate_metadata(finalizers=...)`)."""
    error_group: str | None = None
    """The group that refusals name when it is not `group`; see `validation.errors.refusal`."""
    scale: ScalePaths | None = None
    status_resets_metadata: bool = False
    """Whether a write to /status leaves metadata alone, so that nobody manages it through there."""
    columns: tuple[Column, ...] = (
        Column("Name", format="name", description="@ObjectMeta.name"),
        Column("Age", description="@ObjectMeta.creationTimestamp"),
    )
    allow_create_on_update: bool = False
    """Whether a PUT (or an apply) of a name that does not exist creates it."""
    unconditional_update: bool = True
    """Whether a PUT without resourceVersion is allowed."""

    def default(self, obj: MutableObject, version: str) -> None:
        """Fill in what was left out. `obj` is of `version`, not yet converted to the stored one."""

    def convert(self, obj: MutableObject, source: str, target: str) -> MutableObject:
        """`obj` as of version `target`; only kinds whose versions differ override it."""
        return obj

    def prepare_create(self, obj: MutableObject, context: Context) -> None:
        """Clear and set what the server owns (status, system fields)."""

    def prepare_update(self, new: MutableObject, old: Object, context: Context) -> None:
        """Carry over what an update may not touch."""

    def prepare_status_update(self, new: MutableObject, old: Object, context: Context) -> None:
        """Only the status may change. The caller has already put the old spec and metadata back."""

    def validate(self, obj: Object, context: Context) -> list[FieldError]:
        return []

    def validate_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        return self.validate(new, context)

    def validate_status_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        return []

    def warnings(self, obj: Object, old: Object | None, context: Context) -> list[str]:
        """Texts for the Warning header: deprecated fields, suspicious values."""
        return []

    def fields(self, obj: Object) -> Mapping[str, str]:
        """Fields that a field selector may name besides metadata.name and metadata.namespace."""
        return {}

    def cells(self, obj: Object, now: float) -> list[Any]:
        """One value for each of `columns`."""
        raise NotImplementedError  # the generic two columns are in api.table

    def delete_grace(self, obj: Object, wanted: int | None) -> int | None:
        """Seconds that deletion is put off for (0: at once); None: this kind knows no graceful deletion."""
        return None
