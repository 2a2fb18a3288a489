"""What goes around a message: `k8s\\0` and a runtime.Unknown that names apiVersion and kind; frames of a watch.

Source: apimachinery, pkg/runtime/serializer/protobuf; the media type application/vnd.kubernetes.protobuf.
"""

from __future__ import annotations

from dataclasses import dataclass

from tiphys.api.protobuf.scalars import read_number
from tiphys.base.protowire import Malformed, delimited

MAGIC = b"k8s\0"


@dataclass(frozen=True, slots=True)
class Envelope:
    """An object's kind and its message."""

    api_version: str
    kind: str
    raw: bytes


def unpack(body: bytes) -> Envelope:
    """Raises Malformed."""
    if not body:
        raise Malformed("empty data")
    if not body.startswith(MAGIC):
        raise Malformed("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    if len(body) == len(MAGIC):
        raise Malformed("empty body")
    unknown = read_number(body, len(MAGIC), len(body))
    head, raw = unknown.get(1, b""), unknown.get(2, b"")
    if not isinstance(head, bytes) or not isinstance(raw, bytes):
        raise Malformed("proto: wrong wireType = 0 for field TypeMeta or Raw")
    names = read_number(head, 0, len(head))
    api_version, kind = names.get(1, b""), names.get(2, b"")
    if not isinstance(api_version, bytes) or not isinstance(kind, bytes):
        raise Malformed("proto: wrong wireType = 0 for field APIVersion or Kind")
    return Envelope(api_version.decode("utf-8", "replace"), kind.decode("utf-8", "replace"), raw)


def pack(api_version: str, kind: str, raw: bytes) -> bytes:
    """The bytes of an answer. contentEncoding and contentType are there and empty, as upstream writes them."""
    head = b"\x0a" + delimited(api_version.encode()) + b"\x12" + delimited(kind.encode())
    return b"".join((MAGIC, b"\x0a", delimited(head), b"\x12", delimited(raw), b"\x1a\x00\x22\x00"))


def frame(type: str, obj: bytes) -> bytes:
    """One event of a watch: a WatchEvent without envelope, its length in four bytes before it.

    `obj` is the object's own envelope."""
    raw = b"\x0a" + delimited(obj)
    event = b"\x0a" + delimited(type.encode()) + b"\x12" + delimited(raw)
    return len(event).to_bytes(4, "big") + event
