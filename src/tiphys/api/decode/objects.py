"""Parsed objects to canonical objects: unknown fields pruned, types checked, empty values as Go writes them.

A `Decoder` builds one plain function a type, on first use, from closures over dicts: about 25 us for a pod. It
returns new dicts and leaves its input alone (raw values are shared with it).

What "canonical" means, field by field (fields.txt has the facts): null is absence; a value that is not a pointer
vanishes when it is empty; fields without omitempty and structs are always there. So what a client sent and
what the server would have written compare equal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiphys.api.decode import unions, values
from tiphys.api.decode.values import Mismatch
from tiphys.api.schema import Definitions, Field, Shape, Type

Convert = Callable[[Any, "Pass"], Any]

_TEXT = {str}
_MISSING = object()
_STRUCTS = ("object", "time", "micro-time", "int-or-string", "quantity")
"""Shapes that are structs in Go: omitempty does not leave them out."""
_OPEN = ("raw", "any")
"""Shapes that hold JSON of any type: what is there stays, however empty."""
_TYPES: dict[str, type] = {"string": str, "boolean": bool, "object": dict, "map": dict, "array": list}
_ZERO: dict[str, Any] = {
    "string": "", "bytes": "", "int32": 0, "int64": 0, "number": 0, "boolean": False, "quantity": "0",
    "time": None, "micro-time": None, "int-or-string": 0, "raw": None, "any": None, "array": None, "map": None,
}  # fmt: skip
_GO = {"string": "string", "boolean": "bool", "number": "float64", "bytes": "[]uint8", "raw": "runtime.RawExtension"}


class Pass:
    """One decoding: counts what the fast path cannot name. `keys` is how many keys were seen."""

    __slots__ = ("keys", "unknown")

    def __init__(self) -> None:
        self.unknown = False
        self.keys = 0


class DecodeError(ValueError):
    """The first thing wrong, worded as Go's decoder does."""

    def __init__(self, detail: str, mismatch: Mismatch | None = None) -> None:
        super().__init__(detail)
        self.mismatch = mismatch
        self.struct = ""
        self.path: list[str] = []

    def __str__(self) -> str:
        if self.mismatch is None:
            return str(self.args[0])
        where = f"Go struct field {self.struct}.{'.'.join(reversed(self.path))}" if self.path else "Go value"
        return f"json: cannot unmarshal {self.mismatch.found} into {where} of type {self.mismatch.wanted}"


class Decoder:
    """Decoding functions by type name."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._built: dict[str, Convert] = {}

    def decode(self, value: Any, type: Type, state: Pass | None = None) -> dict[str, Any]:
        """The canonical form of `value`. Raises DecodeError."""
        if value.__class__ is not dict:
            raise DecodeError("", Mismatch(values.json_type(value), _go_name(type.name)))
        if type.custom is not None:
            return type.custom.decode(value, state or Pass())
        try:
            out: dict[str, Any] = self.of(type.name, type)(value, state or Pass())
        except RecursionError as error:
            raise DecodeError("json: exceeded max depth") from error
        return out

    def empty(self, type: Type) -> dict[str, Any]:
        """An object of `type` in which nothing is set, as Go writes it."""
        if type.custom is not None:
            return {}
        out: dict[str, Any] = self.of(type.name, type)({}, Pass())
        return out

    def of(self, name: str, type: Type | None = None) -> Convert:
        """The function for the type called `name`; built on first use, its nested types when they are met."""
        found = self._built.get(name)
        if found is None:
            found = self._built[name] = _object(type or self._definitions.type(name), self)
        return found

    def converter(self, shape: Shape) -> Convert | None:
        """None: a value of the right Python type is fine as it is."""
        kind = shape.kind
        if kind == "object":
            return _nested(self, shape.type)
        if kind == "array":
            return _array(self, _item(shape))
        if kind == "map":
            return _map(self, _item(shape))
        union = unions.converter(self, shape.type, Pass, count_keys) if kind == "any" else None
        return union or _SCALARS[kind]

    def zero(self, shape: Shape) -> Any:
        """What null stands for inside lists and maps, and in fields that are always written."""
        if shape.kind == "object":
            return self.of(shape.type)({}, Pass())
        return _ZERO[shape.kind]


def _item(shape: Shape) -> Shape:
    assert shape.items is not None, "arrays and maps have items"
    return shape.items


def _nested(decoder: Decoder, name: str) -> Convert:
    """Decodes with a type that is built when the first value of it comes: types refer to each other in circles."""
    built: Convert | None = None

    def convert(value: Any, state: Pass) -> Any:
        nonlocal built
        if built is None:
            built = decoder.of(name)
        return built(value, state)

    return convert


def _kept(field: Field) -> bool:
    """Whether an empty value of the field is written. An empty list never is: it is stored as none (protobuf has
    no such difference), and shows as null where the field is always written."""
    kind = field.shape.kind
    if field.name in ("managedFields", "policies"):
        return True  # empty, the one asks for them to be forgotten, the other (of a HorizontalPodAutoscaler) is wrong
    return field.pointer or kind in (*_STRUCTS, *_OPEN) or (field.always and kind not in ("array", "map"))


def _always(type: Type) -> tuple[tuple[str, Shape | None], ...]:
    """Fields that are written even when nothing was set: (name, shape), or None for null."""
    found: list[tuple[str, Shape | None]] = []
    for field in type.fields.values():
        struct = field.shape.kind in _STRUCTS and field.number != ""
        if field.pointer and field.always:
            found.append((field.name, None))
        elif not field.pointer and not field.omit_zero and (field.always or struct):
            found.append((field.name, field.shape))
    return tuple(found)


def _object(type: Type, decoder: Decoder) -> Convert:
    """The function that decodes one type."""
    fields = type.fields
    wanted = {name: _TYPES.get(field.shape.kind) for name, field in fields.items()}
    change = {name: decoder.converter(field.shape) for name, field in fields.items()}
    plain = {name: wanted[name] for name, converter in change.items() if converter is None}
    kept = frozenset(name for name, field in fields.items() if _kept(field))
    always = _always(type)
    omit_zero = [field.name for field in fields.values() if field.omit_zero]
    struct = type.name.rpartition(".")[2]

    def convert(value: Any, state: Pass) -> dict[str, Any]:
        out: dict[str, Any] = {}
        state.keys += len(value)
        key = ""
        try:
            for key, item in value.items():
                if plain.get(key) is item.__class__:
                    if item or key in kept:
                        out[key] = item
                elif key not in change:
                    state.unknown = True
                elif item is not None:
                    converter = change[key]
                    if converter is None or (wanted[key] is not None and item.__class__ is not wanted[key]):
                        raise Mismatch(values.json_type(item), go_type(fields[key].shape))
                    item = converter(item, state)
                    if item or key in kept:
                        out[key] = item
        except (Mismatch, ValueError) as error:
            raise _located(error, struct, key) from None
        for key, shape in always:
            if key not in out:
                out[key] = None if shape is None else decoder.zero(shape)
        for key in omit_zero:
            if not out.get(key, _MISSING):
                del out[key]
        return out

    return convert


def _located(error: Exception, struct: str, key: str) -> DecodeError:
    """The error with one more step of its path; the innermost struct is the one named."""
    located = error if isinstance(error, DecodeError) else DecodeError(str(error), None)
    if isinstance(error, Mismatch):
        located = DecodeError("", error)
    located.struct = located.struct or struct
    located.path.append(key)
    return located


def _one(decoder: Decoder, shape: Shape) -> Convert:
    """Decodes an item of a list or map whose type is yet to be looked at."""
    wanted, change = _TYPES.get(shape.kind), decoder.converter(shape)

    def convert(item: Any, state: Pass) -> Any:
        if item is None:
            return decoder.zero(shape)
        if wanted is not None and item.__class__ is not wanted:
            raise Mismatch(values.json_type(item), go_type(shape))
        return item if change is None else change(item, state)

    return convert


def _array(decoder: Decoder, shape: Shape) -> Convert:
    one, text = _one(decoder, shape), shape.kind == "string"

    def convert(value: Any, state: Pass) -> list[Any]:
        if value.__class__ is not list:
            raise Mismatch(values.json_type(value), "[]" + go_type(shape))
        if text and set(map(type, value)) <= _TEXT:
            return list(value)
        return [one(item, state) for item in value]

    return convert


def _map(decoder: Decoder, shape: Shape) -> Convert:
    one, text = _one(decoder, shape), shape.kind == "string"

    def convert(value: Any, state: Pass) -> dict[str, Any]:
        if value.__class__ is not dict:
            raise Mismatch(values.json_type(value), "map[string]" + go_type(shape))
        state.keys += len(value)
        if text and set(map(type, value.values())) <= _TEXT:
            return dict(value)
        return {key: one(item, state) for key, item in value.items()}

    return convert


def _raw(value: Any, state: Pass) -> Any:
    state.keys += count_keys(value)
    return value


def count_keys(value: Any) -> int:
    """Keys of all objects inside `value`."""
    if value.__class__ is dict:
        return len(value) + sum(map(count_keys, value.values()))
    return sum(map(count_keys, value)) if value.__class__ is list else 0


def _int32(value: Any, _: Pass) -> Any:
    if value.__class__ is int and -0x80000000 <= value <= 0x7FFFFFFF:
        return value
    return values.integer(value, "int32")


_SCALARS: dict[str, Convert | None] = {
    "string": None,
    "boolean": None,
    "int32": _int32,
    "int64": lambda value, _: values.integer(value, "int64"),
    "number": lambda value, _: values.number(value),
    "bytes": lambda value, _: values.octets(value),
    "quantity": lambda value, _: values.amount(value),
    "time": lambda value, _: values.time(value),
    "micro-time": lambda value, _: values.micro_time(value),
    "int-or-string": lambda value, _: values.int_or_string(value),
    "raw": _raw,
    "any": _raw,
}


def go_type(shape: Shape) -> str:
    """The Go name of a shape, as errors show it (named string types show as string)."""
    if shape.items is not None:
        return ("[]" if shape.kind == "array" else "map[string]") + go_type(shape.items)
    return _go_name(shape.type) if shape.type else _GO.get(shape.kind, shape.kind)


def _go_name(name: str) -> str:
    """io.k8s.api.core.v1.PodSpec: v1.PodSpec."""
    return ".".join(name.split(".")[-2:])
