"""metadata.managedFields of what is written: the rules are `api.apply`'s, here they meet resources and calls.

Inside the server objects carry no managedFields: they stay bytes between the store and the wire (`Entry.managed`), and
only a write that changes fields looks into them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from tiphys.api.apply.fields import Fields
from tiphys.api.apply.managed import dump_all, load
from tiphys.api.apply.manager import Applied, FieldManager, Writer
from tiphys.api.apply.nodes import Node, Nodes
from tiphys.api.apply.reset import resets
from tiphys.api.apply.scale import VERSION, to_object, to_scale
from tiphys.api.decode.request import Codec, Expected
from tiphys.apiserver.entries import Entry
from tiphys.apiserver.resource import Call, Key, Resource
from tiphys.apiserver.serving import Serving
from tiphys.base.clock import rfc3339

Object = Mapping[str, Any]


class Siblings:
    """The served versions of what one cache holds (`api.apply.manager.Versions`)."""

    def __init__(self, nodes: Callable[[Resource], Nodes], resources: Sequence[Resource]) -> None:
        self._nodes = nodes
        self._by_version = {one.expected.api_version: one for one in resources}

    def node(self, api_version: str) -> Node | None:
        found = self._by_version.get(api_version)
        return None if found is None else self._nodes(found).of(found.expected.type)

    def convert(self, obj: Object, target: str) -> Object:
        source = self._by_version[obj["apiVersion"]]
        wanted = self._by_version[target]
        if source is wanted:
            return obj
        if source.custom:
            return {**obj, "apiVersion": target}
        stored = obj
        if source.foreign:
            stored = source.kind.convert(orjson.loads(orjson.dumps(obj)), source.version, source.kind.stored_version)
        return wanted.form.show(stored)


class Ownership:
    """The field managers of all served resources, made when they are first needed."""

    def __init__(self, codec: Codec, serving: Serving) -> None:
        self._codec, self._serving = codec, serving
        self._nodes = Nodes(codec.definitions)
        self._managers: dict[Key, tuple[Resource, FieldManager]] = {}
        self._resets: dict[tuple[str, str, str], Fields] = {}
        self._scale: FieldManager | None = None
        self._asked: dict[str, dict[str, FieldManager]] = {}

    def created(self, call: Call, obj: Object, supplied: Sequence[Any] | None) -> bytes:
        """managedFields of a new object (of the stored version)."""
        return self._of(call.resource).create(call.resource.form.show(obj), self.writer(call, ""), supplied)

    def updated(
        self, call: Call, old: Entry, current: Object, new: Object, subresource: str, supplied: Sequence[Any] | None
    ) -> bytes | None:
        """managedFields after a change; None if they stay as they are."""
        stored = old.managed
        if not stored and not supplied:
            return None
        show = call.resource.form.show
        return self._of(call.resource).update(
            show(current), show(new), stored, self.writer(call, subresource), supplied
        )

    def asked(self, expected: Expected, obj: Object, writer: Writer) -> list[Any]:
        """managedFields of what is only answered: a review, or a request for a token."""
        manager = self._asked.get(expected.api_version, {}).get(expected.kind)
        if manager is None:
            zero = {} if expected.type is None else self._codec.decoder.empty(expected.type)
            zero.setdefault("metadata", {})
            node = self._nodes.of(expected.type)
            manager = FieldManager(expected.api_version, expected.kind, node, zero, _OneVersion(node))
            self._asked.setdefault(expected.api_version, {})[expected.kind] = manager
        made = manager.create(obj, writer)
        found: list[Any] = orjson.loads(made) if made else []
        return found

    def applied(self, call: Call, live: Object | None, config: Object, stored: bytes, *, force: bool) -> Applied:
        """What an apply makes of `live` (of the call's version). Raises BadRequest, Conflict."""
        writer = self.writer(call, call.info.subresource)
        return self._of(call.resource).apply(live, config, stored, writer, force=force)

    def scaled(self, call: Call, old: Entry, current: Object, new: Object, path: str) -> bytes | None:
        """managedFields after an update of the Scale; `current` and `new` are Scales."""
        stored = old.managed
        if not stored:
            return None
        entries, replicas = load(stored), _elements(path)
        before = dump_all(to_scale(entries, replicas))
        after = self._scales().update(current, new, before, self._scale_writer(call))
        if after is None:
            return None
        return dump_all(to_object(entries, load(after), replicas, call.resource.expected.api_version))

    def scale_applied(
        self, call: Call, old: Entry, current: Object, config: Object, path: str, *, force: bool
    ) -> tuple[Object, bytes]:
        """The Scale after an apply, and the object's managedFields."""
        entries, replicas = load(old.managed), _elements(path)
        before = dump_all(to_scale(entries, replicas))
        applied = self._scales().apply(current, config, before, self._scale_writer(call), force=force)
        after = to_object(entries, load(applied.managed), replicas, call.resource.expected.api_version)
        return (current if applied.obj is None else applied.obj), dump_all(after)

    def writer(self, call: Call, subresource: str) -> Writer:
        """Who writes, as an entry of managedFields has it."""
        resource = call.resource
        key = (resource.group, resource.plural, subresource)
        found = self._resets.get(key)
        if found is None:
            kind = resource.kind
            metadata = kind.status_resets_metadata
            found = self._resets[key] = resets(*key, has_status=kind.has_status, metadata=metadata)
        return Writer(call.manager, rfc3339(call.now), found, subresource)

    def _scale_writer(self, call: Call) -> Writer:
        return Writer(call.manager, rfc3339(call.now), {}, "scale")

    def _of(self, resource: Resource) -> FieldManager:
        key = (resource.group, resource.version, resource.plural)
        found = self._managers.get(key)
        if found is None or found[0] is not resource:
            siblings = [one for one in self._serving.resources.values() if one.cache is resource.cache]
            found = self._managers[key] = resource, self._manager(resource, [*siblings, resource])
        return found[1]

    def _manager(self, resource: Resource, siblings: Sequence[Resource]) -> FieldManager:
        type, codec = resource.expected.type, resource.codec or self._codec
        versions = Siblings(self._nodes_of, siblings)
        zero = {} if type is None or resource.custom else codec.decoder.empty(type)
        zero.setdefault("metadata", {})
        node = self._nodes_of(resource).of(type)
        return FieldManager(resource.expected.api_version, resource.kind_name, node, zero, versions)

    def _nodes_of(self, resource: Resource) -> Nodes:
        return self._nodes if resource.codec is None else Nodes(resource.codec.definitions)

    def _scales(self) -> FieldManager:
        if self._scale is None:
            type = self._codec.definitions.of("autoscaling", "v1", "Scale")
            node = self._nodes.of(type)
            self._scale = FieldManager(VERSION, "Scale", node, {"metadata": {}}, _OneVersion(node))
        return self._scale


class _OneVersion:
    """Scale has one version, whatever those of its object are."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def node(self, api_version: str) -> Node | None:
        return self._node if api_version == VERSION else None

    def convert(self, obj: Object, target: str) -> Object:
        return obj


def _elements(path: str) -> tuple[str, ...]:
    return tuple(f"f:{name}" for name in path.strip(".").split("."))
