"""Rules in the schemas of a CustomResourceDefinition: they must compile and not cost too much.

What a rule can cost is estimated from the largest value that the schema allows, times how many such values there can
be. Rules that a schema has already may go on costing what they do as long as the schema stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tiphys.api.cel import types_of
from tiphys.api.custom.expressions import NEW, STORED, Expression, compile_rule
from tiphys.api.custom.schemas import LIST_TYPE, MAP_TYPE, RULES, Schema, extra, items, parts, properties
from tiphys.api.kinds.base import FieldError
from tiphys.api.validation.errors import Errors

LIMIT, TOTAL_LIMIT = 10_000_000, 100_000_000
"""The most that one rule, and all rules of a schema, may be estimated to cost."""
_MOST = 2**64 - 1
_ADVICE = (
    "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are "
    "declared)"
)
_NO_TYPE = (
    "internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert "
    "structural schema to CEL declarations"
)


@dataclass(slots=True)
class Costs:
    """What all rules of a schema cost, and the dearest of them."""

    total: int = 0
    dearest: list[tuple[int, str]] = field(default_factory=list)

    def add(self, path: str, cost: int) -> None:
        self.total = min(self.total + cost, _MOST)
        if cost >= TOTAL_LIMIT // 100:
            self.dearest = sorted([*self.dearest, (cost, path)], key=lambda one: -one[0])[:4]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in a schema: how many values there can be (None: no limit), and what is above."""

    count: int | None = 1
    uncorrelated: str = ""
    """The part above whose old and new values cannot be told apart; "" if there is none."""
    root: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """How the rules of a schema are looked at."""

    known: Mapping[str, frozenset[str]] = field(
        default_factory=lambda: {"rule": frozenset(), "messageExpression": frozenset()}
    )
    """Expressions that are stored already, by the field that has them."""
    any_cost: bool = False


def known_expressions(schemas: list[Schema]) -> dict[str, frozenset[str]]:
    """The expressions of stored schemas."""
    found: dict[str, set[str]] = {"rule": set(), "messageExpression": set()}
    for schema in schemas:
        _collect(schema, found)
    return {name: frozenset(texts) for name, texts in found.items()}


def _collect(schema: Schema, found: dict[str, set[str]]) -> None:
    for rule in schema.get(RULES) or ():
        for name, texts in found.items():
            if rule.get(name):
                texts.add(rule[name])
    for part in parts(schema):
        _collect(part, found)


def check(errors: Errors, path: str, schema: Schema, how: Check, broken: list[FieldError]) -> Costs:
    """Add what is wrong with the rules of a schema; `broken` are its other errors: rules near those are left alone."""
    costs = Costs()
    places = {error.field for error in broken}
    _schema(errors, path, schema, _Place(root=True), how, costs, places)
    return costs


def check_total(errors: Errors, path: str, costs: Costs) -> None:
    """Add that all rules together cost too much."""
    if costs.total > TOTAL_LIMIT:
        detail = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
        for _, where in costs.dearest:
            errors.forbidden(where, detail)
        what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
        errors.forbidden(path, _too_much(what, costs.total, TOTAL_LIMIT))


def _schema(
    errors: Errors, path: str, schema: Schema, place: _Place, how: Check, costs: Costs, broken: set[str]
) -> None:
    below = place.count if (most := _most(schema)) is not None and place.count is not None else None
    inner = _Place(None if below is None or most is None else min(below * most, _MOST), place.uncorrelated)
    if (part := extra(schema)) is not None:
        _schema(errors, f"{path}.additionalProperties", part, inner, how, costs, broken)
    for name, part in sorted(properties(schema).items()):
        correlated = schema.get(MAP_TYPE) in (None, "granular", "atomic")
        there = inner if correlated else replace(inner, uncorrelated=inner.uncorrelated or path)
        _schema(errors, f"{path}.properties[{name}]", part, there, how, costs, broken)
    if (part := items(schema)) is not None:
        correlated = schema.get(LIST_TYPE) == "map"
        there = inner if correlated else replace(inner, uncorrelated=inner.uncorrelated or path)
        _schema(errors, f"{path}.items", part, there, how, costs, broken)
    if schema.get(RULES) and not any(where == path or where.startswith((f"{path}.", f"{path}[")) for where in broken):
        _rules(errors, f"{path}.{RULES}", schema, place, how, costs)


def _most(schema: Schema) -> int | None:
    """How many values there can be right below one of this schema; None: as many as there is room for."""
    kind = schema.get("type")
    if kind == "array":
        most = schema.get("maxItems")
    elif kind == "object" and schema.get("additionalProperties") is not None:
        most = schema.get("maxProperties")
    else:
        return 1
    return None if most is None else max(most, 0)


def _rules(errors: Errors, path: str, schema: Schema, place: _Place, how: Check, costs: Costs) -> None:
    found = types_of.schema(schema, root=place.root)
    if found is None:
        errors.internal(path, _NO_TYPE)
        return
    count = place.count
    if count is None:
        count = types_of.MAX_REQUEST // (types_of.smallest_size(schema, root=place.root) + 1)
    for i, rule in enumerate(schema[RULES]):
        versions = [STORED if rule.get(name) in how.known[name] else NEW for name in ("rule", "messageExpression")]
        expression = compile_rule(rule, found, schema, *versions)
        _one(errors, f"{path}[{i}]", expression, count, place, how, costs)


def _one(
    errors: Errors, path: str, expression: Expression, count: int, place: _Place, how: Check, costs: Costs
) -> None:
    rule = expression.rule
    if expression.program is not None:
        cost = min(expression.program.estimated_cost().maximum * count, _MOST)
        _cost(errors, f"{path}.rule", "estimated rule cost", cost, how, costs)
    if expression.error:
        errors.invalid(f"{path}.rule", shown_rule(rule), expression.error)
    if expression.message_error:
        errors.invalid(f"{path}.messageExpression", shown_rule(rule), expression.message_error)
    elif expression.message is not None:
        cost = expression.message.estimated_cost().maximum
        _cost(errors, f"{path}.messageExpression", "estimated messageExpression cost", cost, how, costs)
    if expression.uses_old and place.uncorrelated:
        detail = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {place.uncorrelated}"
        errors.invalid(f"{path}.rule", rule.get("rule", ""), detail)
    elif not expression.uses_old and rule.get("optionalOldSelf") is not None:
        detail = "may not be set if oldSelf is not used in rule"
        errors.invalid(f"{path}.optionalOldSelf", rule["optionalOldSelf"], detail)


def _cost(errors: Errors, path: str, what: str, cost: int, how: Check, costs: Costs) -> None:
    if cost > LIMIT and not how.any_cost:
        errors.forbidden(path, _too_much(what, cost, LIMIT))
    costs.add(path, cost)


def _too_much(what: str, cost: int, limit: int) -> str:
    factor = cost / limit
    text = "more than 100x" if factor > 100 else f"{factor:.6f}x" if factor < 1.5 else f"{factor:.1f}x"
    return f"{what} exceeds budget by factor of {text} {_ADVICE}"


def shown_rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    """A rule as answers show it: by the names of Go's fields."""
    return {
        "Rule": rule.get("rule", ""),
        "Message": rule.get("message", ""),
        "MessageExpression": rule.get("messageExpression", ""),
        "Reason": rule.get("reason"),
        "FieldPath": rule.get("fieldPath", ""),
        "OptionalOldSelf": rule.get("optionalOldSelf"),
    }
