"""The entries of metadata.managedFields: one for each manager, operation, version and subresource.

What appliers own belongs to them whatever version they apply, so an Apply entry's version is no part of its key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import orjson

from tiphys.api.apply.fields import Fields, Malformed, dump, parse, union

APPLY, UPDATE = "Apply", "Update"
MAX_UPDATERS = 10
"""Update entries kept for one object; the oldest ones are put together under the name ANCIENT."""
ANCIENT = "ancient-changes"


class Key(NamedTuple):
    """Whose fields; entries with the same key are one entry."""

    manager: str
    operation: str
    api_version: str
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """What one manager owns, in which version, and when it last changed a value (RFC 3339; "": never)."""

    fields: Fields
    api_version: str
    time: str = ""


Managed = dict[Key, Entry]


def key_of(manager: str, operation: str, api_version: str, subresource: str) -> Key:
    """The key of a manager's entry."""
    return Key(manager, operation, "" if operation == APPLY else api_version, subresource)


def decode(entries: Sequence[Any]) -> Managed:
    """Entries that a client wrote. Raises Malformed."""
    out: Managed = {}
    for entry in entries:
        operation = entry.get("operation")
        if operation not in (APPLY, UPDATE):
            raise Malformed("operation must be `Apply` or `Update`")
        if not entry.get("apiVersion"):
            raise Malformed("apiVersion must not be empty")
        if entry.get("fieldsType") != "FieldsV1":
            raise Malformed("invalid fieldsType")
        _take(out, entry, parse(entry.get("fieldsV1") or {}))
    return out


def load(stored: bytes) -> Managed:
    """Entries as `dump_all` wrote them."""
    out: Managed = {}
    for entry in orjson.loads(stored) if stored else ():
        _take(out, entry, entry["fieldsV1"])
    return out


def _take(out: Managed, entry: Mapping[str, Any], fields: Fields) -> None:
    version = entry["apiVersion"]
    key = key_of(entry.get("manager") or "", entry["operation"], version, entry.get("subresource") or "")
    out[key] = Entry(fields, version, entry.get("time") or "")


def dump_all(managed: Managed) -> bytes:
    """The list as JSON, in upstream's order: appliers first, then by time; b"" if there are no entries."""
    if not managed:
        return b""
    keys = sorted(managed, key=lambda key: (key.operation, managed[key].time, *key))
    return orjson.dumps([_entry(key, managed[key]) for key in keys])


def dump_one(key: Key, fields: bytes, api_version: str, time: str) -> bytes:
    """A list with one entry, whose fields are JSON already."""
    return orjson.dumps([_head(key, api_version, time, fields)])


def _entry(key: Key, entry: Entry) -> dict[str, Any]:
    return _head(key, entry.api_version, entry.time, dump(entry.fields))


def _head(key: Key, api_version: str, time: str, fields: bytes) -> dict[str, Any]:
    out: dict[str, Any] = {"manager": key.manager} if key.manager else {}
    out["operation"] = key.operation
    out["apiVersion"] = api_version
    if time:
        out["time"] = time
    out["fieldsType"] = "FieldsV1"
    out["fieldsV1"] = orjson.Fragment(fields)
    if key.subresource:
        out["subresource"] = key.subresource
    return out


def same_but_times(left: bytes, right: bytes) -> bool:
    """Whether two lists differ in nothing but times."""
    if left == right:
        return True
    one, other = load(left), load(right)
    return one.keys() == other.keys() and all(
        entry.fields == other[key].fields and entry.api_version == other[key].api_version for key, entry in one.items()
    )


def capped(managed: Managed) -> Managed:
    """At most MAX_UPDATERS updaters: the oldest of each version share an entry."""
    updaters = [key for key in managed if key.operation == UPDATE]
    extra = len(updaters) - MAX_UPDATERS
    if extra <= 0:
        return managed
    out = dict(managed)
    first: dict[str, Key] = {}
    for key in sorted(updaters, key=lambda key: (managed[key].time, key)):
        if extra <= 0:
            break
        entry = managed[key]
        bucket = Key(ANCIENT, UPDATE, entry.api_version)
        if entry.api_version not in first:
            first[entry.api_version] = key
            continue
        if bucket not in out:
            out[bucket] = out.pop(first[entry.api_version])
        fields = union(entry.fields, out[bucket].fields)
        out[bucket] = replace(out[bucket], fields=fields, time=entry.time)
        if key != bucket:
            del out[key]
        extra -= 1
    return out
