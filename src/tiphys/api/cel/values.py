"""Values that JSON has not: unsigned integers, times, spans of time, optionals; and the type and size of any value.

Times and spans count nanoseconds in a whole number, as upstream's do. A timestamp lies within years 1 to 9999, a span
within 64 bits of nanoseconds (about 292 years).
"""

from __future__ import annotations

from typing import Any, ClassVar

from tiphys.api.cel.types import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    NULL,
    STRING,
    TIMESTAMP,
    TYPE,
    UINT,
    Type,
    list_of,
    map_of,
    optional,
)


class Uint(int):
    """An unsigned 64-bit integer. Equal to the int of the same value, as CEL compares numbers across types."""

    __slots__ = ()


class _Nanoseconds:
    """A whole number of nanoseconds with equality, order and hash."""

    __slots__ = ("nanoseconds",)

    def __init__(self, nanoseconds: int) -> None:
        self.nanoseconds = nanoseconds

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.nanoseconds == self.nanoseconds

    def __lt__(self, other: _Nanoseconds) -> bool:
        return self.nanoseconds < other.nanoseconds

    def __le__(self, other: _Nanoseconds) -> bool:
        return self.nanoseconds <= other.nanoseconds

    def __gt__(self, other: _Nanoseconds) -> bool:
        return self.nanoseconds > other.nanoseconds

    def __ge__(self, other: _Nanoseconds) -> bool:
        return self.nanoseconds >= other.nanoseconds

    def __hash__(self) -> int:
        return hash((type(self), self.nanoseconds))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.nanoseconds})"


class Timestamp(_Nanoseconds):
    """A moment: nanoseconds since 1970-01-01T00:00:00Z.

    `offset` is the time zone it was written in, in seconds east of UTC: only printing shows it.
    """

    __slots__ = ("offset",)
    cel_type: ClassVar[Type] = TIMESTAMP

    def __init__(self, nanoseconds: int, offset: int = 0) -> None:
        super().__init__(nanoseconds)
        self.offset = offset


class Duration(_Nanoseconds):
    """A span of time in nanoseconds."""

    __slots__ = ()
    cel_type: ClassVar[Type] = DURATION


class Optional:
    """A value, or none. `NONE` is the empty one; a present one may hold null."""

    __slots__ = ("present", "value")
    cel_type: ClassVar[Type] = optional(DYN)

    def __init__(self, value: Any, *, present: bool = True) -> None:
        self.value = value
        self.present = present

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Optional) or self.present is not other.present:
            return False
        from tiphys.api.cel.equality import equal

        return not self.present or equal(self.value, other.value)

    def __hash__(self) -> int:
        return hash((self.present, str(self.value)))

    def __repr__(self) -> str:
        return f"Optional({self.value!r})" if self.present else "NONE"


class Struct(dict[str, Any]):
    """An object that an expression made: `Object.spec{replicas: 1}`. It knows its type; else it is a JSON object."""

    __slots__ = ("cel_type",)

    def __init__(self, cel_type: Type) -> None:
        super().__init__()
        self.cel_type = cel_type


NONE = Optional(None, present=False)

_TYPES: dict[type, Type] = {
    bool: BOOL,
    int: INT,
    Uint: UINT,
    float: DOUBLE,
    str: STRING,
    bytes: BYTES,
    type(None): NULL,
    list: list_of(DYN),
    dict: map_of(DYN, DYN),
    Type: TYPE,
}


def type_of(value: Any) -> Type:
    """The type of a value; the items of lists and maps are not looked at."""
    found = _TYPES.get(type(value))
    if found is not None:
        return found
    declared: Type | None = getattr(value, "cel_type", None)
    if declared is not None:
        return declared
    if isinstance(value, list):
        return _TYPES[list]
    return _TYPES[dict] if isinstance(value, dict) else DYN


_SIZED = frozenset((str, bytes, list, dict))


def size_of(value: Any) -> int:
    """The size that costs count in: code points, bytes, items, entries; 1 for all else."""
    if type(value) in _SIZED:
        return len(value)
    sized = getattr(value, "cel_size", None)
    if sized is not None:
        return int(sized())
    if isinstance(value, (list, dict)):
        return len(value)
    return size_of(value.value) if isinstance(value, Optional) and value.present else 1
