"""Defaults in the schemas of a CustomResourceDefinition: each must be a value that its own schema accepts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.custom import embedded, values
from tiphys.api.custom.pruning import pruner
from tiphys.api.custom.results import invalid
from tiphys.api.custom.rules import of as rules_of
from tiphys.api.custom.schemas import EMBEDDED, META, Schema, has_default, items, properties
from tiphys.api.decode.objects import DecodeError, Pass
from tiphys.api.validation.errors import Errors

Steps = tuple[str | None, ...]
"""From a resource down to a value: names of fields, None for an item of a list."""
_CONTAINERS = (dict, list)


def check(errors: Errors, path: str, schema: Schema, *, pruned: bool) -> None:
    """Add what is wrong with the defaults of a resource's schema. `pruned`: they may not have unknown fields."""
    if has_default(schema):
        _schema(errors, path, {**schema, EMBEDDED: True}, None, pruned=pruned)


def has_unpruned(schema: Schema | None) -> bool:
    """Whether a default has fields that its schema does not describe."""
    if not has_default(schema) or schema is None:
        return False
    value = schema.get("default")
    if value.__class__ in _CONTAINERS and _pruned(schema, value) != value:
        return True
    return any(map(has_unpruned, [*properties(schema).values(), items(schema)]))


def _pruned(schema: Schema, value: Any) -> Any:
    return pruner(schema)(value, Pass()) if value.__class__ in _CONTAINERS else value


def _schema(errors: Errors, path: str, schema: Schema, meta: Steps | None, *, pruned: bool) -> None:
    """`meta`: the steps to this schema when it is one of a resource's apiVersion, kind or metadata."""
    if schema.get(EMBEDDED):
        meta = None
    if schema.get("default") is not None:
        _default(errors, f"{path}.default", schema, meta, pruned=pruned)
    if (part := items(schema)) is not None:
        _schema(errors, f"{path}.items", part, None if meta is None else (*meta, None), pruned=pruned)
    for name, part in sorted(properties(schema).items()):
        inner = (*meta, name) if meta is not None else None
        if schema.get(EMBEDDED) and name in META:
            inner = (name,)
        _schema(errors, f"{path}.properties[{name}]", part, inner, pruned=pruned)


def _default(errors: Errors, path: str, schema: Schema, meta: Steps | None, *, pruned: bool) -> None:
    value = schema["default"]
    if meta is not None:
        found = _in_metadata(value, meta)
        if found:
            errors.append(invalid(path, value, f"must result in valid metadata: {found}"))
            return
    else:
        if pruned and _pruned(schema, value) != value:
            errors.append(invalid(path, value, "must not have unknown fields"))
        inner = _inner_problems(path, schema, value)
        if inner:
            errors.extend(inner)
            return
    found_values = values.explain(schema, value, path)
    errors.extend(found_values)
    rules = rules_of(schema, root=bool(schema.get(EMBEDDED)))
    if not found_values and rules is not None:
        errors.extend(rules.check(value, value, None, path).errors or rules.check(value, None, None, path).errors)


def _inner_problems(path: str, schema: Schema, value: Any) -> Errors:
    """What is wrong with resources in a default."""
    errors = Errors()
    if value.__class__ not in _CONTAINERS:
        return errors
    try:
        pruner(schema, embedded.coerce)(value, Pass())
    except DecodeError as error:
        errors.append(invalid(path, value, str(error)))
        return errors
    errors.extend(embedded.problems(schema, value, path))
    return errors


def _in_metadata(value: Any, steps: Steps) -> str:
    """What keeps a value from being where it stands in a resource; "" if nothing does."""
    for step in reversed(steps):
        value = [value] if step is None else {step: value}
    assert isinstance(value, Mapping), "steps begin with a field of the resource"
    obj = {"apiVersion": "validation/v1", "kind": "Validation", **value}
    try:
        embedded.coerce(obj, Pass())
    except DecodeError as error:
        return str(error)
    found = list(dict.fromkeys(map(str, embedded.problems({"type": "object", EMBEDDED: True}, obj))))
    return found[0] if len(found) == 1 else f"[{', '.join(found)}]" if found else ""
