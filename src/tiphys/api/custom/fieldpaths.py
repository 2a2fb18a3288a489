"""Paths of fields in a schema: `.spec['a.b'].c`, as rules (fieldPath) and selectable fields name them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tiphys.api.custom.schemas import Schema, allows_extra, extra, properties

_TOKEN = re.compile(r"'(?:[^'\\]|\\.|\\)*'|[.\[\]]|[^.\[\]]+", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "'": "'", "\\": "\\"}


class FieldPathError(ValueError):
    """A path that leads to no field; the text is upstream's."""


@dataclass(frozen=True, slots=True)
class FieldPath:
    """Where a path leads: its text in the form of field errors, its first name, and the schema there."""

    text: str
    root: str
    schema: Schema | None


def resolve(path: str, schema: Schema, *, brackets: bool = True) -> FieldPath:
    """Follow a path. Raises FieldPathError."""
    tokens = _TOKEN.findall(path)
    tokens.reverse()
    text, root, at = "", "", schema
    found: Schema | None = schema
    while tokens:
        step = tokens.pop()
        if step == ".":
            name = _next(tokens)
        elif step == "[":
            name = _bracketed(tokens, brackets=brackets)
        else:
            raise FieldPathError(f"expected [ or . but got: {step}")
        if found is None:
            raise FieldPathError("does not refer to a valid field")
        at = found
        named = bool(properties(at))
        if not named and not allows_extra(at):
            raise FieldPathError("does not refer to a valid field")
        found = properties(at).get(name) if named else extra(at)
        if named and found is None:
            raise FieldPathError("does not refer to a valid field")
        text += (f".{name}" if text else name) if named else f"[{name}]"
        root = root or name
    return FieldPath(text, root, found)


def _next(tokens: list[str]) -> str:
    if not tokens:
        raise FieldPathError("unexpected end of JSON path")
    return tokens.pop()


def _bracketed(tokens: list[str], *, brackets: bool) -> str:
    if not brackets:
        raise FieldPathError("array notation is not allowed")
    token = _next(tokens)
    if len(token) < 2 or token[0] != "'" or token[-1] != "'":
        raise FieldPathError(f"expected single quoted string but got {token}")
    name = _ESCAPE.sub(_unescaped, token[1:-1])
    end = _next(tokens)
    if end != "]":
        raise FieldPathError(f"expected ] but got {end}")
    return name


def _unescaped(match: re.Match[str]) -> str:
    if match[1] not in _ESCAPES:
        raise FieldPathError(f"invalid string literal: invalid escape char {match[0]}")
    return _ESCAPES[match[1]]
