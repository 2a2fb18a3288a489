"""Calls of `"...".format([...])` whose parts are literals: what is wrong with them is said when they are written.

Source: cel-go, ext/formatting.go (the validator of format calls).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiphys.api.cel import ast
from tiphys.api.cel.libraries import formatting
from tiphys.api.cel.libraries.formatting import Refused

OVERLOAD = "string_format"

_TEXTS = frozenset(
    ("list", "map", "int", "uint", "double", "bool", "string", "timestamp", "bytes", "duration", "type", "null_type")
)
_KINDS: dict[str, frozenset[str]] = {
    "d": frozenset(("int", "uint")),
    "f": frozenset(("double", "string")),
    "e": frozenset(("double", "string")),
    "b": frozenset(("int", "uint", "bool")),
    "x": frozenset(("int", "uint", "string", "bytes")),
    "o": frozenset(("int", "uint")),
}


def check(call: ast.Call, report: Callable[[int, str], object]) -> None:
    """Report what does not fit: too few or too many arguments, clauses that do not take an argument's type."""
    template, arguments = call.target, call.args[0] if len(call.args) == 1 else None
    if not isinstance(template, ast.Literal) or not isinstance(arguments, ast.ListNode):
        return
    if not isinstance(template.value, str):
        return
    items = arguments.items
    try:
        clauses = list(formatting.clauses(template.value, len(items)))
    except Refused as error:
        report(call.offset, str(error))
        return
    for letter, item in zip(clauses, items, strict=False):
        wrong = _wrong(letter, item)
        if wrong is not None:
            report(wrong.offset, f"error during formatting: {formatting.complaint(letter, _name(wrong))}")
            return
    if len(items) > len(clauses):
        text = f"too many arguments supplied to string.format (expected {len(clauses)}, got {len(items)})"
        report(call.offset, text)


def _wrong(letter: str, item: ast.Node) -> ast.Node | None:
    """The argument, or what is in it, that the clause does not take."""
    if letter != "s":
        allowed = _KINDS[letter.lower()]
        return None if item.type.kind in allowed or _dynamic(item) else item
    if item.type.kind not in _TEXTS and not _dynamic(item):
        return item
    parts: list[Any] = []
    if isinstance(item, ast.ListNode):
        parts = item.items
    elif isinstance(item, ast.MapNode):
        parts = [part for entry in item.entries for part in (entry.key, entry.value)]
    return next((found for part in parts if (found := _wrong("s", part)) is not None), None)


def _dynamic(item: ast.Node) -> bool:
    return item.type.kind == "dyn"


def _name(item: ast.Node) -> str:
    return item.type.name
