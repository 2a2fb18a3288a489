"""The quick answer to whether a value obeys a schema: one function a schema, made of closures on first use.

It says yes just when `values.explain` finds nothing. Schemas that allow
everything have no function, so unconstrained parts of an object cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tiphys.api.custom import patterns, scalars
from tiphys.api.custom.formats import check_of
from tiphys.api.custom.schemas import Schema, extra, items, properties

Check = Callable[[Any], bool]

_CLASSES = {"string": str, "boolean": bool, "integer": int, "number": float, "array": list, "object": dict}


def checker(schema: Schema | None) -> Check | None:
    """The function of a schema; None: everything is well."""
    if schema is None:
        return None
    form = scalars.format_of(schema)
    rules: dict[type, Check | None] = {}
    for cls in (*_CLASSES.values(), type(None)):
        rules[cls] = _rule(schema, cls, form)
    shared = _shared(schema)
    if shared is None and all(rule is _fine for rule in rules.values()):
        return None
    return _dispatch(rules, shared)


def _fine(_: Any) -> bool:
    return True


def _dispatch(rules: dict[type, Check | None], shared: Check | None) -> Check:
    only = [cls for cls, rule in rules.items() if rule is not None]
    if shared is None and len(only) == 1:
        rule = rules[only[0]]
        return _OF_CLASS[only[0]] if rule is _fine else _single(only[0], rule)

    def check(value: Any) -> bool:
        rule = rules.get(value.__class__)
        if rule is None or (rule is not _fine and not rule(value)):
            return False
        return shared is None or value is None or shared(value)

    return check


def _of_class(wanted: type) -> Check:
    return lambda value: value.__class__ is wanted


_OF_CLASS = {cls: _of_class(cls) for cls in (*_CLASSES.values(), type(None))}
_CLASS_OF = {check: cls for cls, check in _OF_CLASS.items()}
"""The checks that look at nothing but the class: where it is fast, their callers do that themselves."""


def _single(wanted: type, rule: Check | None) -> Check:
    """One type is allowed: the commonest case."""
    assert rule is not None, "the rule of the one class that is allowed"
    return lambda value: value.__class__ is wanted and rule(value)


def _rule(schema: Schema, cls: type, form: str) -> Check | None:
    """The rule for values of one class; None: they are not allowed."""
    sample = None if cls is type(None) else cls()
    allowed = scalars.types(schema)
    if scalars.type_problem(sample, allowed, form, "", nullable=bool(schema.get("nullable"))) is not None:
        return None
    found = {str: _strings, int: _numbers, float: _numbers, list: _lists, dict: _objects}.get(cls, _plain)(schema, form)
    if cls is float and allowed and "number" not in allowed:
        found = _both(scalars.whole, found)
    if enum := schema.get("enum"):
        found = _both(partial(_in_enum, enum), found)
    return found


def _plain(schema: Schema, form: str) -> Check:
    return _fine


def _in_enum(enum: Sequence[Any], value: Any) -> bool:
    return scalars.enum_problem(value, list(enum), "") is None


def _both(first: Check, second: Check) -> Check:
    return first if second is _fine else lambda value: first(value) and second(value)


def _strings(schema: Schema, form: str) -> Check:
    longest, shortest, pattern = schema.get("maxLength"), schema.get("minLength"), schema.get("pattern")
    rules: list[Check] = []
    if longest is not None:
        rules.append(lambda value: len(value) <= longest)
    if shortest is not None:
        rules.append(lambda value: len(value) >= shortest)
    if pattern:
        try:
            rules.append(patterns.compiled(pattern))
        except patterns.PatternError:
            return lambda value: False
    if form and (check := check_of(form)) is not None:
        rules.append(check)
    return _all(rules)


def _all(rules: Sequence[Check]) -> Check:
    if not rules:
        return _fine
    if len(rules) == 1:
        return rules[0]
    return lambda value: all(rule(value) for rule in rules)


def _numbers(schema: Schema, form: str) -> Check:
    """Integers are compared with bounds that are known beforehand; all else goes the long way."""
    limits = [schema.get(name) for name in ("multipleOf", "maximum", "minimum")]
    kind = scalars.types(schema)
    if all(limit is None for limit in limits) and not form and kind != ("integer",):
        return _fine

    def slow(value: Any) -> bool:
        return next(scalars.number_problems(value, schema, ""), None) is None

    low, high = _bounds(schema)
    if limits[0] is not None or any(next(scalars.number_problems(edge, schema, ""), None) for edge in (low, high)):
        return slow
    return lambda value: low <= value <= high if value.__class__ is int else slow(value)


def _bounds(schema: Schema) -> tuple[int, int]:
    """The least and the greatest integer that may be well."""
    size = 2**31 if schema.get("format") == "int32" else 2**63
    low, high = -size, size - 1
    if (limit := schema.get("minimum")) is not None:
        low = max(low, int(limit) + bool(schema.get("exclusiveMinimum")))
    if (limit := schema.get("maximum")) is not None:
        high = min(high, int(limit) - bool(schema.get("exclusiveMaximum")))
    return low, high


def _lists(schema: Schema, form: str) -> Check:
    least, most, item = schema.get("minItems"), schema.get("maxItems"), checker(items(schema))
    if least is None and most is None and item is None:
        return _fine

    def check(value: list[Any]) -> bool:
        size = len(value)
        if (least is not None and size < least) or (most is not None and size > most):
            return False
        return item is None or all(map(item, value))

    return check


def _objects(schema: Schema, form: str) -> Check:
    least, most = schema.get("minProperties"), schema.get("maxProperties")
    required = frozenset(schema.get("required") or ())
    named = {name: checker(part) for name, part in properties(schema).items()}
    exact = {name: _CLASS_OF[check] for name, check in named.items() if check in _CLASS_OF}
    closed, other = schema.get("additionalProperties") is False, checker(extra(schema))
    sized = least is not None or most is not None
    if not (sized or required or closed or other or any(named.values())):
        return _fine

    def check(value: dict[str, Any]) -> bool:
        size = len(value)
        if sized and ((least is not None and size < least) or (most is not None and size > most)):
            return False
        if not required <= value.keys():
            return False
        for key, item in value.items():
            if exact.get(key) is item.__class__:
                continue
            rule = named.get(key, other)
            if (rule is not None and not rule(item)) or (closed and key not in named):
                return False
        return True

    return check


def _shared(schema: Schema) -> Check | None:
    """anyOf, allOf, oneOf and not; they do not look at null."""
    rules: list[Check] = []
    if parts := schema.get("anyOf"):
        rules.append(partial(_some, [checker(part) for part in parts]))
    if parts := schema.get("oneOf"):
        rules.append(partial(_one, [checker(part) for part in parts]))
    rules += [check for part in schema.get("allOf") or () if (check := checker(part)) is not None]
    if (part := schema.get("not")) is not None:
        rules.append(partial(_no, checker(part)))
    return _all(rules) if rules else None


def _some(checks: Sequence[Check | None], value: Any) -> bool:
    return any(check is None or check(value) for check in checks)


def _one(checks: Sequence[Check | None], value: Any) -> bool:
    return sum(check is None or check(value) for check in checks) == 1


def _no(check: Check | None, value: Any) -> bool:
    return check is not None and not check(value)
