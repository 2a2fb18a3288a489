"""Values against a schema, thoroughly: every problem, in kube-openapi's words, with ratcheting.

`explain` is called when the quick check (`checks`) says that something is wrong, so it may take its time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.custom import scalars
from tiphys.api.custom.correlation import Correlated
from tiphys.api.custom.results import Problem, Result
from tiphys.api.custom.schemas import Schema, extra, items, properties
from tiphys.api.kinds.base import ErrorType, FieldError


def explain(schema: Schema, value: Any, base: str = "", correlated: Correlated | None = None) -> list[FieldError]:
    """What is wrong with a value. `base` is its field; `correlated` has its old value, when it is an update."""
    result = _ratcheted(schema, value, "", correlated)
    return [problem.field_error(base) for problem in result.problems]


def _ratcheted(schema: Schema, value: Any, path: str, correlated: Correlated | None) -> Result:
    """Problems of a value that did not change are none."""
    result = _value(schema, value, path, correlated)
    if not result.valid and correlated is not None and correlated.same():
        return Result(score=result.score)
    return result


def _value(schema: Schema, value: Any, path: str, correlated: Correlated | None) -> Result:
    result = Result()
    allowed, form = scalars.types(schema), scalars.format_of(schema)
    if value is None or allowed or form:
        problem = scalars.type_problem(value, allowed, form, path, nullable=bool(schema.get("nullable")))
        _count(result, Result(problem) if problem else Result(score=1), value)
    if value is not None:
        _count(result, _junctors(schema, value, path, correlated), value)
        _inside(result, schema, value, path, form, correlated)
    enum = schema.get("enum")
    problem = scalars.enum_problem(value, enum, path) if enum else None
    _count(result, Result(problem) if problem else Result(), value)
    if isinstance(value, Mapping):
        _count(result, _object(schema, value, path, correlated), value)
    result.score += value is not None
    return result


def _count(result: Result, part: Result, value: Any) -> None:
    """Merge the result of a rule that applied; null is not scored for it."""
    result.merge(part)
    result.score += value is not None


def _inside(result: Result, schema: Schema, value: Any, path: str, form: str, correlated: Correlated | None) -> None:
    """Strings, numbers and lists."""
    if value.__class__ is str:
        problem = scalars.string_problem(value, schema, path)
        _count(result, Result(problem) if problem else Result(), value)
        if form:
            problem = scalars.format_problem(value, form, path)
            _count(result, Result(problem) if problem else Result(), value)
    elif value.__class__ in (int, float):
        part = Result(score=1)
        for problem in scalars.number_problems(value, schema, path):
            part.add(problem)
        _count(result, part, value)
    elif value.__class__ is list:
        _count(result, _list(schema, value, path, correlated), value)


def _list(schema: Schema, value: list[Any], path: str, correlated: Correlated | None) -> Result:
    result, item = Result(score=1), items(schema)
    if item is not None:
        for at, one in enumerate(value):
            child = correlated.index(at) if correlated is not None else None
            result.merge(_ratcheted(item, one, f"{path}[{at}]", child))
    size, least, most = len(value), schema.get("minItems"), schema.get("maxItems")
    if least is not None and size < least:
        result.add(Problem(ErrorType.INVALID, path, f"{path} in body should have at least {least} items", size))
    if most is not None and size > most:
        text = f"{path} in body should have at most {most} items"
        result.add(Problem(ErrorType.TOO_MANY, path, text, size, limit=most))
    return result


def _object(schema: Schema, value: Mapping[str, Any], path: str, correlated: Correlated | None) -> Result:
    result = Result()
    size, least, most = len(value), schema.get("minProperties"), schema.get("maxProperties")
    if least is not None and size < least:
        result.add(Problem(ErrorType.INVALID, path, f"{path} in body should have at least {least} properties", size))
    if most is not None and size > most:
        text = f"{path} in body should have at most {most} properties"
        result.add(Problem(ErrorType.TOO_MANY, path, text, size, limit=most))
    named, other = properties(schema), extra(schema)
    for key in value:
        if key in named:
            continue
        if schema.get("additionalProperties") is False:
            result.add(Problem(ErrorType.INVALID, path, f"{path}.{key} in body is a forbidden property", key))
        elif other is not None:
            result.merge(_field(other, key, value, f"{path}.{key}", path, correlated))
    for key in sorted(named):
        if key in value:
            result.merge(_field(named[key], key, value, f"{path}.{key}" if path else key, path, correlated))
    for key in schema.get("required") or ():
        if key not in value:
            where = f"{path}.{key}"
            result.add(Problem(ErrorType.REQUIRED, where, f"{where} in body is required"))
    return result


def _field(
    schema: Schema, key: str, value: Mapping[str, Any], where: str, path: str, correlated: Correlated | None
) -> Result:
    hidden = not path and key in ("kind", "apiVersion")
    child = correlated.key(key) if correlated is not None and not hidden else None
    return _ratcheted(schema, value[key], where, child)


def _junctors(schema: Schema, value: Any, path: str, correlated: Correlated | None) -> Result:
    result = Result(score=1)
    if parts := schema.get("anyOf"):
        _any_of(result, parts, value, path, correlated)
    if parts := schema.get("oneOf"):
        _one_of(result, parts, value, path, correlated)
    if parts := schema.get("allOf"):
        _all_of(result, parts, value, path, correlated)
    part = schema.get("not")
    if part is not None and _value(part, value, path, correlated).valid:
        result.add(_general(path, f'"{path}" must not validate the schema (not)'))
    return result


def _general(path: str, text: str) -> Problem:
    return Problem(ErrorType.INVALID, path, text, "", located=False)


def _any_of(result: Result, parts: list[Schema], value: Any, path: str, correlated: Correlated | None) -> None:
    best: Result | None = None
    for part in parts:
        found = _value(part, value, path, correlated)
        if found.valid:
            result.merge(found)
            return
        if best is None or found.score > best.score:
            best = found
    result.add(_general(path, f'"{path}" must validate at least one schema (anyOf)'))
    if best is not None:
        result.merge(best)


def _one_of(result: Result, parts: list[Schema], value: Any, path: str, correlated: Correlated | None) -> None:
    best: Result | None = None
    valid: list[Result] = []
    for part in parts:
        found = _value(part, value, path, correlated)
        if found.valid:
            valid.append(found)
            best = None
        elif not valid and (best is None or found.score > best.score):
            best = found
    if len(valid) == 1:
        result.merge(valid[0])
        return
    detail = f"Found {len(valid)} valid alternatives" if valid else "Found none valid"
    result.add(_general(path, f'"{path}" must validate one and only one schema (oneOf). {detail}'))
    if best is not None:
        result.merge(best)


def _all_of(result: Result, parts: list[Schema], value: Any, path: str, correlated: Correlated | None) -> None:
    found = [_value(part, value, path, correlated) for part in parts]
    for one in found:
        result.merge(one)
    valid = sum(one.valid for one in found)
    if valid != len(parts):
        detail = "" if valid else ". None validated"
        result.add(_general(path, f'"{path}" must validate all the schemas (allOf){detail}'))
