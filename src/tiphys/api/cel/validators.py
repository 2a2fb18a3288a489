"""What Kubernetes checks beyond types: literals that are no duration, time or pattern, lists and maps of mixed types.

All of it is known when the expression is written, so that it fails then and not at every request. Lists within the
arguments of `format` may mix types. Source: cel-go, cel/validator.go; Kubernetes has these checks since 1.29.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tiphys.api.cel import ast, conversions
from tiphys.api.cel.libraries import format_check
from tiphys.api.cel.libraries.re2 import PatternError, compile_pattern
from tiphys.api.cel.source import Source
from tiphys.api.cel.standard import CONVERSIONS
from tiphys.api.cel.types import EvaluationError, ProgramError, Type
from tiphys.api.cel.unify import substituted

_EXEMPT = frozenset(("format",))


def validate(source: Source, node: ast.Node) -> None:
    """Report what is wrong in a checked tree."""
    for one in _walk(node, mixed=False):
        if isinstance(one, ast.Call):
            _literal_argument(source, one)
            if any(overload.id == format_check.OVERLOAD for overload in one.overloads):
                format_check.check(one, source.report)
        elif isinstance(one, ast.ListNode):
            _homogeneous_list(source, one)
        elif isinstance(one, ast.MapNode):
            _homogeneous_map(source, one)


def _walk(node: Any, mixed: bool) -> Iterator[ast.Node]:
    """All nodes; lists and maps that may mix types are left out."""
    if not (mixed and isinstance(node, (ast.ListNode, ast.MapNode))):
        yield node
    if isinstance(node, ast.Call):
        mixed = mixed or node.function in _EXEMPT
    for child in ast.children(node):
        yield from _walk(child, mixed)


_CHECKS: dict[str, Callable[[Any], object]] = {
    "duration": conversions.to_duration,
    "timestamp": conversions.to_timestamp,
    "matches": compile_pattern,
}


def _literal_argument(source: Source, node: ast.Call) -> None:
    check = _CHECKS.get(node.function)
    if check is None or not node.args or not isinstance(node.args[0], ast.Literal):
        return
    argument = node.args[0]
    try:
        check(argument.value)
    except (EvaluationError, PatternError):
        source.report(argument.offset, f"invalid {node.function} argument")


_PATTERNS = frozenset(("matches", "find", "findAll"))


def prepare(node: ast.Node) -> None:
    """Try what is constant: conversions and patterns. Raises ProgramError."""
    for one in _walk(node, mixed=False):
        if not isinstance(one, ast.Call):
            continue
        operands = one.operands
        try:
            if one.function in _PATTERNS and len(operands) > 1:
                _try_pattern(operands[1])
            elif len(one.overloads) == 1 and len(operands) == 1 and one.function in CONVERSIONS:
                _try_conversion(one, operands[0])
        except (EvaluationError, PatternError) as error:
            raise ProgramError(str(error)) from error


def _try_pattern(node: ast.Node) -> None:
    if isinstance(node, ast.Literal) and isinstance(node.value, str):
        compile_pattern(node.value)


def _try_conversion(call: ast.Call, argument: ast.Node) -> None:
    if isinstance(argument, ast.Literal):
        call.overloads[0].implementation(argument.value)


def _homogeneous_list(source: Source, node: ast.ListNode) -> None:
    first: Type | None = None
    for at, item in enumerate(node.items):
        one = item.type.parameters[0] if at in node.optional and item.type.parameters else item.type
        if first is None:
            first = one
        elif not _equivalent(first, one):
            _mismatch(source, item, first, one)
            return


def _homogeneous_map(source: Source, node: ast.MapNode) -> None:
    first: tuple[Type, Type] | None = None
    for entry in node.entries:
        value = entry.value.type
        value = value.parameters[0] if entry.optional and value.parameters else value
        if first is None:
            first = entry.key.type, value
            continue
        if not _equivalent(first[0], entry.key.type):
            _mismatch(source, entry.key, first[0], entry.key.type)
        if not _equivalent(first[1], value):
            _mismatch(source, entry.value, first[1], value)


def _equivalent(first: Type, second: Type) -> bool:
    """The same type, whatever the names of free parameters."""
    if first.kind != second.kind or len(first.parameters) != len(second.parameters):
        return False
    if first.kind in ("object", "opaque") and first.name != second.name:
        return False
    return all(map(_equivalent, first.parameters, second.parameters))


def _mismatch(source: Source, node: ast.Node, expected: Type, actual: Type) -> None:
    shown = [substituted({}, one, free_to_dyn=True) for one in (expected, actual)]
    source.report(node.offset, f"expected type '{shown[0]}' but found '{shown[1]}'")
