"""The shapes of built-in objects, read from the compiled OpenAPI schema of Kubernetes 1.36.

`Definitions` is what decoding, patches, server-side apply, OpenAPI and discovery share. A `Type` has `Field`s,
a field has a `Shape`; an object's shape names its type, so that recursive types cost nothing. Types are read
from `data/schema.bin` one at a time, on first use; descriptions only for OpenAPI and explain.

Layout of schema.bin (written by hatch_build.py): b"TSC1", three little-endian uint32 lengths, then the index
(JSON: type -> [offset, length] and "group/version/Kind" -> type), the types (JSON texts) and the
descriptions (zlib, JSON: type -> [text, {field: text}]).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import orjson

DATA = Path(__file__).parent / "data" / "schema.bin"
MAGIC = b"TSC1"

OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
LIST_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"

KINDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "s": ("string", ""),
        "y": ("bytes", ""),
        "i": ("int32", ""),
        "l": ("int64", ""),
        "n": ("number", ""),
        "b": ("boolean", ""),
        "q": ("quantity", "io.k8s.apimachinery.pkg.api.resource.Quantity"),
        "t": ("time", "io.k8s.apimachinery.pkg.apis.meta.v1.Time"),
        "u": ("micro-time", "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime"),
        "x": ("int-or-string", "io.k8s.apimachinery.pkg.util.intstr.IntOrString"),
        "r": ("raw", "io.k8s.apimachinery.pkg.runtime.RawExtension"),
        "f": ("raw", "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1"),
        "p": ("raw", "io.k8s.apimachinery.pkg.apis.meta.v1.Patch"),
        "j": ("any", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON"),
        "ja": ("any", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray"),
        "jb": ("any", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool"),
        "js": ("any", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray"),
    }
)
"""Codes of values in schema.bin: the shape's kind and, for values that the schema names, their definition."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a value may be.

    `kind` is string, bytes (base64), int32, int64, number, boolean, quantity, time, micro-time, int-or-string, raw (an
    object that is kept as it came), any (any JSON), object, array or map.
    """

    kind: str
    type: str = ""
    """The definition's name, for objects and for values that have one."""
    items: Shape | None = None
    """What arrays and maps hold."""


@dataclass(frozen=True, slots=True)
class Field:
    """One property of an object type."""

    name: str
    shape: Shape
    pointer: bool = False
    """Absent and empty differ (a Go pointer), so 0, false and "" are kept."""
    always: bool = False
    """Written even when empty."""
    omit_zero: bool = False
    """A struct that is left out when nothing in it is set."""
    number: str = ""
    """The protobuf field number; `a.b` is field b of the message embedded as a; "" if unknown."""
    default: Any = None
    list_type: str = ""
    """"" (atomic), atomic, set or map."""
    map_keys: tuple[str, ...] = ()
    map_type: str = ""
    """"" (granular), granular or atomic."""
    merge_key: str = ""
    """The key by which a strategic merge patch matches the items of a list."""
    strategies: tuple[str, ...] = ()
    """x-kubernetes-patch-strategy: merge, replace, retainKeys."""


class Published(Protocol):
    """The definition of a custom resource in OpenAPI documents."""

    references: tuple[str, ...]
    """The definitions that it refers to."""

    def document(self, root: str, *, v3: bool) -> dict[str, Any]:
        """The schema; `root` is what references begin with."""
        ...


class Custom(Protocol):
    """What takes the place of fields in the type of a custom resource."""

    @property
    def published(self) -> Published:
        """How it shows in OpenAPI documents."""
        ...

    def decode(self, value: Mapping[str, Any], state: Any) -> dict[str, Any]:
        """The canonical object; `state` is a `decode.objects.Pass`. Raises DecodeError."""
        ...

    def unknown_fields(self, value: Mapping[str, Any]) -> list[str]:
        """The paths of what decoding leaves out."""
        ...

    def node(self, nodes: Any) -> Any:
        """The `apply.nodes.Node` of its objects."""
        ...


@dataclass(frozen=True, slots=True)
class Type:
    """An object type: its fields by JSON name."""

    name: str
    fields: Mapping[str, Field]
    required: tuple[str, ...] = ()
    atomic: bool = False
    """Server-side apply replaces it whole."""
    unions: tuple[Any, ...] = ()
    kinds: tuple[tuple[str, str, str], ...] = ()
    """The (group, version, kind) triples that have this type."""
    custom: Custom | None = None
    """For custom resources: what knows their objects, in place of fields."""


@dataclass(frozen=True, slots=True)
class Description:
    """The texts of a type and of its fields."""

    text: str
    fields: Mapping[str, str]


class SchemaMissing(RuntimeError):
    """schema.bin was not built or is of another layout."""


@cache
def shape_of(code: str) -> Shape:
    """The shape that a code of schema.bin stands for."""
    if code[0] == "@":
        return Shape("object", code[1:])
    if code[0] in "[{":
        return Shape("array" if code[0] == "[" else "map", items=shape_of(code[1:]))
    kind, name = KINDS[code]
    return Shape(kind, name)


class Definitions:
    """Types by name and by (group, version, kind). Immutable but for its caches."""

    def __init__(
        self,
        index: Mapping[str, tuple[int, int]],
        kinds: Mapping[str, str],
        body: bytes,
        *,
        path: Path | None = None,
        extra: Mapping[str, Type] | None = None,
    ) -> None:
        self._index = index
        self._kinds = kinds
        self._body = body
        self._path = path
        self._types: dict[str, Type] = dict(extra or {})
        self._extra = dict(extra or {})

    @classmethod
    def load(cls, path: Path = DATA) -> Definitions:
        """Read the index and the types' texts. Raises SchemaMissing."""
        try:
            with path.open("rb") as file:
                head = file.read(16)
                if head[:4] != MAGIC:
                    raise SchemaMissing(f"{path}: not a compiled schema of this version; run `python hatch_build.py`")
                index_size, body_size, _ = struct.unpack("<III", head[4:])
                index = orjson.loads(file.read(index_size))
                body = file.read(body_size)
        except FileNotFoundError as error:
            raise SchemaMissing(f"{path} is missing: in a checkout, run `python hatch_build.py`") from error
        return cls(index["types"], index["kinds"], body, path=path)

    def with_types(self, types: Iterable[Type]) -> Definitions:
        """These definitions and more (custom resources)."""
        extra = self._extra | {one.name: one for one in types}
        return Definitions(self._index, self._kinds, self._body, path=self._path, extra=extra)

    def names(self) -> list[str]:
        return sorted({*self._index, *self._extra})

    def type(self, name: str) -> Type:
        """The object type called `name` (io.k8s.api.core.v1.Pod). Raises KeyError."""
        found = self._types.get(name)
        if found is None:
            start, length = self._index[name]
            found = self._types[name] = _read_type(name, orjson.loads(self._body[start : start + length]))
        return found

    def of(self, group: str, version: str, kind: str) -> Type | None:
        """The type of a kind; None if the schema has none."""
        name = self._kinds.get(f"{group}/{version}/{kind}")
        return self.type(name) if name else None

    def name_of(self, group: str, version: str, kind: str) -> str:
        """The name of a kind's type; "" if the schema has none."""
        return self._kinds.get(f"{group}/{version}/{kind}", "")

    def knows(self, group: str, version: str, kind: str) -> bool:
        return f"{group}/{version}/{kind}" in self._kinds

    def descriptions(self) -> dict[str, Description]:
        """All texts, read anew from the file each time: 1 MB that nobody should keep."""
        import zlib

        if self._path is None:
            return {}
        with self._path.open("rb") as file:
            index_size, body_size, size = struct.unpack("<4x3I", file.read(16))
            file.seek(16 + index_size + body_size)
            texts = orjson.loads(zlib.decompress(file.read(size)))
        return {name: Description(text, fields) for name, (text, fields) in texts.items()}


@cache
def builtin() -> Definitions:
    """The built-in definitions, loaded once a process."""
    return Definitions.load()


def _read_type(name: str, record: Mapping[str, Any]) -> Type:
    return Type(
        name=name,
        fields={field: _read_field(field, entry) for field, entry in record["f"].items()} if "f" in record else {},
        required=tuple(record.get("r", ())),
        atomic=record.get("m") == "atomic",
        unions=tuple(record.get("u", ())),
        kinds=tuple((group, version, kind) for group, version, kind in record.get("g", ())),
    )


def _read_field(name: str, entry: Mapping[str, Any]) -> Field:
    marks = entry.get("m", "")
    return Field(
        name=name,
        shape=shape_of(entry["t"]),
        pointer="*" in marks,
        always="!" in marks,
        omit_zero="~" in marks,
        number=entry.get("n", ""),
        default=entry.get("d"),
        list_type=entry.get("l", ""),
        map_keys=tuple(entry.get("k", ())),
        map_type=entry.get("a", ""),
        merge_key=entry.get("g", ""),
        strategies=tuple(entry["p"].split(",")) if "p" in entry else (),
    )
