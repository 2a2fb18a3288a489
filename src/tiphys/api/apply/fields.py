"""Sets of fields, in the form that FieldsV1 has on the wire: nested dicts keyed by path elements.

An element is `f:name` (a field), `k:{...}` (a list item by its keys), `v:...` (a set's item) or `i:n` (an index). A
field belongs to the set if its dict is empty or has a ".", the others only lead to members. Sets are values: every
function gives a new one that shares what it can; nobody changes one. MEMBER is the dict of a member without members
below it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from json.encoder import encode_basestring
from typing import Any

import orjson

from tiphys.api.kinds.base import quote

Fields = Mapping[str, Any]
MEMBER: dict[str, Any] = {}
SELF = "."


class Malformed(ValueError):
    """Not a set of fields."""


def is_member(node: Fields) -> bool:
    """Whether the field with these contents belongs to the set."""
    return not node or SELF in node


def node_of(member: bool, below: Fields) -> Fields | None:
    """The contents of a field; None if neither it nor anything below it belongs to the set."""
    if not below:
        return MEMBER if member else None
    return {SELF: MEMBER, **below} if member else below


def below(node: Fields) -> Fields:
    """What is below a field, without the mark that it is a member itself."""
    return {element: child for element, child in node.items() if element != SELF} if SELF in node else node


def union(left: Fields, right: Fields) -> Fields:
    """What is in either."""
    if not left or not right:
        return left or right
    out = dict(left)
    for element, theirs in right.items():
        ours = out.get(element)
        if ours is None or ours is theirs:
            out[element] = theirs
        elif not (ours or theirs):
            continue
        else:
            merged = node_of(is_member(ours) or is_member(theirs), union(below(ours), below(theirs)))
            out[element] = MEMBER if merged is None else merged
    return out


def difference(left: Fields, right: Fields) -> Fields:
    """Members of `left` that are not members of `right`; what is below a member of `right` stays."""
    if not left or not right:
        return left
    out: dict[str, Any] = {}
    for element, ours in left.items():
        theirs = right.get(element)
        if theirs is None:
            out[element] = ours
            continue
        rest = node_of(
            is_member(ours) and not is_member(theirs),
            difference(below(ours), below(theirs)),
        )
        if rest is not None:
            out[element] = rest
    return out


def without(left: Fields, right: Fields) -> Fields:
    """`left` without the members of `right` and all that is below them."""
    if not left or not right:
        return left
    out: dict[str, Any] = {}
    for element, ours in left.items():
        theirs = right.get(element)
        if theirs is None:
            out[element] = ours
        elif not is_member(theirs):
            rest = node_of(is_member(ours), without(below(ours), theirs))
            if rest is not None:
                out[element] = rest
    return out


def intersection(left: Fields, right: Fields) -> Fields:
    """Members of both."""
    out: dict[str, Any] = {}
    if len(right) < len(left):
        left, right = right, left
    for element, ours in left.items():
        theirs = right.get(element)
        if theirs is None or element == SELF:
            continue
        both = node_of(
            is_member(ours) and is_member(theirs),
            intersection(below(ours), below(theirs)),
        )
        if both is not None:
            out[element] = both
    return out


def has(fields: Fields, path: tuple[str, ...]) -> bool:
    """Whether the field at a path of elements is a member."""
    node: Fields | None = fields
    for element in path:
        node = node.get(element) if node else None
        if node is None:
            return False
    return bool(path) and node is not None and is_member(node)


def of_path(path: tuple[str, ...]) -> Fields:
    """The set with one member."""
    out: Fields = MEMBER
    for element in reversed(path):
        out = {element: out}
    return out


def paths(fields: Fields, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The members' paths, in the order in which upstream reports conflicts: at each level members come first."""
    elements = sorted(element for element in fields if element != SELF)
    for element in elements:
        if is_member(fields[element]):
            yield (*prefix, element)
    for element in elements:
        yield from paths(below(fields[element]), (*prefix, element))


def path_text(path: tuple[str, ...]) -> str:
    """.spec.containers[name="app"].image"""
    return "".join(map(element_text, path))


def element_text(element: str) -> str:
    """One step of `path_text`."""
    kind, content = element[:2], element[2:]
    if kind == "f:":
        return f".{content}"
    if kind == "k:":
        keys = orjson.loads(content)
        return f"[{','.join(f'{name}={_value_text(keys[name])}' for name in sorted(keys))}]"
    return f"[={_value_text(orjson.loads(content))}]" if kind == "v:" else f"[{content}]"


def _value_text(value: Any) -> str:
    return quote(value) if isinstance(value, str) else "null" if value is None else str(value).lower()


def value_element(value: Any) -> str:
    """The element of a set's item."""
    return "v:" + _scalar(value)


def key_element(keys: Mapping[str, Any]) -> str:
    """The element of a list item with these keys, which must be in the order of their names."""
    return "k:{" + ",".join([f'"{name}":{_scalar(value)}' for name, value in keys.items()]) + "}"


def _scalar(value: Any) -> str:
    if value.__class__ is str:
        return go_string(value)
    return orjson.dumps(value).decode() if isinstance(value, (int, float, type(None))) else json.dumps(value)


def go_string(text: str) -> str:
    """JSON of a string as upstream writes it: characters that mean something in HTML are escaped."""
    quoted = encode_basestring(text)
    if "<" in quoted or ">" in quoted or "&" in quoted:
        quoted = quoted.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return quoted


def dump(fields: Fields) -> bytes:
    """FieldsV1 as JSON."""
    return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)


def parse(value: Any) -> Fields:
    """A FieldsV1 that a client wrote, in canonical form; elements of unknown kinds are dropped. Raises Malformed."""
    if not isinstance(value, Mapping):
        raise Malformed("not an object")
    out: dict[str, Any] = {}
    for element, child in value.items():
        if element == SELF:
            continue
        name = _canonical(element)
        if name is None:
            continue
        content = parse(child)
        member = not content or SELF in child
        node = node_of(member, content)
        out[name] = MEMBER if node is None else node
    return out


def _canonical(element: str) -> str | None:
    if len(element) < 2 or element[1] != ":":
        raise Malformed(f"missing colon: {element}")
    kind, content = element[0], element[2:]
    if kind == "f":
        return element
    if kind not in "kvi":
        return None
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"{element}: {error}") from error
    if kind == "k":
        if not isinstance(value, dict):
            raise Malformed(f"{element}: not an object")
        return key_element({name: value[name] for name in sorted(value)})
    if kind == "i":
        if not isinstance(value, int):
            raise Malformed(f"{element}: not a number")
        return element
    return value_element(value)
