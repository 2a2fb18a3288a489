"""What one mutation of a policy makes of an object: an apply configuration merged into it, or a JSON patch applied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.apply.check import problems, text
from tiphys.api.apply.compare import NoKey
from tiphys.api.apply.merge import merge_objects
from tiphys.api.apply.nodes import How, Node
from tiphys.api.cel.values import Struct
from tiphys.api.patch import json_patch
from tiphys.apiserver.policies.objects import Unsuitable, as_json, check_names, plain
from tiphys.apiserver.webhooks.patches import misfit
from tiphys.base.errors import ApiError

Object = Mapping[str, Any]


def apply_configuration(live: Object, value: Struct, node: Node) -> dict[str, Any]:
    """`live` with the fields of an `Object{...}`, merged as server-side apply does. Raises Unsuitable."""
    check_names(value)
    config = {**plain(value), "apiVersion": live["apiVersion"], "kind": live["kind"]}
    wrong = "error applying patch: "
    if found := problems(node, config):
        raise Unsuitable(f"{wrong}failed to convert patch object to typed object: {text(found)}")
    if atomic := _atomic(node, config, ""):
        what = "may not mutate atomic arrays, maps or structs"
        raise Unsuitable(f"{wrong}invalid ApplyConfiguration: {what}: {', '.join(atomic)}")
    try:
        return merge_objects(node, live, config)
    except NoKey as error:
        raise Unsuitable(f"{wrong}failed to merge patch: {error}") from None


def _atomic(node: Node, value: Any, path: str) -> list[str]:
    """Paths of lists, maps and structs that could only be replaced as a whole: what they hold would be lost."""
    found: list[str] = []
    if isinstance(value, dict):
        if node.how is How.LEAF and node.check != "untyped":
            found.append(path)
        for key, item in value.items():
            declared = node.fields.get(key)
            if declared is not None:
                found += _atomic(declared[1], item, f"{path}.{key}")
    elif isinstance(value, list):
        if node.how in (How.LEAF, How.OPEN):
            found.append(path)
        for index, item in enumerate(value):
            found += _atomic(node.element or node.nodes.open, item, f"{path}[{index}]")
    return found


def json_patches(live: Object, value: Any) -> dict[str, Any] | None:
    """`live` with a list of `JSONPatch{...}` applied; None when a test among them fails. Raises Unsuitable."""
    if len(value) > json_patch.MAX_OPERATIONS:
        raise Unsuitable(f"JSON Patch: {len(value)} operations are more than {json_patch.MAX_OPERATIONS}")
    operations = [_operation(one) for one in value]
    try:
        obj = json_patch.apply(live, operations)
    except ApiError:
        operation = _failing(live, operations)
        if operation["op"] == "test":
            return None
        raise Unsuitable(f"JSON Patch: {misfit(operation)}") from None
    if not isinstance(obj, dict):
        raise Unsuitable("JSON Patch: the patched document is no object")
    return obj


def _failing(live: Object, operations: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The first operation that does not fit. Those before it are applied together, which is what limits copies."""
    good, bad = 0, len(operations)
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            json_patch.apply(live, operations[:middle])
            good = middle
        except ApiError:
            bad = middle
    return operations[bad - 1]


def _operation(built: Mapping[str, Any]) -> dict[str, Any]:
    operation = {"op": built.get("op", ""), "path": built.get("path", "")}
    if built.get("from"):
        operation["from"] = built["from"]
    if "value" in built:
        value = built["value"]
        if isinstance(value, Struct):
            check_names(value)
        try:
            operation["value"] = as_json(value)
        except Unsuitable as error:
            what = "JSONPath valueExpression evaluated to a type that could not marshal to JSON"
            raise Unsuitable(f"{what}: {error}") from None
    return operation
