"""Pruning: what a schema does not describe goes (API reference, "Field pruning"), and so do nulls that it forbids.

`Pruner.of(schema)` is a function made once for each schema out of closures. It gives new objects and leaves its input
alone, but for unknown parts that are kept: those are shared. `unknown_fields` names what went, and takes its time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tiphys.api.custom.schemas import EMBEDDED, META, PRESERVE, Schema, allows_extra, extra, field, items, properties
from tiphys.api.decode.objects import DecodeError, Pass

Prune = Callable[[Any, Pass], Any]
"""Prunes an object or a list; counts keys and notes unknown ones."""
Coerce = Callable[[dict[str, Any], Pass], None]
"""Puts apiVersion, kind and metadata of an embedded resource in order, in place; raises DecodeError."""

_CONTAINERS = frozenset((dict, list))
DEEPEST = 120
"""Levels of what a schema does not describe: with as many of the schema itself, the encoder can still write it."""
TOO_DEEP = "json: exceeded max depth"


def pruner(schema: Schema | None, coerce: Coerce | None = None) -> Prune:
    """The function for values of this schema; None: everything goes."""
    if schema is None:
        return _unknown_part
    return _function(schema, bool(schema.get(PRESERVE)), coerce)


def keep_all(value: Any, state: Pass) -> Any:
    """A pruner that prunes nothing. Raises DecodeError for what is nested too deeply."""
    state.keys += _keys(value, DEEPEST)
    return value


def _keys(value: Any, room: int) -> int:
    """How many keys there are in a value of at most so many levels."""
    if value.__class__ is dict:
        if not room:
            raise DecodeError(TOO_DEEP)
        return len(value) + sum([_keys(one, room - 1) for one in value.values() if one.__class__ in _CONTAINERS])
    if not room:
        raise DecodeError(TOO_DEEP)
    return sum([_keys(one, room - 1) for one in value if one.__class__ in _CONTAINERS])


def _unknown_part(value: Any, state: Pass) -> Any:
    _keys(value, DEEPEST)
    return _nothing_known(value, state)


def _nothing_known(value: Any, state: Pass) -> Any:
    if value.__class__ is list:
        return [_nothing_known(one, state) if one.__class__ in _CONTAINERS else one for one in value]
    state.keys += len(value)
    state.unknown = state.unknown or bool(value)
    return {}


def _function(schema: Schema, keeps: bool, coerce: Coerce | None) -> Prune:
    objects, lists = _objects(schema, keeps, coerce), _lists(schema, keeps, coerce)

    def prune(value: Any, state: Pass) -> Any:
        return objects(value, state) if value.__class__ is dict else lists(value, state)

    return prune


def _lists(schema: Schema, keeps: bool, coerce: Coerce | None) -> Prune:
    """Items without a schema of a list that keeps unknown fields are left alone; others lose all their fields."""
    item = items(schema)
    if item is None:
        return keep_all if keeps else _unknown_part
    # A list that keeps unknown fields hands that on to its items.
    one = _function(item, keeps or bool(item.get(PRESERVE)), coerce)

    def prune(value: Any, state: Pass) -> Any:
        return [one(item, state) if item.__class__ in _CONTAINERS else item for item in value]

    return prune


def drops_null(schema: Schema | None) -> bool:
    """Whether a null of this schema is dropped: it is not allowed, and there is no default to replace it."""
    return schema is not None and not schema.get("nullable") and schema.get("default") is None


def _objects(schema: Schema, keeps: bool, coerce: Coerce | None) -> Prune:
    named = {name: pruner(part, coerce) for name, part in properties(schema).items()}
    null_named = frozenset(name for name, part in properties(schema).items() if drops_null(part))
    others = pruner(extra(schema), coerce) if allows_extra(schema) else keep_all if keeps else None
    null_others = drops_null(extra(schema)) if allows_extra(schema) else False
    embedded = bool(schema.get(EMBEDDED))
    if embedded:
        named.update(dict.fromkeys(META, keep_all))
    finish = coerce if embedded else None

    def prune(value: Any, state: Pass) -> Any:
        state.keys += len(value)
        out: dict[str, Any] = {}
        for key, item in value.items():
            child = named.get(key)
            if child is None:
                child = others
                if child is None:
                    state.unknown = True
                    continue
                if item is None and null_others:
                    continue
            elif item is None and key in null_named:
                continue
            out[key] = child(item, state) if item.__class__ in _CONTAINERS else item
        if finish is not None:
            finish(out, state)
        return out

    return prune


def unknown_fields(value: Any, schema: Schema | None) -> list[str]:
    """The paths that pruning takes away from a resource, without those inside metadata; sorted."""
    root = {**(schema or {}), EMBEDDED: True}
    return sorted(_unknown(value, root, "", keeps=bool(root.get(PRESERVE))))


def _unknown(value: Any, schema: Schema | None, path: str, *, keeps: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _unknown_field(key, item, schema, path, keeps=keeps)
    elif isinstance(value, list):
        item_schema = items(schema) if schema is not None else None
        if keeps and item_schema is None:
            return
        inner = keeps or bool((item_schema or {}).get(PRESERVE))
        for i, item in enumerate(value):
            yield from _unknown(item, item_schema, f"{path}[{i}]", keeps=inner)


def _unknown_field(key: str, item: Any, schema: Schema | None, path: str, *, keeps: bool) -> Iterator[str]:
    where = f"{path}.{key}" if path else key
    if schema is not None and schema.get(EMBEDDED) and key in META:
        return
    if schema is not None and (key in properties(schema) or allows_extra(schema)):
        part = field(schema, key)
        yield from _unknown(item, part, where, keeps=bool((part or {}).get(PRESERVE)))
    elif not keeps and (key not in META or path):
        yield where
