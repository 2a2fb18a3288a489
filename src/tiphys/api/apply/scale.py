"""Managers of the scale subresource: those of the number of replicas, in the object and in its Scale.

A Scale keeps no managedFields; it shows who owns the object's replicas as owning spec.replicas of autoscaling/v1, and
what a write through it changes goes back into the object's entries (KEP-555, "Subresources").
"""

from __future__ import annotations

from dataclasses import replace

from tiphys.api.apply.fields import difference, has, of_path, union
from tiphys.api.apply.managed import Entry, Key, Managed, key_of

VERSION = "autoscaling/v1"
REPLICAS = ("f:spec", "f:replicas")
Who = tuple[str, str, str]


def to_scale(entries: Managed, path: tuple[str, ...]) -> Managed:
    """The owners of the replicas at `path`, as they own them in the Scale."""
    return {
        key_of(key.manager, key.operation, VERSION, key.subresource): Entry(of_path(REPLICAS), VERSION, entry.time)
        for key, entry in entries.items()
        if has(entry.fields, path)
    }


def to_object(entries: Managed, scale: Managed, path: tuple[str, ...], api_version: str) -> Managed:
    """The object's entries after a write to the Scale whose entries are now `scale`.

    Entries of new owners have no time, as upstream's.
    """
    out: Managed = {}
    mine = of_path(path)
    owners = {_who(key): key for key, entry in scale.items() if has(entry.fields, REPLICAS)}
    for key, entry in entries.items():
        if not has(entry.fields, path) or owners.pop(_who(key), None) is not None:
            out[key] = entry
        elif left := difference(entry.fields, mine):
            out[key] = replace(entry, fields=left)
    for key in owners.values():
        own = key_of(key.manager, key.operation, api_version, key.subresource)
        before = out.get(own)
        out[own] = replace(before, fields=union(before.fields, mine)) if before else Entry(mine, api_version)
    return out


def _who(key: Key) -> Who:
    """A manager whatever the version: the Scale's is not the object's."""
    return key.manager, key.operation, key.subresource
