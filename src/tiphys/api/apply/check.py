"""What is applied must be of the schema: declared fields, the right types, list items that can be told apart.

The words are those of upstream's structured-merge-diff, which reports such an object as an internal error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tiphys.api.apply.compare import NoKey, element_of
from tiphys.api.apply.fields import element_text
from tiphys.api.apply.nodes import How, Node
from tiphys.api.patch.gotext import go_text

_SCALARS: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "numeric": (int, float),
    "boolean": (bool,),
    "untyped": (str, int, float, bool),
}
_GO_TYPES = {str: "string", bool: "bool", int: "int64", float: "float64", dict: "map[string]interface {}"}


def problems(node: Node, value: Any, path: str = "") -> list[str]:
    """Everything wrong with a value, each with its path: `.spec.foo: field not declared in schema`."""
    if value is None or node.check == "any":
        return []
    if node.check == "list":
        return _list(node, value, path)
    if node.check == "map":
        return _map(node, value, path)
    fits = isinstance(value, _SCALARS[node.check]) and (node.check != "numeric" or value.__class__ is not bool)
    return [] if fits else [_problem(path, _expected(node.check, value))]


def text(found: list[str]) -> str:
    """The problems as one message."""
    return found[0] if len(found) == 1 else "\n".join(["errors:", *(f"  {one}" for one in found)])


def _map(node: Node, value: Any, path: str) -> list[str]:
    if value.__class__ is not dict:
        return [_problem(path, f"expected map, got &{{{go_text(value)}}}")]
    out: list[str] = []
    for key, item in value.items():
        declared = node.fields.get(key)
        child = declared[1] if declared else node.element
        if child is None:
            return [*out, _problem(f"{path}.{key}", "field not declared in schema")]
        out += problems(child, item, f"{path}.{key}")
    return out


def _list(node: Node, value: Any, path: str) -> list[str]:
    if value.__class__ is not list:
        return [_problem(path, f"expected list, got &{{{go_text(value)}}}")]
    items = node.element or node.nodes.open
    if node.how is How.LEAF:
        return [one for at, item in enumerate(value) for one in problems(items, item, f"{path}[{at}]")]
    out: list[str] = []
    seen: set[str] = set()
    for at, item in enumerate(value):
        try:
            element = element_of(node, item)
        except NoKey as error:
            return [*out, _problem(path, f"element {at}: {error}")]
        where = element_text(element)
        if element in seen:
            out.append(_problem(path, f"duplicate entries for key {where}"))
        seen.add(element)
        out += problems(items, item, path + where)
    return out


def _expected(check: str, value: Any) -> str:
    if check == "numeric":
        return f"expected numeric (int or float), got {_GO_TYPES.get(value.__class__, '[]interface {}')}"
    if check == "string":
        return f"expected string, got &value.valueUnstructured{{Value:{_go_syntax(value)}}}"
    return f"expected {'boolean' if check == 'boolean' else 'any scalar'}, got &{{{go_text(value)}}}"


def _go_syntax(value: Any) -> str:
    """A value as Go's %#v prints it."""
    if isinstance(value, dict):
        return (
            "map[string]interface {}{"
            + ", ".join(f"{json.dumps(key)}:{_go_syntax(item)}" for key, item in sorted(value.items()))
            + "}"
        )
    if isinstance(value, list):
        return "[]interface {}{" + ", ".join(map(_go_syntax, value)) + "}"
    return "interface {}(nil)" if value is None else json.dumps(value)


def _problem(path: str, detail: str) -> str:
    return f"{path}: {detail}" if path else detail
