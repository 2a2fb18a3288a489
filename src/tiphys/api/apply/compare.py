"""Two objects compared, and the fields that an object sets: both as sets of fields.

`compare` is on the way of every write. What is equal costs one comparison of dicts, which C does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.api.apply.fields import MEMBER, SELF, Fields, key_element, value_element
from tiphys.api.apply.nodes import How, Node

Path = dict[str, Any]
_MISSING: Any = object()
_ITEMS = (How.SET, How.LIST)


@dataclass(slots=True)
class Comparison:
    """Fields that went, that have another value, that came. No field is in two of them."""

    removed: Fields
    modified: Fields
    added: Fields

    @property
    def same(self) -> bool:
        return not (self.removed or self.modified or self.added)


class NoKey(ValueError):
    """A list item that cannot be told apart from others."""


def element_of(node: Node, item: Any) -> str:
    """The path element of a list item. Raises NoKey."""
    if node.how is How.SET:
        if item is None or item.__class__ in (dict, list):
            raise NoKey(_NO_VALUE[item.__class__])
        return value_element(item)
    if item.__class__ is not dict:
        text = "a null element" if item is None else "non-map elements"
        raise NoKey(f"associative list with keys may not have {text}")
    keys = {}
    for name in node.keys:
        value = item.get(name, _MISSING)
        if value is _MISSING:
            value = node.defaults.get(name, _MISSING)
        if value is not _MISSING:
            keys[name] = value
    if not keys:
        names = " ".join(f'"{name}"' for name in node.keys)
        raise NoKey(
            f"associative list with keys has an element that omits all key fields [{names}] "
            "(and doesn't have default values for any key fields)"
        )
    return key_element(keys)


_NO_VALUE = {
    dict: "associative list without keys has an element that's a map type",
    list: "not supported: associative list with lists as elements",
    type(None): "associative list without keys has an element that's an explicit null",
}


def compare(node: Node, old: Mapping[str, Any], new: Mapping[str, Any]) -> Comparison:
    """What became of `old`. Both are objects of `node`'s type."""
    removed: Path = {}
    modified: Path = {}
    added: Path = {}
    _entries(node, old, new, removed, modified, added)
    return Comparison(removed, modified, added)


def _entries(node: Node, old: Any, new: Any, removed: Path, modified: Path, added: Path) -> None:
    """Structs and maps."""
    fields, other = node.fields, node.element or node.nodes.open
    for key, value in new.items():
        element, child = fields.get(key) or (f"f:{key}", other)
        was = old.get(key, _MISSING)
        if was is _MISSING:
            added[element] = whole(child, value)
        elif was is not value and was != value:
            _value(element, child, was, value, removed, modified, added)
    for key, was in old.items():
        if key not in new:
            element, child = fields.get(key) or (f"f:{key}", other)
            removed[element] = whole(child, was)


def _fits(how: How, value: Any) -> bool:
    """Whether a value is what its schema says: custom resources are compared before they are validated."""
    if how is How.OPEN or not value:
        return True
    return value.__class__ is list if how in _ITEMS else isinstance(value, dict)


def _value(element: str, node: Node, old: Any, new: Any, removed: Path, modified: Path, added: Path) -> None:
    """Two values that differ."""
    how = node.how
    if how is How.LEAF or not (old or new) or not _fits(how, old) or not _fits(how, new):
        modified[element] = MEMBER
        return
    below: tuple[Path, Path, Path] = ({}, {}, {})
    if how in _ITEMS:
        _items(node, old or [], new or [], *below)
    elif how is How.OPEN and not (old.__class__ is dict and new.__class__ is dict):
        _retyped(element, node, old, new, removed, modified, added)
        return
    else:
        _entries(node, old or {}, new or {}, *below)
    for target, found in zip((removed, modified, added), below, strict=True):
        if found:
            target[element] = found


def _retyped(element: str, node: Node, old: Any, new: Any, removed: Path, modified: Path, added: Path) -> None:
    """A value of a type that the schema leaves open: what was inside an object went, what is inside one came."""
    modified[element] = MEMBER
    for value, target in ((old, removed), (new, added)):
        inside = {name: child for name, child in whole(node, value).items() if name != SELF}
        if inside:
            target[element] = inside


def _items(node: Node, old: Any, new: Any, removed: Path, modified: Path, added: Path) -> None:
    """Lists whose items are owned one by one. Duplicates are owned together, without what is inside them."""
    olds, news = _index(node, old), _index(node, new)
    items = node.element or node.nodes.open
    for element, now in news.items():
        was = olds.get(element, ())
        if len(was) > 1 and len(now) > 1:
            if was != now:
                modified[element] = MEMBER
        elif len(was) > 1:
            added[element] = whole(items, now[0])
            removed[element] = MEMBER
        elif len(now) > 1:
            if was:
                removed[element] = whole(items, was[0])
            added[element] = MEMBER
        elif not was:
            added[element] = whole(items, now[0])
        elif was[0] != now[0]:
            _value(element, items, was[0], now[0], removed, modified, added)
    for element, was in olds.items():
        if element not in news:
            removed[element] = MEMBER if len(was) > 1 else whole(items, was[0])


def _index(node: Node, values: Any) -> dict[str, list[Any]]:
    out: dict[str, list[Any]] = {}
    for value in values:
        try:
            out.setdefault(element_of(node, value), []).append(value)
        except NoKey:
            continue
    return out


def whole(node: Node, value: Any) -> Fields:
    """The contents of a field that came (or went) as a whole: it and everything inside it."""
    how = node.how
    if how is How.LEAF or not value:
        return MEMBER
    if how in _ITEMS:
        return _whole_items(node, value) if value.__class__ is list else MEMBER
    if value.__class__ is not dict:
        return MEMBER
    out: dict[str, Any] = {SELF: MEMBER}
    fields, other = node.fields, node.element or node.nodes.open
    if not fields and other.how is How.LEAF:
        for key in value:
            out["f:" + key] = MEMBER
        return out
    for key, item in value.items():
        element, child = fields.get(key) or ("f:" + key, other)
        out[element] = MEMBER if child.how is How.LEAF or not item else whole(child, item)
    return out


def _whole_items(node: Node, values: Any) -> Fields:
    out: dict[str, Any] = {SELF: MEMBER}
    items = node.element or node.nodes.open
    for value in values:
        try:
            element = element_of(node, value)
        except NoKey:
            continue
        out[element] = MEMBER if element in out else whole(items, value)
    return out


def fields_of(node: Node, value: Mapping[str, Any]) -> Fields:
    """The fields that an applied object claims: its leaves, its list items and the entries of its maps."""
    out: dict[str, Any] = {}
    fields, other = node.fields, node.element or node.nodes.open
    for key, item in value.items():
        declared = fields.get(key)
        element, child = declared or (f"f:{key}", other)
        inside = _inside(child, item)
        if inside is None:
            out[element] = MEMBER
        elif declared is None:
            out[element] = {SELF: MEMBER, **inside} if inside else MEMBER
        elif inside:
            out[element] = inside
    return out


def _inside(node: Node, value: Any) -> Fields | None:
    """What is claimed inside a value; None if it is claimed itself."""
    if node.how is How.LEAF or value is None:
        return None
    if node.how in _ITEMS:
        return _claimed_items(node, value)
    return fields_of(node, value) if value.__class__ is dict and value else None


def _claimed_items(node: Node, values: Any) -> Fields:
    out: dict[str, Any] = {}
    items = node.element or node.nodes.open
    for value in values if values.__class__ is list else ():
        try:
            element = element_of(node, value)
        except NoKey:
            continue
        inside = None if element in out else _inside(items, value)
        out[element] = {SELF: MEMBER, **inside} if inside else MEMBER
    return out
