"""Label and field selectors: their text, their objects, and whether they match.

Grammar and error messages are those of the API's query parameters; `from_object` reads a LabelSelector
(matchLabels, matchExpressions). Selectors are immutable and cheap to keep.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from tiphys.api.kinds.base import FieldError, invalid
from tiphys.api.validation.names import label_value, qualified_name
from tiphys.base.errors import BadRequest

Labels = Mapping[str, str]

EXISTS, ABSENT, IN, NOT_IN, EQUALS, NOT_EQUALS, GREATER, LESS = "exists", "!", "in", "notin", "=", "!=", "gt", "lt"
_OPERATORS = {"=": EQUALS, "==": EQUALS, "!=": NOT_EQUALS, "in": IN, "notin": NOT_IN, ">": GREATER, "<": LESS}
_EXPECTED = "!=, =, ==, in, notin, >, <"
_OF_OBJECT = {"In": IN, "NotIn": NOT_IN, "Exists": EXISTS, "DoesNotExist": ABSENT, "Gt": GREATER, "Lt": LESS}
_TOKEN = re.compile(r"[ \t\r\n]*(==|!=|[=!(),<>]|[^ \t\r\n=!(),<>]+)?")
_SPECIAL = frozenset({"", "=", "==", "!=", "!", "(", ")", ",", "<", ">"})


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label."""

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Labels) -> bool:
        value = labels.get(self.key)
        if self.operator in (IN, EQUALS):
            return value in self.values
        if self.operator in (NOT_IN, NOT_EQUALS):
            return value is None or value not in self.values
        if self.operator == EXISTS:
            return value is not None
        if self.operator == ABSENT:
            return value is None
        return value is not None and self._compare(value)

    def _compare(self, value: str) -> bool:
        try:
            number, limit = int(value), int(next(iter(self.values)))
        except ValueError:
            return False
        return number > limit if self.operator == GREATER else number < limit

    def __str__(self) -> str:
        if self.operator == EXISTS:
            return self.key
        if self.operator == ABSENT:
            return "!" + self.key
        values = ",".join(sorted(self.values))
        if self.operator in (IN, NOT_IN):
            return f"{self.key} {self.operator} ({values})"
        return f"{self.key}{ {GREATER: '>', LESS: '<'}.get(self.operator, self.operator) }{values}"


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All requirements must hold; without any, everything matches unless `nothing` is set."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    def matches(self, labels: Labels | None) -> bool:
        if self.nothing:
            return False
        labels = labels or {}
        return all(requirement.matches(labels) for requirement in self.requirements)

    @property
    def empty(self) -> bool:
        """Whether everything matches."""
        return not self.requirements and not self.nothing

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


EVERYTHING = LabelSelector()
NOTHING = LabelSelector(nothing=True)


@lru_cache(maxsize=512)
def parse_labels(text: str) -> LabelSelector:
    """The selector that `text` spells. Raises BadRequest."""
    try:
        return LabelSelector(tuple(sorted(_Parser(text).parse(), key=lambda one: one.key)))
    except ValueError as error:
        raise BadRequest(str(error)) from error


def from_labels(labels: Labels | None) -> LabelSelector:
    """Every given label with its value: selectors of Services and replication controllers."""
    return LabelSelector(tuple(Requirement(key, EQUALS, frozenset((value,))) for key, value in (labels or {}).items()))


def from_object(selector: Mapping[str, Any] | None) -> LabelSelector:
    """A LabelSelector object: None matches nothing, an empty one everything. Raises ValueError."""
    if selector is None:
        return NOTHING
    requirements = list(from_labels(selector.get("matchLabels")).requirements)
    for expression in selector.get("matchExpressions") or ():
        operator = _OF_OBJECT.get(expression.get("operator", ""))
        if operator is None:
            raise ValueError(f'"{expression.get("operator", "")}" is not a valid label selector operator')
        requirements.append(Requirement(expression["key"], operator, frozenset(expression.get("values") or ())))
    return LabelSelector(tuple(sorted(requirements, key=lambda one: one.key)))


class _Parser:
    """Recursive descent over the words of a selector. Raises ValueError with upstream's words."""

    def __init__(self, text: str) -> None:
        self.tokens = [word or "" for word in _TOKEN.findall(text)]
        self.tokens.append("")
        self.position = 0

    def peek(self) -> str:
        return self.tokens[self.position]

    def take(self) -> str:
        word = self.tokens[self.position]
        self.position += word != ""
        return word

    def parse(self) -> Iterable[Requirement]:
        out: list[Requirement] = []
        while self.peek():
            if self.peek() in _SPECIAL and self.peek() != "!":
                raise ValueError(f"found '{self.peek()}', expected: !, identifier, or 'end of string'")
            try:
                out.append(self.requirement())
            except ValueError as error:
                raise ValueError(f"unable to parse requirement: {error}") from error
            word = self.take()
            if not word:
                break
            if word != ",":
                raise ValueError(f"found '{word}', expected: ',' or 'end of string'")
            if self.peek() in _SPECIAL and self.peek() != "!":
                raise ValueError(f"found '{self.peek()}', expected: identifier after ','")
        return out

    def requirement(self) -> Requirement:
        absent = self.peek() == "!"
        if absent:
            self.take()
        key = self.take()
        if key in _SPECIAL:
            raise ValueError(f"found '{key}', expected: identifier")
        if reasons := qualified_name(key):
            raise ValueError(str(invalid("<nil>", key, "; ".join(reasons))))
        if absent or self.peek() in ("", ","):
            return Requirement(key, ABSENT if absent else EXISTS)
        word = self.take()
        operator = _OPERATORS.get(word)
        if operator is None:
            raise ValueError(f"found '{word}', expected: {_EXPECTED}")
        values = self.values() if operator in (IN, NOT_IN) else self.exact()
        _check(operator, key, values)
        return Requirement(key, operator, frozenset(values))

    def exact(self) -> list[str]:
        if self.peek() in ("", ","):
            return [""]
        word = self.take()
        if word in _SPECIAL:
            raise ValueError(f"found '{word}', expected: identifier")
        return [word]

    def values(self) -> list[str]:
        if (word := self.take()) != "(":
            raise ValueError(f"found '{word}' expected: '('")
        values, expect_value = [], True
        while (word := self.take()) != ")":
            if word == ",":
                if expect_value:
                    values.append("")
                expect_value = True
            elif word in _SPECIAL:
                raise ValueError(f"found '{word}', expected: ',', ')' or identifier")
            elif not expect_value:
                raise ValueError(f"found '{word}', expected: ',' or ')'")
            else:
                values.append(word)
                expect_value = False
        return values + [""] * expect_value


def _check(operator: str, key: str, values: list[str]) -> None:
    problems: list[FieldError] = []
    for number, value in enumerate(sorted(set(values))):
        if operator in (GREATER, LESS) and not re.fullmatch(r"[+-]?[0-9]+", value):
            text = "for 'Gt', 'Lt' operators, the value must be an integer"
            problems.append(invalid(f"values[{number}]", value, text))
        if reasons := label_value(value):
            problems.append(invalid(f"values[{number}][{key}]", value, "; ".join(reasons)))
    if problems:
        raise ValueError(str(problems[0]) if len(problems) == 1 else f"[{', '.join(map(str, problems))}]")


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """(field, value, whether it must be equal) triples; all must hold."""

    terms: tuple[tuple[str, str, bool], ...] = field(default=())

    def matches(self, fields: Mapping[str, str]) -> bool:
        """A field that `fields` lacks counts as empty."""
        return all((fields.get(name, "") == value) is equal for name, value, equal in self.terms)

    @property
    def empty(self) -> bool:
        return not self.terms

    def value(self, name: str) -> str | None:
        """The one value that `name` must have, if the selector demands one."""
        return next((value for field, value, equal in self.terms if field == name and equal), None)

    def check(self, known: Collection[str]) -> None:
        """Raises BadRequest for a field that the resource cannot be selected by."""
        for name, _, _ in self.terms:
            if name in known:
                continue
            if set(known) <= {"metadata.name", "metadata.namespace"}:
                only = 'only "metadata.name", "metadata.namespace"'
                raise BadRequest(f'"{name}" is not a known field selector: {only}')
            raise BadRequest(f"field label not supported: {name}")

    def __str__(self) -> str:
        return ",".join(f"{name}{'=' if equal else '!='}{_escape(value)}" for name, value, equal in self.terms)


@lru_cache(maxsize=512)
def parse_fields(text: str) -> FieldSelector:
    """The selector that `text` spells. Raises BadRequest."""
    terms = []
    for part in sorted(re.findall(r"(?:\\.|[^,\\]|\\$)+", text)):
        match = re.search(r"!=|==|=", part)
        if match is None:
            raise BadRequest(f"invalid selector: '{text}'; can't understand '{part}'")
        terms.append((part[: match.start()], _unescape(part[match.end() :]), match[0] != "!="))
    return FieldSelector(tuple(terms))


def _unescape(text: str) -> str:
    for found in re.finditer(r"\\(.?)|[,=]", text):
        if found[0][0] != "\\":
            raise BadRequest(f"invalid field selector: unescaped character in value: {ord(found[0])}")
        if found[1] not in (",", "=", "\\"):
            raise BadRequest(f"invalid field selector: invalid escape sequence: {found[0]}")
    return re.sub(r"\\(.)", r"\1", text)


def _escape(text: str) -> str:
    return re.sub(r"([\\,=])", r"\\\1", text)
