"""An object's two forms: the bytes that are stored and sent, and the decoded object that is shared.

Stored bytes are JSON that begins with `{"kind":...,"apiVersion":...,"metadata":{`, without resourceVersion: the
revision is known only after the write. Reading splices it in by one copy; nothing is decoded to be encoded again
(docs/architecture.md, principle 2). What the cache holds of an object is its *item*: the wire form without kind and
apiVersion, which is how built-in kinds stand in lists; `head` is put in front where the object stands alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson


class Obj(dict[str, Any]):
    """A decoded object that can be weakly referenced: readers share it for as long as any of them holds it."""

    __slots__ = ("__weakref__",)


def loads(data: bytes) -> Obj:
    """Decode one object."""
    return Obj(orjson.loads(data))


def dumps(value: Any) -> bytes:
    """Compact JSON as an exactly sized bytes object (orjson's results keep their spare buffer)."""
    return b"".join((orjson.dumps(value), b""))


def head(kind: str, api_version: str) -> bytes:
    """The bytes that precede an item where the object stands alone; they replace its opening brace."""
    return b'{"kind":"%s","apiVersion":"%s",' % (kind.encode(), api_version.encode())


def encode(obj: Mapping[str, Any], kind: str, api_version: str, managed: bytes = b"") -> bytes:
    """The stored bytes of `obj`: kind, apiVersion and metadata first, no resourceVersion.

    `managed` are its managedFields as JSON. They come first in metadata, followed by the name: `managed_span`."""
    metadata = {key: value for key, value in obj["metadata"].items() if key not in ("resourceVersion", "selfLink")}
    if managed:
        metadata = {"managedFields": orjson.Fragment(managed), "name": metadata.pop("name"), **metadata}
    out = {"kind": kind, "apiVersion": api_version, "metadata": metadata}
    for key, value in obj.items():
        if key not in out:
            out[key] = value
    return orjson.dumps(out)


def item(value: bytes, prefix: bytes, revision: int) -> bytes:
    """The item of stored bytes that begin with `prefix`: resourceVersion spliced in, one exact copy.

    Revision 0 stands for an object that was never written (a dry run): it has no resourceVersion."""
    start = len(prefix)
    if not revision:
        return b"{" + value[start:]
    if not value.startswith(prefix) or value[start : start + 12] != b'"metadata":{':
        return foreign_item(orjson.loads(value), revision)
    return b"".join((b'{"metadata":{"resourceVersion":"%d",' % revision, value[start + 12 :]))


def foreign_item(obj: dict[str, Any], revision: int) -> bytes:
    """The item of an object that is not in the stored shape (written by another version of the server)."""
    rest = {key: value for key, value in obj.items() if key not in ("kind", "apiVersion", "metadata")}
    metadata = dict(obj.get("metadata", {}))
    first = {key: metadata.pop(key) for key in ("managedFields", "name") if metadata.get(key)}
    return dumps({"metadata": {"resourceVersion": str(revision), **first, **metadata}, **rest})


def managed_span(item: bytes) -> tuple[int, int]:
    """Where the array of managedFields is in an item; (0, 0) if there are none.

    The end is found without parsing: a quote followed by `name":"` opens a string, so the closing brackets before it
    cannot be inside of one, and there are no arrays in managedFields.
    """
    start = len(_METADATA)
    if item.startswith(_VERSION, start):
        start = item.index(b'",', start + len(_VERSION)) + 2
    if not item.startswith(_MANAGED, start):
        return 0, 0
    return start + len(_MANAGED) - 1, item.index(_MANAGED_END, start) + 2


def slim(item: bytes) -> bytes:
    """The item without managedFields: what nearly everybody wants to decode."""
    start, end = managed_span(item)
    return item[: start - len(_MANAGED) + 1] + item[end + 1 :] if end else item


_METADATA, _VERSION = b'{"metadata":{', b'"resourceVersion":"'
_MANAGED, _MANAGED_END = b'"managedFields":[', b'}],"name":"'
