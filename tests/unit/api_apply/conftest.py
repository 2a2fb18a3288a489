"""Field managers of built-in kinds, and objects in canonical form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from tiphys.api.apply.manager import Applied, FieldManager, Writer
from tiphys.api.apply.nodes import Node, Nodes
from tiphys.api.apply.reset import resets
from tiphys.api.decode.request import Codec, split_api_version
from tiphys.api.schema import builtin

Object = Mapping[str, Any]
CODEC = Codec(builtin())
NODES = Nodes(builtin())
DEPLOYMENT: Object = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "default"},
}
PLURALS = {"Deployment": "deployments", "ConfigMap": "configmaps", "Pod": "pods", "Service": "services"}


class OneVersion:
    """A kind that is served in one version."""

    def __init__(self, api_version: str, node: Node) -> None:
        self._api_version, self._node = api_version, node

    def node(self, api_version: str) -> Node | None:
        return self._node if api_version == self._api_version else None

    def convert(self, obj: Object, target: str) -> Object:
        return obj


@dataclass
class Tracked:
    """One object as its managers change it; times are the number of the write."""

    manager: FieldManager
    group: str
    plural: str
    obj: dict[str, Any] | None = None
    managed: bytes = b""
    writes: int = 0

    def writer(self, name: str, subresource: str = "") -> Writer:
        self.writes += 1
        found = resets(self.group, self.plural, subresource, has_status=True)
        return Writer(name, f"2026-01-01T00:00:{self.writes:02}Z", found, subresource)

    def create(self, name: str, obj: Object) -> None:
        self.obj = dict(obj)
        self.managed = self.manager.create(self.obj, self.writer(name))

    def update(self, name: str, obj: Object, subresource: str = "", supplied: Any = None) -> None:
        assert self.obj is not None
        after = self.manager.update(self.obj, obj, self.managed, self.writer(name, subresource), supplied)
        self.obj, self.managed = dict(obj), self.managed if after is None else after

    def apply(self, name: str, config: Object, *, force: bool = False, subresource: str = "") -> Applied:
        live = self.obj
        applied = self.manager.apply(live, config, self.managed, self.writer(name, subresource), force=force)
        self.obj = applied.obj if applied.obj is not None else live
        self.managed = applied.managed
        return applied

    def entries(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = orjson.loads(self.managed) if self.managed else []
        return found

    def owned(self, name: str, operation: str = "Apply", subresource: str = "") -> Any:
        """What a manager owns, None if it has no entry."""
        for entry in self.entries():
            if (entry["manager"], entry["operation"], entry.get("subresource", "")) == (name, operation, subresource):
                return entry["fieldsV1"]
        return None


@pytest.fixture
def tracked() -> Callable[[str, str], Tracked]:
    """A tracked object of a kind: (apiVersion, kind)."""

    def make(api_version: str, kind: str) -> Tracked:
        group, version = split_api_version(api_version)
        type = CODEC.definitions.of(group, version, kind)
        assert type is not None
        node = NODES.of(type)
        zero = CODEC.decoder.empty(type)
        zero.setdefault("metadata", {})
        manager = FieldManager(api_version, kind, node, zero, OneVersion(api_version, node))
        return Tracked(manager, group, PLURALS[kind])

    return make


@pytest.fixture
def deployment(tracked: Callable[[str, str], Tracked]) -> Tracked:
    return tracked("apps/v1", "Deployment")


@pytest.fixture
def node_of() -> Callable[..., Node]:
    """The node at a path of fields of a kind: ("v1", "Pod", "spec", "containers")."""

    def find(api_version: str, kind: str, *path: str) -> Node:
        group, version = split_api_version(api_version)
        node = NODES.of(CODEC.definitions.of(group, version, kind))
        for name in path:
            node = node.fields[name][1] if name in node.fields else _element(node)
        return node

    return find


def _element(node: Node) -> Node:
    assert node.element is not None
    return node.element
