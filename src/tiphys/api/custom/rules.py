"""x-kubernetes-validations: rules in CEL about values and their changes (API reference, "Validation rules").

`of(schema)` compiles nothing yet: the rules of a part are compiled when the first value of it is looked at. All rules
that look at one object share a budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tiphys.api.custom.correlation import Correlated, key_of, map_list
from tiphys.api.custom.gotext import shown
from tiphys.api.custom.results import MISSING, invalid
from tiphys.api.custom.schemas import EMBEDDED, LIST_TYPE, RULES, Schema, extra, items, properties, some
from tiphys.api.kinds.base import ErrorType, FieldError

if TYPE_CHECKING:
    from tiphys.api.cel import Budget
    from tiphys.api.custom.expressions import Expression

_SPENT = "validation failed due to running out of cost budget, no further validation rules will be run"
_MESSAGE_SPENT = (
    "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run"
)
_NO_TYPE = "rule compiler initialization error: failed to convert to declType for CEL validation rules"
_LONGEST_MESSAGE = 5 * 1024


class _Stop(Exception):
    """No further rules are looked at."""


@dataclass(slots=True)
class Verdict:
    """What the rules say; warnings are about parts of an update that did not change."""

    errors: list[FieldError] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Ratchet:
    """Old values beside new ones: of this value, and of the nearest one around it that has both."""

    current: Correlated | None = None
    nearest: Correlated | None = None

    def key(self, name: str) -> _Ratchet:
        if self.current is None:
            return self
        if self.nearest is None and name in ("apiVersion", "kind"):
            return _Ratchet()
        return _Ratchet(self.current.key(name), self.current)

    def index(self, at: int) -> _Ratchet:
        return self if self.current is None else _Ratchet(self.current.index(at), self.current)

    def same(self) -> bool:
        found = self.current or self.nearest
        return found is not None and found.same()


class Rules:
    """The rules of a schema and of what is below it."""

    def __init__(self, schema: Schema, *, root: bool) -> None:
        self._schema, self._root = schema, root
        self._shown: str = schema.get("type") or ""
        self._properties = {
            name: rules
            for name, part in properties(schema).items()
            if (rules := of(part, root=bool(part.get(EMBEDDED))))
        }
        self._items, self._others = _below(items(schema)), _below(extra(schema))

    @cached_property
    def _own(self) -> list[Expression] | None:
        """None: the values are of no type that expressions could see."""
        from tiphys.api.cel import types_of
        from tiphys.api.custom.expressions import compile_rule

        found = types_of.schema(self._schema, root=self._root)
        rules = self._schema.get(RULES) or ()
        return None if found is None else [compile_rule(rule, found, self._schema) for rule in rules]

    def check(self, new: Any, old: Any, correlated: Correlated | None, path: str = "") -> Verdict:
        """What is wrong with `new`, or with the change from `old`."""
        from tiphys.api.cel import Budget

        verdict = Verdict()
        with suppress(_Stop):
            self._value(verdict, path, new, old, _Ratchet(correlated), Budget())
        return verdict

    def _value(self, verdict: Verdict, path: str, new: Any, old: Any, ratchet: _Ratchet, budget: Budget) -> None:
        if new is None:
            return
        if self._schema.get(RULES):
            _Run(self._shown, verdict, path, new, old, ratchet, budget).all(self._own)
        if isinstance(new, list):
            self._list(verdict, path, new, old, ratchet, budget)
        elif isinstance(new, Mapping):
            self._map(verdict, path, new, old if isinstance(old, Mapping) else {}, ratchet, budget)

    def _list(self, verdict: Verdict, path: str, new: Any, old: Any, ratchet: _Ratchet, budget: Budget) -> None:
        if self._items is None:
            return
        before: dict[Any, Any] = {}
        if self._schema.get(LIST_TYPE) == "map" and isinstance(old, list):
            before = map_list(self._schema, old)
        for at, item in enumerate(new):
            key = key_of(self._schema, item) if before else None
            was = None if key is None else before.get(key)
            self._items._value(verdict, f"{path}[{at}]", item, was, ratchet.index(at), budget)

    def _map(
        self,
        verdict: Verdict,
        path: str,
        new: Mapping[str, Any],
        old: Mapping[str, Any],
        ratchet: _Ratchet,
        budget: Budget,
    ) -> None:
        if self._others is not None:
            for key, item in new.items():
                self._others._value(verdict, f"{path}[{key}]", item, old.get(key), ratchet.key(key), budget)
        for key, rules in self._properties.items():
            if key in new:
                where = f"{path}.{key}" if path else key
                rules._value(verdict, where, new[key], old.get(key), ratchet.key(key), budget)


def _below(schema: Schema | None) -> Rules | None:
    return None if schema is None else of(schema, root=bool(schema.get(EMBEDDED)))


def of(schema: Schema | None, *, root: bool = True) -> Rules | None:
    """The rules of a schema; None if there are none. `root`: its objects are resources."""
    return Rules(schema, root=root) if schema is not None and some(schema, RULES) else None


@dataclass(frozen=True, slots=True)
class _Run:
    """The rules of one value."""

    shown: str
    """The type in the schema, which stands for the value in some errors."""
    verdict: Verdict
    path: str
    new: Any
    old: Any
    ratchet: _Ratchet
    budget: Budget

    def all(self, expressions: list[Expression] | None) -> None:
        if expressions is None:
            self._failed(_NO_TYPE)
            return
        for expression in expressions:
            self.one(expression)

    def one(self, expression: Expression) -> None:
        if expression.error:
            self._failed(f"rule compile error: {expression.error}")
        if expression.program is None:
            return
        if expression.uses_old and self.old is None and not expression.optional_old:
            return
        if self._holds(expression) is False:
            self._broken(expression)

    def _variables(self, *, optional: bool) -> dict[str, Any]:
        from tiphys.api.cel import NONE, Optional

        if optional:
            return {"self": self.new, "oldSelf": NONE if self.old is None else Optional(self.old)}
        return {"self": self.new} if self.old is None else {"self": self.new, "oldSelf": self.old}

    def _failed(self, detail: str) -> None:
        self.verdict.errors.append(invalid(self.path, self.shown, detail))

    def _holds(self, expression: Expression) -> bool | None:
        """None: the rule could not be evaluated. Raises _Stop."""
        from tiphys.api.cel import CostExceeded, EvaluationError

        assert expression.program is not None, "looked at before"
        try:
            value = expression.program.run(self._variables(optional=expression.optional_old), self.budget)
        except CostExceeded as error:
            detail = f"'{error}': no further validation rules will be run due to call cost exceeds limit for rule: "
            self._failed(_SPENT if error.shared else detail + expression.name)
            raise _Stop from error
        except EvaluationError as error:
            if str(error).startswith("no such overload"):
                detail = "call arguments did not match a supported operator, function or macro signature for rule: "
                self._failed(f"'{error}': {detail}{expression.name}")
            else:
                self._failed(f"{error} evaluating rule: {expression.name}")
            return None
        return value is True

    def _broken(self, expression: Expression) -> None:
        rule, where = expression.rule, self.path
        if expression.field:
            where = f"{where}.{expression.field}" if where else expression.field
        detail = self._message(expression, where)
        if detail is None:
            message = (rule.get("message") or "").strip()
            detail = message if rule.get("message") else f"failed rule: {expression.name}"
        value = MISSING if self.shown in ("object", "array") else self.new
        self._add(expression, _error(where, value, detail, rule.get("reason")))

    def _add(self, expression: Expression, error: FieldError) -> None:
        if not expression.uses_old and self.ratchet.same():
            self.verdict.warnings.append(str(error))
        else:
            self.verdict.errors.append(error)

    def _message(self, expression: Expression, where: str) -> str | None:
        """What messageExpression says; None if it says nothing that can be shown. Raises _Stop."""
        from tiphys.api.cel import CostExceeded, EvaluationError

        if expression.message is None:
            return None
        try:
            text = expression.message.run(self._variables(optional=expression.optional_old), self.budget)
        except CostExceeded as error:
            source = expression.rule.get("messageExpression")
            limit = "no further validation rules will be run due to call cost exceeds limit for messageExpression: "
            detail = _MESSAGE_SPENT if error.shared else limit + shown(source)
            self._add(expression, invalid(where, self.shown, detail))
            raise _Stop from error
        except EvaluationError:
            return None
        text = text.strip() if isinstance(text, str) else ""
        return text if text and len(text.encode()) <= _LONGEST_MESSAGE and "\n" not in text else None


def _error(path: str, value: Any, detail: str, reason: str | None) -> FieldError:
    where = path or "<nil>"
    if reason == "FieldValueForbidden":
        return FieldError(ErrorType.FORBIDDEN, where, f"Forbidden: {detail}")
    if reason == "FieldValueRequired":
        return FieldError(ErrorType.REQUIRED, where, f"Required value: {detail}" if detail else "Required value")
    if reason == "FieldValueDuplicate":
        head = "Duplicate value" if value is MISSING else f"Duplicate value: {shown(value)}"
        return FieldError(ErrorType.DUPLICATE, where, head)
    return invalid(path, value, detail)
