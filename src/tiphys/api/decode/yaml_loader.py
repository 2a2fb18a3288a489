"""A YAML loader with the rules that Kubernetes has for manifests (sigs.k8s.io/yaml).

Keys are strings whatever they look like, timestamps and 80:80 stay strings, yes/no/on/off are booleans as in
YAML 1.1, and duplicate keys are noted rather than swallowed. Imported on first use: PyYAML takes 20 ms.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as Base
except ImportError:  # PyYAML built without libyaml
    from yaml import SafeLoader as Base  # type: ignore[assignment]

MAX_NODES = 1_000_000
MAX_MERGED = 10_000
"""Keys that merge keys bring into one mapping: merging what was merged multiplies them."""
MAX_ALL_MERGED = 50_000
"""The same for all mappings of a document: each of many may merge one large mapping."""
MAX_DEPTH = 500
"""Levels of nesting. libyaml's composer recurses in C without looking: what is deeper would end the process."""
_INT = re.compile(r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)\Z")
_FLOAT = re.compile(r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?i:inf)|\.(?i:nan))\Z")
_INT_TAG, _FLOAT_TAG, _TIME_TAG = (f"tag:yaml.org,2002:{name}" for name in ("int", "float", "timestamp"))


class Loader(Base):
    """Loads one document; `problems` lists duplicate keys."""

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self.problems: list[str] = []
        self._merged = 0

    def mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        self.flatten_mapping(node)
        out: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node)
            if key in out:
                line = key_node.start_mark.line + 1
                self.problems.append(f'line {line}: key "{key}" already set in map')
            out[key] = self.construct_object(value_node, deep=True)
        return out

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Write out the merge keys (<<) of a mapping; those of what they merge, too."""
        own = len(node.value)
        super().flatten_mapping(node)
        self._merged += max(0, len(node.value) - own)
        if len(node.value) > own + MAX_MERGED or self._merged > MAX_ALL_MERGED:
            raise yaml.constructor.ConstructorError(None, None, "document contains excessive aliasing", node.start_mark)

    def _key(self, node: yaml.Node) -> str:
        key = self.construct_object(node, deep=True)
        if isinstance(key, bool):
            return "true" if key else "false"
        if key is None or isinstance(key, (list, dict)):
            raise yaml.constructor.ConstructorError(None, None, "unsupported map key", node.start_mark)
        return str(key)


def too_deep(stream: bytes) -> bool:
    """Whether a document is nested deeper than MAX_DEPTH. Raises yaml.YAMLError."""
    depth = 0
    for event in yaml.parse(stream, Loader=Base):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return False


def expanded_size(value: Any, sizes: dict[int, int] | None = None) -> int:
    """Nodes in `value` when aliases are written out; cheap for what aliases of aliases make huge."""
    sizes = {} if sizes is None else sizes
    known = sizes.get(id(value))
    if known is None:
        children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        known = sizes[id(value)] = 1 + sum(expanded_size(child, sizes) for child in children)
    return known


def _mapping(loader: Loader, node: yaml.Node) -> dict[str, Any]:
    if not isinstance(node, yaml.MappingNode):
        raise yaml.constructor.ConstructorError(None, None, "expected a mapping node", node.start_mark)
    return loader.mapping(node)


def _sequence(loader: Loader, node: yaml.SequenceNode) -> list[Any]:
    return loader.construct_sequence(node, deep=True)


def _text(loader: Loader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


def _bool(loader: Loader, node: yaml.ScalarNode) -> bool:
    text = _text(loader, node)
    found = Base.bool_values.get(text.lower())
    if found is None:
        raise yaml.constructor.ConstructorError(None, None, f"cannot decode {text!r} as a !!bool", node.start_mark)
    return found


def _int(loader: Loader, node: yaml.ScalarNode) -> int:
    text = _text(loader, node).replace("_", "")
    digits = text.lstrip("+-")
    base = 8 if digits[:1] == "0" and digits[1:].isdigit() else 0
    return int(text, base)


def _float(loader: Loader, node: yaml.ScalarNode) -> Any:
    value = float(_text(loader, node).lower().replace(".inf", "inf").replace(".nan", "nan"))
    if value != value or value in (float("inf"), float("-inf")):
        raise yaml.constructor.ConstructorError(None, None, "json: unsupported value", node.start_mark)
    return int(value) if value.is_integer() else value


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in entries if tag not in (_INT_TAG, _FLOAT_TAG, _TIME_TAG)]
    for first, entries in Base.yaml_implicit_resolvers.items()
}
Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
# YAML's other collections are maps and lists here, as in Go: JSON has nothing else.
Loader.add_constructor("tag:yaml.org,2002:set", _mapping)
Loader.add_constructor("tag:yaml.org,2002:omap", _sequence)
Loader.add_constructor("tag:yaml.org,2002:pairs", _sequence)
Loader.add_constructor("tag:yaml.org,2002:binary", _text)
Loader.add_constructor(_TIME_TAG, _text)
Loader.add_constructor("tag:yaml.org,2002:bool", _bool)
Loader.add_constructor(_INT_TAG, _int)
Loader.add_constructor(_FLOAT_TAG, _float)
Loader.add_implicit_resolver(_INT_TAG, _INT, list("-+0123456789"))
Loader.add_implicit_resolver(_FLOAT_TAG, _FLOAT, list("-+0123456789."))
