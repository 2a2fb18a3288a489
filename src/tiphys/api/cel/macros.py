"""Macros: calls that the parser rewrites. The standard ones are here, with the builders that others use too.

The rewritten trees are upstream's, because costs are counted on them (cel-go, parser/macro.go).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tiphys.api.cel import ast
from tiphys.api.cel.types import BOOL, INT, CelError

Expand = Callable[[int, "ast.Node | None", Sequence[ast.Node]], "ast.Node | None"]


class MacroError(CelError):
    """The arguments do not suit the macro; `offset` is where the message points."""

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Macro:
    """A name with a number of arguments, as a function or (`member`) as a method.

    `expand(offset of the call, receiver, arguments)` gives the new tree, or None when it is a plain call after all; it
    raises MacroError.
    """

    name: str
    arity: int
    member: bool
    expand: Expand

    @property
    def key(self) -> tuple[str, int, bool]:
        return self.name, self.arity, self.member


def boolean(offset: int, value: bool) -> ast.Node:
    return ast.Literal(offset, value, BOOL)


def integer(offset: int, value: int) -> ast.Node:
    return ast.Literal(offset, value, INT)


def accumulated(offset: int) -> ast.Node:
    return ast.Ident(offset, ast.ACCUMULATOR)


def call(offset: int, function: str, *arguments: ast.Node) -> ast.Node:
    return ast.Call(offset, function, None, list(arguments))


def method(offset: int, function: str, target: ast.Node, *arguments: ast.Node) -> ast.Node:
    return ast.Call(offset, function, target, list(arguments))


def variable_name(node: ast.Node) -> str:
    """The name that an argument declares as a loop variable."""
    if not isinstance(node, ast.Ident):
        raise MacroError(node.offset, "argument must be a simple name")
    if node.name in (ast.ACCUMULATOR, "__result__"):
        raise MacroError(node.offset, "iteration variable overwrites accumulator variable")
    return node.name


def fold(
    offset: int,
    kind: str,
    target: ast.Node | None,
    names: tuple[str, str],
    parts: tuple[ast.Node, ast.Node, ast.Node],
    result: ast.Node | None = None,
) -> ast.Node:
    """A comprehension over `target`; parts are the initial value, the condition of going on, the step."""
    if target is None:
        raise MacroError(offset, "comprehension without a range")
    result = result or accumulated(offset)
    return ast.Comprehension(offset, kind, target, *names, ast.ACCUMULATOR, *parts, result)


def all_fold(offset: int, target: ast.Node | None, names: tuple[str, str], predicate: ast.Node) -> ast.Node:
    condition = call(offset, ast.NOT_STRICTLY_FALSE, accumulated(offset))
    step = call(offset, ast.AND, accumulated(offset), predicate)
    return fold(offset, "all", target, names, (boolean(offset, True), condition, step))


def exists_fold(offset: int, target: ast.Node | None, names: tuple[str, str], predicate: ast.Node) -> ast.Node:
    negated = call(offset, ast.NOT, accumulated(offset))
    step = call(offset, ast.OR, accumulated(offset), predicate)
    condition = call(offset, ast.NOT_STRICTLY_FALSE, negated)
    return fold(offset, "exists", target, names, (boolean(offset, False), condition, step))


def exists_one_fold(offset: int, target: ast.Node | None, names: tuple[str, str], predicate: ast.Node) -> ast.Node:
    counted = call(offset, ast.ADD, accumulated(offset), integer(offset, 1))
    step = call(offset, ast.CONDITIONAL, predicate, counted, accumulated(offset))
    result = call(offset, ast.EQUALS, accumulated(offset), integer(offset, 1))
    return fold(offset, "exists_one", target, names, (integer(offset, 0), boolean(offset, True), step), result)


def list_fold(
    offset: int, target: ast.Node | None, names: tuple[str, str], item: ast.Node, keep: ast.Node | None
) -> ast.Node:
    """The list of `item` for every entry that `keep` holds for."""
    step = call(offset, ast.ADD, accumulated(offset), ast.ListNode(offset, [item]))
    if keep is not None:
        step = call(offset, ast.CONDITIONAL, keep, step, accumulated(offset))
    return fold(offset, "list", target, names, (ast.ListNode(offset, []), boolean(offset, True), step))


def _has(offset: int, target: ast.Node | None, arguments: Sequence[ast.Node]) -> ast.Node:
    argument = arguments[0]
    if not isinstance(argument, ast.Select) or argument.test:
        raise MacroError(argument.offset, "invalid argument to has() macro")
    return ast.Select(offset, argument.operand, argument.name, test=True)


Quantifier = Callable[[int, "ast.Node | None", "tuple[str, str]", ast.Node], ast.Node]


def _quantifier(build: Quantifier) -> Expand:
    def expand(offset: int, target: ast.Node | None, arguments: Sequence[ast.Node]) -> ast.Node:
        return build(offset, target, (variable_name(arguments[0]), ""), arguments[1])

    return expand


def _map(offset: int, target: ast.Node | None, arguments: Sequence[ast.Node]) -> ast.Node:
    keep = arguments[1] if len(arguments) == 3 else None
    return list_fold(offset, target, (_list_variable(arguments[0]), ""), arguments[-1], keep)


def _filter(offset: int, target: ast.Node | None, arguments: Sequence[ast.Node]) -> ast.Node:
    return list_fold(offset, target, (_list_variable(arguments[0]), ""), arguments[0], arguments[1])


def _list_variable(node: ast.Node) -> str:
    """map and filter have a message of their own for what is no name."""
    if not isinstance(node, ast.Ident):
        raise MacroError(node.offset, "argument is not an identifier")
    return variable_name(node)


MACROS = (
    Macro("has", 1, False, _has),
    Macro("all", 2, True, _quantifier(all_fold)),
    Macro("exists", 2, True, _quantifier(exists_fold)),
    Macro("exists_one", 2, True, _quantifier(exists_one_fold)),
    Macro("existsOne", 2, True, _quantifier(exists_one_fold)),
    Macro("map", 2, True, _map),
    Macro("map", 3, True, _map),
    Macro("filter", 2, True, _filter),
)
