"""What an expression may name: variables, functions, types and macros.

`Environment.kubernetes(version)` is upstream's base environment as of that version: the standard library and macros,
optionals and comparisons across number types (1.28), comprehensions of two variables (1.32), and the libraries of
Kubernetes by the version that brought them (libraries.for_version). An expression that is stored already may use what
later versions brought; upstream compiles new ones against the version before its own, and so does a caller who says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING

from tiphys.api.cel.types import Function, Library, Type

if TYPE_CHECKING:
    from tiphys.api.cel.macros import Macro
    from tiphys.api.cel.program import Program

CURRENT = (1, 36)


@dataclass(frozen=True)
class Environment:
    """The names an expression may use. Immutable."""

    variables: Mapping[str, Type] = field(default_factory=dict)
    functions: Mapping[str, Function] = field(default_factory=dict)
    types: Mapping[str, Type] = field(default_factory=dict)
    macros: Mapping[tuple[str, int, bool], Macro] = field(default_factory=dict)
    resolve: Callable[[str], Type | None] | None = None
    """Finds types by name that `types` does not have."""
    validates: bool = False
    """Whether literals are looked at beyond their types: see `validators` (Kubernetes: yes)."""
    escaped_names: bool = False
    """Whether fields may be written in backticks (Kubernetes: no)."""

    @staticmethod
    def standard() -> Environment:
        """CEL's own functions and macros, without variables."""
        return _standard()

    @staticmethod
    def kubernetes(version: tuple[int, int] = CURRENT) -> Environment:
        """The base environment of Kubernetes, `version` as (major, minor)."""
        return _kubernetes(version)

    def with_variables(self, variables: Mapping[str, Type]) -> Environment:
        """Also these variables; a name that is there already gets the new type."""
        return replace(self, variables={**self.variables, **variables})

    def with_libraries(self, *libraries: Library) -> Environment:
        """Also what these libraries declare; overloads of a function that is there already add up."""
        functions, types, macros = dict(self.functions), dict(self.types), dict(self.macros)
        for library in libraries:
            for function in library.functions:
                functions[function.name] = _merged(functions.get(function.name), function)
            types.update((item.name, item) for item in library.types)
            macros.update((macro.key, macro) for macro in library.macros)
        return replace(self, functions=functions, types=types, macros=macros)

    def with_objects(self) -> Environment:
        """Also `Object{...}`, the objects in it and `JSONPatch{...}`: what mutating policies make (see `objects`)."""
        from tiphys.api.cel.objects import resolve

        return replace(self, resolve=resolve)

    def compile(self, source: str, expect: Type | tuple[Type, ...] | None = None) -> Program:
        """The program of an expression.

        `expect` is the static type it must have exactly, or several; DYN there allows any. Raises CompileError.
        """
        from tiphys.api.cel.compiler import compile_program

        return compile_program(self, source, expect)


def _merged(known: Function | None, added: Function) -> Function:
    if known is None:
        return added
    ids = {overload.id for overload in known.overloads}
    return Function(known.name, (*known.overloads, *(one for one in added.overloads if one.id not in ids)))


@cache
def _standard() -> Environment:
    from tiphys.api.cel.standard import STANDARD

    return Environment().with_libraries(STANDARD)


@cache
def _kubernetes(version: tuple[int, int]) -> Environment:
    from tiphys.api.cel.comprehensions import TWO_VARIABLES
    from tiphys.api.cel.libraries import for_version
    from tiphys.api.cel.optionals import OPTIONALS

    environment = replace(_standard(), validates=True)
    if version >= (1, 28):
        environment = environment.with_libraries(OPTIONALS)
    if version >= (1, 32):
        environment = environment.with_libraries(TWO_VARIABLES)
    return environment.with_libraries(*for_version(*version))
