"""An applied object merged into the live one, and fields taken out of an object.

Both give new values that share what they do not change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.apply.compare import element_of
from tiphys.api.apply.fields import MEMBER, SELF, Fields, below, is_member
from tiphys.api.apply.nodes import How, Node

_ITEMS = (How.SET, How.LIST)
_MISSING: Any = object()


def merge(node: Node, live: Any, applied: Any) -> Any:
    """`live` with what `applied` says; nothing is taken away. Raises NoKey for items without keys."""
    how = node.how
    if how is How.LEAF or not (live or applied):
        return applied
    if how in _ITEMS:
        stored = live if live.__class__ is list else []  # it may be older than the schema
        return _merge_items(node, stored, applied or [])
    if live and live.__class__ is not dict:
        return applied
    if how is How.OPEN and not (live.__class__ is dict and applied.__class__ is dict):
        return applied
    return merge_objects(node, live or {}, applied or {})


def merge_objects(node: Node, live: Mapping[str, Any], applied: Mapping[str, Any]) -> dict[str, Any]:
    """Structs and maps."""
    out = dict(live)
    fields, other = node.fields, node.element or node.nodes.open
    for key, value in applied.items():
        was = live.get(key, _MISSING)
        _, child = fields.get(key) or ("", other)
        out[key] = value if was is _MISSING else merge(child, was, value)
    return out


def _merge_items(node: Node, live: list[Any], applied: list[Any]) -> list[Any]:
    """Items of both lists, merged where their elements agree.

    The applied list gives the order of its items. Live items that it does not name stay where they are as long as
    both lists go on in the same order.
    """
    items = node.element or node.nodes.open
    mine = [element_of(node, item) for item in live]
    found: dict[str, Any] = {}
    for element, item in zip(mine, live, strict=True):
        found[element] = None if element in found else item  # duplicates are replaced, not merged
    wanted = {element_of(node, item): item for item in applied}
    shared = [element for element in wanted if element in found]
    shared.reverse()
    place, done, out = 0, set[str](), list[Any]()
    for element, item in wanted.items():
        place = _keep(mine, live, place, element, wanted, shared, done, out)
        out.append(merge(items, found[element], item) if element in found else item)
        done.add(element)
        if place < len(mine) and mine[place] == element:
            place += 1
        if shared and shared[-1] == element:
            shared.pop()
    return out + [item for name, item in zip(mine[place:], live[place:], strict=True) if name not in wanted]


def _keep(
    mine: list[str],
    live: list[Any],
    place: int,
    element: str,
    wanted: Mapping[str, Any],
    shared: list[str],
    done: set[str],
    out: list[Any],
) -> int:
    """Take the live items that come before an applied one; returns the place after them.

    `shared` are the elements of both lists that are still to come, the next one last.
    """
    while place < len(mine) and mine[place] != element:
        name = mine[place]
        if name in wanted:
            if not shared or name == shared[-1]:
                return place + (name in done)
        else:
            out.append(live[place])
        place += 1
    return place


def remove(node: Node, value: Any, fields: Fields) -> Any:
    """`value` without the members of `fields`; a container that loses all it had becomes null."""
    if not value or not fields:
        return value
    if node.how in _ITEMS:
        return _remove_items(node, value, fields) if value.__class__ is list else None
    if node.how is How.LEAF or value.__class__ is not dict:
        return None
    out: dict[str, Any] = {}
    declared, other = node.fields, node.element or node.nodes.open
    for key, item in value.items():
        inside = fields.get(f"f:{key}")
        if inside is None:
            out[key] = item
        elif not is_member(inside):
            _, child = declared.get(key) or ("", other)
            out[key] = remove(child, item, inside)
    return out or None


def _remove_items(node: Node, values: list[Any], fields: Fields) -> Any:
    out = []
    items = node.element or node.nodes.open
    for value in values:
        inside = fields.get(element_of(node, value))
        if inside is None:
            out.append(value)
        elif not is_member(inside):
            out.append(remove(items, value, inside))
    return out or None


def with_named(node: Node | None, fields: Fields) -> Fields:
    """`fields` and the declared fields that lead to its members: spec for spec.replicas, but not map entries."""
    out: dict[str, Any] = {}
    for element, inside in fields.items():
        if element == SELF:
            out[element] = inside
            continue
        child, named = _step(node, element)
        content = with_named(child, below(inside)) if inside else inside
        member = named or is_member(inside)
        out[element] = {SELF: MEMBER, **content} if member and content else content
    return out


def _step(node: Node | None, element: str) -> tuple[Node | None, bool]:
    """The node behind an element, and whether it is a field that the schema declares."""
    if node is None:
        return None, False
    if element.startswith("f:"):
        declared = node.fields.get(element[2:]) if node.how in (How.STRUCT, How.MAP) else None
        return (declared[1], True) if declared else (node.element, False)
    return (node.element if element.startswith("k:") else None), False
