"""Strategic merge patch: a merge patch that knows which lists are merged by key.

The rules are in the API conventions ("Strategic Merge Patch") and, for ordering, in the design proposal
"preserve order in strategic merge patch". Directives: `$patch` (replace, delete), `$retainKeys`,
`$setElementOrder/<list>`, `$deleteFromPrimitiveList/<list>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.api.decode.values import json_type
from tiphys.api.errors import client_fault
from tiphys.api.patch.gotext import go_text
from tiphys.api.schema import Definitions, Type
from tiphys.base.errors import BadRequest

PATCH, RETAIN = "$patch", "$retainKeys"
ORDER, DELETE_LIST = "$setElementOrder/", "$deleteFromPrimitiveList/"

Map = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Scope:
    """Where in the schema the merge is; `type` is None below maps and values that the schema leaves open."""

    definitions: Definitions
    type: Type | None

    def strategies(self, name: str) -> tuple[str, ...]:
        field = self.type.fields.get(name) if self.type else None
        return field.strategies if field else ()

    def merge_key(self, name: str) -> str:
        field = self.type.fields.get(name) if self.type else None
        return field.merge_key if field else ""

    def inside(self, name: str) -> Scope:
        """The scope of a field's object, or of its list's items."""
        field = self.type.fields.get(name) if self.type else None
        if field is None:
            return Scope(self.definitions, None)
        shape = field.shape.items if field.shape.kind == "array" and field.shape.items else field.shape
        return Scope(self.definitions, self.definitions.type(shape.type) if shape.kind == "object" else None)


def apply(document: Map, patch: Map, type: Type | None, definitions: Definitions) -> dict[str, Any]:
    """The patched document. Raises BadRequest for directives that make no sense (upstream: some are 500)."""
    return _merge_map(document, patch, Scope(definitions, type))


def _merge_map(original: Map, patch: Map, scope: Scope) -> dict[str, Any]:
    if PATCH in patch:
        return _directive(patch)
    out = dict(original)
    if RETAIN in patch:
        out = _retain(out, patch)
    for key in patch:
        if key.startswith(ORDER):
            _merge_ordered(out, patch, key.removeprefix(ORDER), scope)
    for key, value in patch.items():
        if key == RETAIN or key.startswith(ORDER) or ORDER + key in patch:
            continue
        if key.startswith(DELETE_LIST):
            name = key.removeprefix(DELETE_LIST)
            if isinstance(out.get(name), list):
                out[name] = [item for item in out[name] if item not in _list(value)]
        elif value is None:
            out.pop(key, None)
        else:
            _merge_value(out, key, value, scope)
    return out


def _merge_value(out: dict[str, Any], key: str, value: Any, scope: Scope) -> None:
    original = out.get(key)
    strategies = scope.strategies(key)
    if isinstance(value, Mapping) and isinstance(original, Mapping):
        replaced = "replace" in strategies
        out[key] = dict(value) if replaced else _merge_map(original, value, scope.inside(key))
    elif isinstance(value, list) and isinstance(original, list):
        if "merge" in strategies:
            out[key] = _merge_list(original, value, scope.merge_key(key), scope.inside(key))
        else:
            out[key] = value
    elif isinstance(value, Mapping) and PATCH in value:
        out.pop(key, None)
    else:
        out[key] = _plain(value)


def _directive(patch: Map) -> dict[str, Any]:
    kind = patch[PATCH]
    if kind == "replace":
        return {key: value for key, value in patch.items() if key != PATCH}
    if kind == "delete":
        return {}
    raise client_fault(f"unknown patch type: {go_text(kind)} in map: {go_text(patch)}")


def _retain(out: dict[str, Any], patch: Map) -> dict[str, Any]:
    keep = patch[RETAIN]
    if not isinstance(keep, list):
        raise BadRequest("invalid patch format of retainKeys")
    for key, value in patch.items():
        if key != RETAIN and value is not None and not key.startswith((ORDER, DELETE_LIST)) and key not in keep:
            raise BadRequest("invalid patch format of retainKeys")
    return {key: value for key, value in out.items() if key in keep}


def _merge_ordered(out: dict[str, Any], patch: Map, name: str, scope: Scope) -> None:
    """A list whose order the patch gives: merged first, then what the patch names in that order."""
    order, merge_key = _list(patch[ORDER + name]), scope.merge_key(name)
    original, changes = out.get(name), patch.get(name)
    if original is None and changes is None:
        out.pop(name, None) if name in patch else None
        return
    if name in patch and changes is None:
        out.pop(name, None)
        return
    _check_order(_list(changes or []), order, merge_key)
    if changes is None:
        merged = _list(original)
    elif original is None:
        merged = _plain(changes)
    elif "merge" in scope.strategies(name):
        merged = _merge_list(_list(original), _list(changes), merge_key, scope.inside(name))
    else:
        merged = changes
    out[name] = _ordered(merged, order, _list(original or []), merge_key)


def _merge_list(original: list[Any], patch: list[Any], merge_key: str, scope: Scope) -> list[Any]:
    if not original and not patch:
        return original
    if not isinstance((original or patch)[0], Mapping):
        merged = list(dict.fromkeys([*original, *patch]))
        return _ordered(merged, patch, original, "")
    if not merge_key:
        name = scope.type.name if scope.type else ""
        raise BadRequest(f"cannot merge lists without merge key for {name}")
    kept, changes = _special(original, patch, merge_key)
    merged = list(kept)
    places = {_hashable(item.get(merge_key)): place for place, item in reversed(list(enumerate(merged)))}
    for item in changes:
        place = places.get(_hashable(_key_of(item, merge_key)))
        if place is None:
            merged.append(_plain(item))
        else:
            merged[place] = _merge_map(merged[place], item, scope)
    return _ordered(merged, changes, kept, merge_key)


def _special(original: list[Any], patch: list[Any], merge_key: str) -> tuple[list[Any], list[Any]]:
    """Items with `$patch` taken out of the patch and obeyed: (what is left of the original, the other items)."""
    changes, gone, replace = [], [], False
    for item in patch:
        if not isinstance(item, Mapping):
            raise client_fault(f"list element types are not identical: {go_text([original, patch])}")
        kind = item.get(PATCH)
        if PATCH not in item:
            changes.append(item)
        elif kind == "delete":
            gone.append(_key_of(item, merge_key))
        elif kind == "replace":
            replace = True
        elif kind == "merge":
            raise client_fault("merging lists cannot yet be specified in the patch")
        else:
            raise client_fault(f"unknown patch type: {go_text(kind)} in map: {go_text(item)}")
    if replace:
        return changes, []
    return [item for item in original if item.get(merge_key) not in gone], changes


def _ordered(merged: list[Any], order: list[Any], server: list[Any], merge_key: str) -> list[Any]:
    """`merged` with the items that `order` names in its order, and the others where the server had them."""
    wanted = _places(order, merge_key)
    had = _places(server, merge_key)

    def place(item: Any, places: dict[Any, int]) -> int:
        return places.get(_identity(item, merge_key), -1)

    named = sorted((item for item in merged if place(item, wanted) >= 0), key=lambda item: place(item, wanted))
    others = [item for item in merged if place(item, wanted) < 0]
    others.sort(key=lambda item: place(item, had) if place(item, had) >= 0 else len(had))
    out: list[Any] = []
    while named and others:
        here, there = place(others[0], had), place(named[0], had)
        out.append(others.pop(0) if 0 <= here < there else named.pop(0))
    return out + named + others


def _check_order(changes: list[Any], order: list[Any], merge_key: str) -> None:
    """The patch's items must come in the order it gives."""
    items = iter([_identity(item, merge_key) for item in order])
    for change in changes:
        if isinstance(change, Mapping) and PATCH in change:
            continue
        if _identity(change, merge_key) not in items:
            found = f"The order in patch list:\n{go_text(changes)}\n"
            raise client_fault(f"{found} doesn't match $setElementOrder list:\n{go_text(order)}\n")


def _places(items: list[Any], merge_key: str) -> dict[Any, int]:
    return {_identity(item, merge_key): place for place, item in reversed(list(enumerate(items)))}


def _identity(item: Any, merge_key: str) -> Any:
    return _hashable(item.get(merge_key) if isinstance(item, Mapping) else item)


def _hashable(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, type(None))) else repr(value)


def _key_of(item: Map, merge_key: str) -> Any:
    if merge_key not in item:
        raise client_fault(f"map: {go_text(item)} does not contain declared merge key: {merge_key}")
    return item[merge_key]


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        found = "map" if isinstance(value, Mapping) else "nil" if value is None else json_type(value)
        raise BadRequest(f"expected a []interface {{}}, but received a {found}")
    return value


def _plain(value: Any) -> Any:
    """A value that is new to the document: without nulls and without what directives speak of."""
    if isinstance(value, Mapping):
        return {
            key: _plain(item)
            for key, item in value.items()
            if item is not None and not (isinstance(item, Mapping) and PATCH in item)
        }
    if isinstance(value, list):
        return [_plain(item) for item in value if not (isinstance(item, Mapping) and PATCH in item)]
    return value
