"""The language of the CEL package: types, values, functions, libraries, errors and budgets.

Values are plain JSON values (None, bool, int, float, str, list, dict) wherever CEL has the same thing. What JSON has
not is one of the classes of `values`: `Uint` (an int), bytes, `Timestamp`, `Duration`, `Optional`, a `Type`, and the
opaque values of libraries.

How a library is declared
    A `Library` is a value: a name, `Function`s, named types and macros. A `Function` is a name with `Overload`s; an
    overload has upstream's overload id, the parameter types (the receiver first when `member`), the result type and the
    implementation, an ordinary callable that gets the evaluated arguments by position and returns a value.
    A namespaced function has dots in its name: `Function("ip.isCanonical", ...)`.
    Arguments have the declared types whenever the implementation runs: where the static type is dyn, the dispatch looks
    at the values first, and says "no such overload" when none fits. An implementation refuses an argument with
    `raise EvaluationError("...")`, with upstream's text, and raises nothing else.

Opaque values
    A library's own value class has the class attribute `cel_type: Type` (made with `opaque("net.IP")` or
    `named("kubernetes.Quantity")`) and Python's `__eq__` and `__hash__`; these are CEL's equality. When CEL's size
    matters for costs (upstream calls it Sizer), the class has a method `cel_size() -> int`. Ordering is never implied:
    a library declares functions for it.

Costs
    At run time a call costs 1, unless the overload says otherwise with `cost`: a whole number, or a callable of the
    evaluated arguments (a tuple, the receiver first) and of the result, which returns a whole number.
    `size_of(value)` is the size that costs count in: code points, bytes, items, entries, else 1.
    Before it runs, a call is estimated as 1, unless the overload says otherwise with `estimate`: a callable of the
    arguments' `Node`s (the receiver first) which returns a `CallEstimate`: the cost range, and the range of the
    result's size where the result is a string, bytes, list or map. `node.size` is never None: `Range(0, MAX)` when
    nothing is known. The module `costs` has the usual ones ready: `traversal()`, `fixed()`.

Sources: the CEL specification (langdef.md), cel-go's `types` and `interpreter/runtimecost.go` for the counting rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tiphys.base.errors import TiphysError

if TYPE_CHECKING:
    from tiphys.api.cel.costs import CallEstimate, Node, Range
    from tiphys.api.cel.macros import Macro


class CelError(TiphysError):
    """Base of the errors of CEL."""


class CompileError(CelError):
    """The expression is not valid; the text lists every error in upstream's form, with the place in the source."""

    def __init__(self, message: str, issues: Sequence[tuple[int, int, str]] = ()) -> None:
        super().__init__(message)
        self.issues = tuple(issues)
        """(line from 1, column from 0, message) of every error."""


class ProgramError(CompileError):
    """The expression is valid, but no program can be made of it: a constant does not convert, a pattern is none.

    Upstream finds these a step later; its callers say "program instantiation failed: " where they say "compilation
    failed: " of others.
    """


class EvaluationError(CelError):
    """The expression has no value for this input: `no such key: x`, `division by zero`, ..."""


class CostExceeded(CelError):
    """Running it costs more than is allowed. `shared` tells the budget over several runs from the limit of one run."""

    def __init__(
        self, message: str = "operation cancelled: actual cost limit exceeded", *, shared: bool = False
    ) -> None:
        super().__init__(message)
        self.shared = shared


PER_CALL_LIMIT = 1_000_000
"""What one run of one expression may cost."""
RUNTIME_BUDGET = 10_000_000
"""What the expressions of one request may cost together."""


class Budget:
    """Cost that several runs share: each run takes from it what it spent, also when it failed.

    A run that would take more than remains raises `CostExceeded(shared=True)`; `remaining` is negative then.
    """

    __slots__ = ("limit", "remaining")

    def __init__(self, limit: int = RUNTIME_BUDGET) -> None:
        self.limit = limit
        self.remaining = limit

    @property
    def spent(self) -> int:
        return self.limit - self.remaining


@dataclass(frozen=True, slots=True)
class Type:
    """A type of CEL. Two types are the same when kind, name and parameters are; the rest is knowledge about values.

    Kinds: bool int uint double string bytes null_type timestamp duration dyn any list map object opaque type
    type_param error. `optional_type(T)` is opaque, as upstream has it.
    """

    kind: str
    name: str
    parameters: tuple[Type, ...] = ()
    nullable: bool = field(default=False)
    """A wrapper type: null is assignable."""
    fields: Mapping[str, Field] | None = field(default=None, compare=False, repr=False)
    """The fields of an object type by the name that expressions use; None when the type has no fields to select."""
    max_size: int | None = field(default=None, compare=False, repr=False)
    """The largest size a value can have by its schema (characters, items, entries); None when it has none."""
    from_json: Callable[[Any], Any] | None = field(default=None, compare=False, repr=False)
    """How the JSON value of a schema's field becomes a value of this type; None when it is that already."""
    normal: Callable[[Any], Any] | None = field(default=None, compare=False, repr=False)
    """Like `from_json`, and everything within too: for comparing whole objects and lists."""
    equality: Range | None = field(default=None, compare=False, repr=False)
    """The estimated cost of `==` on values of an opaque or named type; None: derived from sizes."""

    def __str__(self) -> str:
        """As in upstream's messages: `map(string, list(int))`."""
        if self.kind == "opaque" and self.name == "function":
            return f"({', '.join(map(str, self.parameters[1:]))}) -> {self.parameters[0]}"
        if self.nullable:
            return f"wrapper({self.name})"
        if not self.parameters:
            return _DISPLAY.get(self.kind, self.name)
        return f"{self.name}({', '.join(map(str, self.parameters))})"

    def with_size(self, size: int | None) -> Type:
        """The same type, with values of at most `size` characters, items or entries."""
        return replace(self, max_size=size)


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an object type: its key in JSON, where expressions may use an escaped name, and its type."""

    key: str
    type: Type
    null_is_absent: bool = False
    """Whether null counts as not there, as in the fields of a schema's objects."""


_DISPLAY = {
    "timestamp": "timestamp",
    "duration": "duration",
    "error": "!error!",
    "null_type": "null",
    "any": "any",
}

BOOL = Type("bool", "bool")
INT = Type("int", "int")
UINT = Type("uint", "uint")
DOUBLE = Type("double", "double")
STRING = Type("string", "string")
BYTES = Type("bytes", "bytes")
NULL = Type("null_type", "null_type")
TIMESTAMP = Type("timestamp", "google.protobuf.Timestamp")
DURATION = Type("duration", "google.protobuf.Duration")
DYN = Type("dyn", "dyn")
ERROR = Type("error", "*error*")
TYPE = Type("type", "type")


def list_of(item: Type, max_size: int | None = None) -> Type:
    """`list(item)`, of at most `max_size` items when that is known."""
    return Type("list", "list", (item,), max_size=max_size)


def map_of(key: Type, value: Type, max_size: int | None = None) -> Type:
    """`map(key, value)`, of at most `max_size` entries when that is known."""
    return Type("map", "map", (key, value), max_size=max_size)


def optional(item: Type) -> Type:
    return Type("opaque", "optional_type", (item,))


def type_of_type(item: Type) -> Type:
    return Type("type", "type", (item,))


def type_parameter(name: str) -> Type:
    """A variable in a function's signature: `type_parameter("A")`."""
    return Type("type_param", name)


def wrapper(primitive: Type) -> Type:
    """The same type with null among its values."""
    return replace(primitive, nullable=True)


def opaque(name: str, *parameters: Type, equality: Range | None = None) -> Type:
    """A library's type whose values only its functions can look into."""
    return Type("opaque", name, parameters, equality=equality)


def named(name: str, fields: Mapping[str, Field] | None = None, *, equality: Range | None = None) -> Type:
    """An object type: a schema's, or a library's that upstream declares as one (`kubernetes.Quantity`)."""
    return Type("object", name, fields=fields, equality=equality)


Cost = int | Callable[[tuple[Any, ...], Any], int]
Estimate = Callable[[Sequence["Node"]], "CallEstimate | None"]


@dataclass(frozen=True, slots=True)
class Overload:
    """One signature of a function with its implementation and costs; see the module's docstring."""

    id: str
    parameters: tuple[Type, ...]
    result: Type
    implementation: Callable[..., Any]
    member: bool = False
    cost: Cost = 1
    estimate: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Function:
    """A name and its overloads. Two libraries may declare the same name: the overloads add up, unique by id."""

    name: str
    overloads: tuple[Overload, ...]


@dataclass(frozen=True, slots=True)
class Library:
    """What one library adds to an environment."""

    name: str
    functions: tuple[Function, ...] = ()
    types: tuple[Type, ...] = ()
    """Types that expressions can name: `type(x) == net.IP`."""
    macros: tuple[Macro, ...] = ()
