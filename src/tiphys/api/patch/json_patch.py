"""JSON patch, RFC 6902, with the API's errors and its limit on the number of operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from tiphys.base.errors import BadRequest, Invalid, TooLarge

MAX_OPERATIONS = 10_000
MAX_COPIED = 3 * 1024 * 1024
"""Bytes of JSON that the copies of one patch may add, as upstream: a copy of a copy doubles the document."""
FIELDS = frozenset({"op", "path", "from", "value"})
REFUSED = "the server rejected our request due to an error in our request"

Edit = Callable[[Any, str], Any]
"""Takes a container and the last step of a path, returns the changed copy of the container."""


class PatchFailed(ValueError):
    """An operation does not fit the document."""


def check(operations: Any) -> list[str]:
    """What strict decoding has against the operations. Raises BadRequest, TooLarge."""
    if not isinstance(operations, list):
        raise BadRequest(
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"
        )
    if len(operations) > MAX_OPERATIONS:
        limit = f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}"
        raise TooLarge(f"{limit}, got {len(operations)}")
    problems = []
    for number, operation in enumerate(operations):
        if not isinstance(operation, dict):
            raise BadRequest("error decoding patch: json: cannot unmarshal into Go value of type handlers.jsonPatchOp")
        problems += [f'json patch unknown field "[{number}].{key}"' for key in operation if key not in FIELDS]
    return problems


def apply(document: Any, operations: Sequence[Mapping[str, Any]]) -> Any:
    """The patched document. Raises Invalid when an operation does not fit, as upstream without details."""
    copied = 0
    try:
        for operation in operations:
            if operation.get("op") == "copy":
                copied += len(orjson.dumps(_origin(document, _steps(operation, "from"))))
                if copied > MAX_COPIED:
                    raise PatchFailed(f"copies of {copied} bytes are more than {MAX_COPIED}")
            document = _apply(document, operation)
    except PatchFailed as error:
        raise Invalid(REFUSED, details={}) from error
    return document


def _apply(document: Any, operation: Mapping[str, Any]) -> Any:
    name = operation.get("op")
    steps = _steps(operation, "path")
    if not steps and name in ("add", "remove"):
        raise PatchFailed("the whole document can only be replaced")
    if name == "add":
        return _edit(document, steps, _adder(operation.get("value")))
    if name == "replace":
        return _edit(document, steps, _replacer(operation.get("value")))
    if name == "remove":
        return _edit(document, steps, _remove)
    if name == "test":
        return _test(document, steps, operation.get("value"))
    if name not in ("move", "copy"):
        raise PatchFailed(f"Unexpected kind: {name}")
    origin = _steps(operation, "from")
    value = _get(document, origin) if name == "move" else _origin(document, origin)
    if name == "move":
        if steps[: len(origin)] == origin and steps != origin:
            raise PatchFailed("cannot move a value into itself")
        document = _edit(document, origin, _remove)
    return _edit(document, steps, _adder(value))


def _steps(operation: Mapping[str, Any], name: str) -> list[str]:
    """The reference tokens of a JSON pointer (RFC 6901)."""
    pointer = operation.get(name)
    if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
        raise PatchFailed(f"bad {name}: {pointer!r}")
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def _edit(node: Any, steps: list[str], edit: Edit) -> Any:
    """`node` with its part at `steps` edited; only the containers on the way are copied."""
    if not steps:
        return edit({"": node}, "").get("")
    if len(steps) == 1:
        return edit(node, steps[0])
    step, *rest = steps
    if isinstance(node, dict) and step in node:
        return node | {step: _edit(node[step], rest, edit)}
    if isinstance(node, list):
        at = _index(node, step)
        return [*node[:at], _edit(node[at], rest, edit), *node[at + 1 :]]
    raise PatchFailed(f"missing path: {step}")


def _get(node: Any, steps: list[str]) -> Any:
    for step in steps:
        if isinstance(node, dict) and step in node:
            node = node[step]
        elif isinstance(node, list):
            node = node[_index(node, step)]
        else:
            raise PatchFailed(f"missing path: {step}")
    return node


def _origin(document: Any, steps: list[str]) -> Any:
    """What a copy takes: a field that is not there is null, as in upstream."""
    parent = _get(document, steps[:-1])
    return parent.get(steps[-1]) if steps and isinstance(parent, dict) else _get(document, steps)


def _index(items: list[Any], step: str, extra: int = 0) -> int:
    """A place in `items`; negative ones count from the end. Up to `extra` places after the last are fine."""
    digits = step.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise PatchFailed(f"not an index: {step}")
    at = int(step)
    at = at + len(items) + extra if at < 0 else at
    if not 0 <= at < len(items) + extra:
        raise PatchFailed(f"index out of bounds: {step}")
    return at


def _adder(value: Any) -> Edit:
    def add(node: Any, step: str) -> Any:
        if isinstance(node, dict):
            return node | {step: value}
        if isinstance(node, list):
            at = len(node) if step == "-" else _index(node, step, extra=1)
            return [*node[:at], value, *node[at:]]
        raise PatchFailed(f"cannot add {step} to a value")

    return add


def _replacer(value: Any) -> Edit:
    def replace(node: Any, step: str) -> Any:
        if isinstance(node, dict) and step in node:
            return node | {step: value}
        if isinstance(node, list):
            at = _index(node, step)
            return [*node[:at], value, *node[at + 1 :]]
        raise PatchFailed(f"missing path: {step}")

    return replace


def _remove(node: Any, step: str) -> Any:
    if isinstance(node, dict) and step in node:
        return {key: value for key, value in node.items() if key != step}
    if isinstance(node, list):
        at = _index(node, step)
        return [*node[:at], *node[at + 1 :]]
    raise PatchFailed(f"missing path: {step}")


def _test(document: Any, steps: list[str], value: Any) -> Any:
    try:
        found = _get(document, steps)
    except PatchFailed:
        if value is None:
            return document
        raise
    if not equal(found, value):
        raise PatchFailed(f"testing path /{'/'.join(steps)} failed")
    return document


def equal(left: Any, right: Any) -> bool:
    """JSON equality: true is not 1."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(equal, left, right))
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)
