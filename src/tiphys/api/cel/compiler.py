"""Source to program: parse, check, validate, emit."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tiphys.api.cel import ast
from tiphys.api.cel.checker import check
from tiphys.api.cel.costs import Range
from tiphys.api.cel.emitter import compiled
from tiphys.api.cel.estimate import estimated
from tiphys.api.cel.parser import parse
from tiphys.api.cel.program import Program
from tiphys.api.cel.source import Source
from tiphys.api.cel.types import CompileError, Type
from tiphys.api.cel.unify import is_dyn
from tiphys.api.cel.validators import prepare, validate

if TYPE_CHECKING:
    from tiphys.api.cel.environment import Environment

_FRAMES = 20_000
_TOO_DEEP = "expression recursion limit exceeded: 250"


def compile_program(environment: Environment, text: str, expect: Type | tuple[Type, ...] | None) -> Program:
    """See Environment.compile."""
    with _deep():
        try:
            node = checked(environment, text)
            _expected(node.type, expect)
            prepare(node)
            run = compiled(node, dict(environment.variables))
        except (RecursionError, MemoryError, SyntaxError) as error:
            raise CompileError(f"ERROR: <input>:-1:0: {_TOO_DEEP}", [(-1, -1, _TOO_DEEP)]) from error
    return Program(text, node.type, run, lambda: _estimate(node, environment))


def _estimate(node: ast.Node, environment: Environment) -> Range:
    with _deep():
        return estimated(node, environment.variables)


@contextmanager
def _deep() -> Iterator[None]:
    """Room for the deepest expression that upstream takes: 250 levels are some thousand calls of Python functions.

    Calls from Python to Python take no room on the machine's stack, so that the limit may be raised for a while.
    """
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, _FRAMES))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def checked(environment: Environment, text: str) -> ast.Node:
    """The typed tree of an expression. Raises CompileError."""
    source = Source(text)
    node = parse(
        source,
        environment.macros,
        optional_syntax=ast.OPTIONAL_SELECT in environment.functions,
        escaped_names=environment.escaped_names,
    )
    if source.failed:
        raise source.error()
    check(environment, source, node)
    if not source.failed and environment.validates:
        validate(source, node)
    if source.failed:
        raise source.error()
    return node


def _expected(actual: Type, expect: Type | tuple[Type, ...] | None) -> None:
    """Callers with another text for this compare `program.type` themselves."""
    allowed = expect if isinstance(expect, tuple) else () if expect is None else (expect,)
    if not allowed or any(is_dyn(one) or one == actual for one in allowed):
        return
    names = " or ".join(map(str, allowed))
    raise CompileError(f"must evaluate to {names}" if len(allowed) == 1 else f"must evaluate to one of {names}")
