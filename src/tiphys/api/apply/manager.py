"""Who manages what after a write: `FieldManager` is what the API server calls, one for each resource and version.

    create, update:  the writer takes over every field that it changed
    apply:           the applied fields are the applier's; what it dropped and nobody else manages goes

Objects are those of the endpoint's version; managers of other versions are looked at in theirs (`Versions`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import orjson

from tiphys.api.apply import conflicts, last_applied, managed
from tiphys.api.apply.check import problems, text
from tiphys.api.apply.compare import Comparison, compare, fields_of
from tiphys.api.apply.conflicts import Clash
from tiphys.api.apply.fields import (
    MEMBER,
    Fields,
    Malformed,
    difference,
    dump,
    has,
    intersection,
    is_member,
    paths,
    union,
    without,
)
from tiphys.api.apply.managed import APPLY, UPDATE, Entry, Key, Managed, key_of
from tiphys.api.apply.merge import merge_objects
from tiphys.api.apply.nodes import Node
from tiphys.api.apply.pruning import prune
from tiphys.base.errors import BadRequest

Object = Mapping[str, Any]

STRIPPED = frozenset(
    {
        "name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation", "managedFields",
        "resourceVersion",
    }
)  # fmt: skip
"""Fields of metadata that nobody manages."""
_STRIPPED: Fields = {
    "f:apiVersion": MEMBER,
    "f:kind": MEMBER,
    "f:metadata": {".": MEMBER, **{f"f:{name}": MEMBER for name in sorted(STRIPPED)}},
}
BEFORE = "before-first-apply"
"""Manager of what was there before anybody applied, on objects that had no managers."""
UNKNOWN = "unknown"
ALIKE = 256
"""New objects whose fields are kept, to find them again for those that are alike."""
KUBECTL = "kubectl"
"""The manager for whom the annotation of client-side apply counts."""


class Versions(Protocol):
    """The served versions of a kind."""

    def node(self, api_version: str) -> Node | None:
        """What the schema of a version says; None: the version is not served any more."""
        ...

    def convert(self, obj: Object, target: str) -> Object:
        """An object of any version in another one."""
        ...


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes: `time` is RFC 3339, `subresource` is "" for the object itself."""

    manager: str
    time: str
    resets: Fields
    """What the endpoint resets whatever is sent (`reset.resets`)."""
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply makes: the object, None if it stays as it is; and metadata.managedFields as JSON."""

    obj: dict[str, Any] | None
    managed: bytes


class FieldManager:
    """Of one kind in one version. `zero` is the object in which nothing is set."""

    def __init__(self, api_version: str, kind: str, node: Node, zero: Object, versions: Versions) -> None:
        self._api_version, self._kind, self._node, self._zero = api_version, kind, node, zero
        self._versions = versions
        self._created: dict[bytes, bytes] = {}

    def create(self, obj: Object, writer: Writer, supplied: Sequence[Any] | None = None) -> bytes:
        """metadata.managedFields of a new object; `supplied` are those that the client sent."""
        if supplied:
            found = self._changed(self._zero, obj, writer.resets)
            return managed.dump_all(self._updated(self._zero, obj, _supplied(supplied), writer, found))
        fields = self._fields_of_new(obj, writer)
        return managed.dump_one(self._key(writer, UPDATE), fields, self._api_version, writer.time) if fields else b""

    def _fields_of_new(self, obj: Object, writer: Writer) -> bytes:
        """The fields that a new object sets, as JSON. Many objects are alike but for their names, so they are kept."""
        part = _managed_part(obj, _skipped(writer.resets))
        digest = hashlib.blake2b(orjson.dumps(part), digest_size=16).digest()
        known = self._created.get(digest)
        if known is None:
            found = self._changed(self._zero, obj, writer.resets)
            fields = self._own(union(found.modified, found.added), writer)
            known = dump(fields) if fields else b""
            if len(self._created) >= ALIKE:
                del self._created[next(iter(self._created))]
            self._created[digest] = known
        return known

    def update(
        self, old: Object, new: Object, stored: bytes, writer: Writer, supplied: Sequence[Any] | None = None
    ) -> bytes | None:
        """metadata.managedFields after a change; None: as stored. Clients may set them, but not on a subresource."""
        entries: Managed = {}
        if supplied is not None and not writer.subresource:
            if _is_reset(supplied):
                return b""
            entries = _supplied(supplied)
        if not entries and not stored:
            return None  # nobody has tracked this object so far
        found = self._changed(old, new, writer.resets)
        if not entries and found.same:
            return None
        after = managed.dump_all(self._updated(old, new, entries or managed.load(stored), writer, found))
        return None if after == stored else after

    def apply(self, live: Object | None, config: Object, stored: bytes, writer: Writer, *, force: bool) -> Applied:
        """Apply `config`. Raises BadRequest, Conflict with a cause for each field that others manage."""
        self._check(config)
        current = self._zero if live is None else live
        entries = managed.load(stored)
        if not entries and live is not None:
            found = self._changed(self._zero, live, writer.resets)
            entries = self._updated(self._zero, live, {}, replace(writer, manager=BEFORE), found)
        merged, entries = self._applied(current, config, entries, writer)
        key = self._key(writer, APPLY)
        found = self._changed(current, merged, writer.resets)
        entries, clashes = self._settled(current, merged, entries, writer, found, key)
        if clashes and not force:
            clashes = self._not_last_applied(current, clashes, writer)
            if clashes:
                raise conflicts.refusal(clashes)
        fields = self._own(entries[key].fields, writer) if key in entries else MEMBER
        changed = merged != current
        if fields:
            entries[key] = replace(entries[key], fields=fields, time=writer.time if changed else entries[key].time)
        else:
            entries.pop(key, None)
        if writer.manager == KUBECTL:
            merged = last_applied.renewed(merged, config)
            changed = changed or merged != current
        return Applied(merged if changed or live is None else None, managed.dump_all(entries))

    def _check(self, config: Object) -> None:
        """Raises BadRequest."""
        api_version, kind = str(config.get("apiVersion") or ""), str(config.get("kind") or "")
        group, _, version = api_version.rpartition("/")
        if (api_version, kind) != (self._api_version, self._kind):
            raise BadRequest(f"invalid object type: {group}/{version}, Kind={kind}")
        metadata = config.get("metadata")
        if isinstance(metadata, Mapping) and metadata.get("managedFields") is not None:
            raise BadRequest("metadata.managedFields must be nil")
        found = problems(self._node, config)
        if found:
            named = metadata if isinstance(metadata, Mapping) else {}
            what = f"{named.get('namespace') or ''}/{named.get('name') or ''}; {group}/{version}, Kind={kind}"
            # Upstream answers 500; but whoever sees to it that a server has no errors must not be woken by a client's
            # (docs/apiserver.md, "Differences from upstream, on purpose").
            raise BadRequest(f"failed to create typed patch object ({what}): {text(found)}")

    def _applied(
        self, live: Object, config: Object, entries: Managed, writer: Writer
    ) -> tuple[dict[str, Any], Managed]:
        """The live object with `config` in it and what the applier dropped out of it; the applier's new entry."""
        key = self._key(writer, APPLY)
        last = entries.get(key)
        claimed = without(fields_of(self._node, config), writer.resets)
        entries = {**entries, key: Entry(claimed, self._api_version, last.time if last else "")}
        merged: Object = merge_objects(self._node, live, config)
        if last is not None and last.fields:
            merged = prune(merged, last, entries, self._api_version, self._versions)
        return dict(merged), entries

    def _not_last_applied(self, live: Object, clashes: list[Clash], writer: Writer) -> list[Clash]:
        """Clashes but for fields that kubectl applied from the client's side: those are kubectl's own."""
        if writer.manager != KUBECTL:
            return clashes
        before = last_applied.applied_before(self._node, live, self._api_version)
        return [clash for clash in clashes if not has(before, clash.path)]

    def _updated(self, old: Object, new: Object, entries: Managed, writer: Writer, found: Comparison) -> Managed:
        """The managers after a change that nobody may refuse; `found` compares the two in this version."""
        entries, _ = self._settled(old, new, entries, writer, found)
        fields = self._own(union(found.modified, found.added), writer)
        if fields:
            key = self._key(writer, UPDATE)
            before = entries.get(key)
            entries[key] = Entry(union(fields, before.fields) if before else fields, self._api_version, writer.time)
        return managed.capped(entries)

    def _settled(
        self,
        old: Object,
        new: Object,
        entries: Managed,
        writer: Writer,
        found: Comparison,
        own: Key | None = None,
    ) -> tuple[Managed, list[Clash]]:
        """Managers without the fields that others have changed or removed now, and who lost what by a change."""
        out: Managed = {}
        clashes: list[Clash] = []
        seen: dict[str, Comparison | None] = {self._api_version: found}
        for key, entry in entries.items():
            if key == own:
                out[key] = entry
                continue
            version = entry.api_version
            if version not in seen:
                seen[version] = self._changed_in(version, old, new, writer.resets)
            changes = seen[version]
            if changes is None:
                continue  # a version that is not served any more
            lost = intersection(entry.fields, union(changes.modified, changes.added))
            clashes += [Clash(key, path) for path in paths(lost)]
            left = difference(difference(entry.fields, lost), changes.removed)
            if left:
                out[key] = entry if left is entry.fields else replace(entry, fields=left)
        return out, clashes

    def _changed(self, old: Object, new: Object, resets: Fields) -> Comparison:
        skipped = _skipped(resets)
        found = compare(self._node, _managed_part(old, skipped), _managed_part(new, skipped))
        return _filtered(found, resets) if len(skipped) < len(resets) else found

    def _changed_in(self, version: str, old: Object, new: Object, resets: Fields) -> Comparison | None:
        node = self._versions.node(version)
        if node is None:
            return None
        return _filtered(
            compare(node, self._versions.convert(old, version), self._versions.convert(new, version)), resets
        )

    def _own(self, fields: Fields, writer: Writer) -> Fields:
        return difference(without(fields, writer.resets), _STRIPPED)

    def _key(self, writer: Writer, operation: str) -> Key:
        return key_of(writer.manager or UNKNOWN, operation, self._api_version, writer.subresource)


def _skipped(resets: Fields) -> list[str]:
    return [element[2:] for element, inside in resets.items() if is_member(inside)]


def _managed_part(obj: Object, skipped: Sequence[str]) -> dict[str, Any]:
    """An object without what nobody manages."""
    out = {name: value for name, value in obj.items() if name not in skipped}
    out.pop("apiVersion", None)
    out.pop("kind", None)
    if "metadata" in out:
        out["metadata"] = {name: value for name, value in out["metadata"].items() if name not in STRIPPED}
    return out


def _filtered(found: Comparison, resets: Fields) -> Comparison:
    if not resets:
        return found
    return Comparison(*(without(fields, resets) for fields in (found.removed, found.modified, found.added)))


def _supplied(entries: Sequence[Any] | None) -> Managed:
    """What a client sent as managedFields; nothing if it makes no sense."""
    if not entries:
        return {}
    try:
        return managed.decode(entries)
    except Malformed:
        return {}


def _is_reset(entries: Sequence[Any]) -> bool:
    """`[]` and `[{}]` ask for managedFields to be forgotten."""
    return not entries or (len(entries) == 1 and not any(entries[0].values()))
