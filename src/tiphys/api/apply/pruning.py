"""What an applier dropped: fields that it applied last time, not now, and that nobody else manages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tiphys.api.apply.compare import fields_of
from tiphys.api.apply.fields import MEMBER, Fields, difference, intersection, union
from tiphys.api.apply.managed import Entry, Managed
from tiphys.api.apply.merge import remove, with_named
from tiphys.api.apply.nodes import Node

if TYPE_CHECKING:
    from tiphys.api.apply.manager import Versions

Object = Mapping[str, Any]


def prune(merged: Object, last: Entry, entries: Managed, api_version: str, versions: Versions) -> Object:
    """`merged` (of `api_version`) without what was in `last` and is nobody's now.

    `entries` has the applier's new claim already. The way there is upstream's: take everything out that was applied
    last time, put back what somebody manages in any version, and keep whatever the last apply did not claim.
    """
    version = last.api_version
    node = versions.node(version)
    if node is None:
        return merged
    whole = _in(versions, merged, api_version, version)
    pruned: Object = remove(node, whole, with_named(node, last.fields)) or {}
    pruned = _with_managed(whole, pruned, version, entries, versions)
    return _in(versions, _with_unclaimed(node, whole, pruned, last.fields), version, api_version)


def _with_managed(merged: Object, pruned: Object, version: str, entries: Managed, versions: Versions) -> Object:
    """`pruned` with everything back that somebody manages; the version that was pruned comes first."""
    claims: dict[str, Fields] = {version: MEMBER}
    for entry in entries.values():
        claims[entry.api_version] = union(claims.get(entry.api_version, MEMBER), entry.fields)
    at = version
    for other, claim in claims.items():
        node = versions.node(other)
        if node is None:
            continue
        merged, pruned = _in(versions, merged, at, other), _in(versions, pruned, at, other)
        at = other
        everything = with_named(node, fields_of(node, merged))
        kept = union(with_named(node, fields_of(node, pruned)), with_named(node, claim))
        pruned = remove(node, merged, difference(everything, kept)) or {}
    return _in(versions, pruned, at, version)


def _with_unclaimed(node: Node, merged: Object, pruned: Object, last: Fields) -> Object:
    """`merged` without those fields that are gone from `pruned` and that the last apply claimed."""
    everything = with_named(node, fields_of(node, merged))
    kept = with_named(node, fields_of(node, pruned))
    gone = intersection(difference(everything, kept), with_named(node, last))
    left: Object = remove(node, merged, gone) or {}
    return left


def _in(versions: Versions, obj: Object, source: str, target: str) -> Object:
    return obj if source == target else versions.convert(obj, target)
