"""DNS messages (RFC 1035, EDNS: RFC 6891) read from bytes that anybody may have made up.

Reading never loops and never raises anything but `Malformed`: a compression pointer must lead further back than the
one before it, counts are believed only as far as there are bytes, a name has 255 bytes at most.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from tiphys.dns.names import MAX_NAME

A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, OPT = 1, 2, 5, 6, 12, 15, 16, 28, 33, 41
IXFR, AXFR, ANY = 251, 252, 255
HINFO = 13
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
QR, AA, TC, RD, RA, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
DO = 0x8000
HEADER = struct.Struct("!6H")
QUESTION_AT = HEADER.size
MIN_PAYLOAD = 512
_FIXED = struct.Struct("!HHIH")
_TAIL = struct.Struct("!HH")
_POINTER = 0xC0

_RDATA = {
    **dict.fromkeys((NS, CNAME, PTR, 3, 4, 7, 8, 9, 39), "n"),
    **dict.fromkeys((14, 17), "nn"),
    **dict.fromkeys((MX, 18, 21, 36), "2n"),
    SOA: "nn*",
    SRV: "6n",
    35: "4sssn",
}
"""Types whose data hold names that may be compressed (RFC 3597, section 4): n a name, a digit that many bytes, s a
character string, * the rest."""


class Malformed(Exception):
    """Not a message, or not one that may be answered with data. `rcode` is what its sender is told."""

    def __init__(self, rcode: int = FORMERR) -> None:
        super().__init__(f"malformed DNS message, rcode {rcode}")
        self.rcode = rcode


class Record(NamedTuple):
    """A resource record; `name` and names inside `data` are not compressed."""

    name: bytes
    type: int
    class_: int
    ttl: int
    data: bytes


class Edns(NamedTuple):
    """What the OPT record says."""

    payload: int
    version: int
    dnssec: bool


class Query(NamedTuple):
    """A question that somebody asks."""

    packet: bytes
    flags: int
    name: bytes
    """In lower case; `question` has it as it was written."""
    type: int
    class_: int
    end: int
    """Where the question ends."""
    edns: Edns | None

    @property
    def question(self) -> bytes:
        return self.packet[QUESTION_AT : self.end]


@dataclass(frozen=True, slots=True)
class Message:
    """An answer as another server gave it, without its OPT record."""

    id: int
    flags: int
    rcode: int
    question: tuple[bytes, int, int]
    """Name in lower case, type, class."""
    answers: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    edns: Edns | None = None


def read_query(packet: bytes) -> Query:
    """Raises Malformed; a packet that is shorter than a header, or is an answer itself, must not be answered at all
    (`answerable`)."""
    _, flags, questions, *counts = HEADER.unpack_from(packet)
    if flags & 0x7800:
        raise Malformed(NOTIMP)
    if questions != 1:
        raise Malformed
    at = _plain_name_end(packet)
    if at + 4 > len(packet):
        raise Malformed
    kind, class_ = _TAIL.unpack_from(packet, at)
    edns = None
    if any(counts):
        edns = _find_edns(packet, at + 4, counts)
    return Query(packet, flags, packet[QUESTION_AT:at].lower(), kind, class_, at + 4, edns)


def answerable(packet: bytes) -> bool:
    """Whether it may be a question: answers that answer each other would go on for ever."""
    return len(packet) >= QUESTION_AT and not packet[2] & 0x80


def read_message(packet: bytes) -> Message:
    """A whole answer. Raises Malformed."""
    if len(packet) < QUESTION_AT:
        raise Malformed
    id, flags, questions, *counts = HEADER.unpack_from(packet)
    if not flags & QR or questions != 1:
        raise Malformed
    name, at = read_name(packet, QUESTION_AT)
    if at + 4 > len(packet):
        raise Malformed
    question = (name.lower(), *_TAIL.unpack_from(packet, at))
    sections: list[tuple[Record, ...]] = []
    at += 4
    for count in counts:
        records, at = _read_records(packet, at, count)
        sections.append(records)
    edns = _edns_of([record for record in sections[2] if record.type == OPT])
    extended = next((record.ttl >> 24 << 4 for record in sections[2] if record.type == OPT), 0)
    additional = tuple(record for record in sections[2] if record.type != OPT)
    return Message(id, flags, extended | flags & 15, question, sections[0], sections[1], additional, edns)


def read_name(packet: bytes, at: int) -> tuple[bytes, int]:
    """The name at that place, not compressed, and where what follows it begins. Raises Malformed."""
    parts: list[bytes] = []
    size, after, lowest = 1, 0, at
    while True:
        length = _byte(packet, at)
        if length >= _POINTER:
            target = (length & 0x3F) << 8 | _byte(packet, at + 1)
            after = after or at + 2
            if target >= lowest:
                raise Malformed
            at = lowest = target
        elif length > 63:
            raise Malformed
        elif length == 0:
            return b"".join(parts) + b"\0", after or at + 1
        else:
            size += length + 1
            if size > MAX_NAME or at + 1 + length > len(packet):
                raise Malformed
            parts.append(packet[at : at + 1 + length])
            at += 1 + length


def _byte(packet: bytes, at: int) -> int:
    if at >= len(packet):
        raise Malformed
    return packet[at]


def _plain_name_end(packet: bytes) -> int:
    """Where the question's name ends: nothing stands before it to which it could point."""
    at = QUESTION_AT
    while True:
        length = _byte(packet, at)
        if length == 0:
            return at + 1
        at += length + 1
        if length > 63 or at - QUESTION_AT >= MAX_NAME:
            raise Malformed


def _find_edns(packet: bytes, at: int, counts: list[int]) -> Edns | None:
    """Walks over all records of a question; only the OPT record among the additional ones counts."""
    found = []
    for section, count in enumerate(counts):
        for _ in range(count):
            record, at = _read_record(packet, at, names=False)
            if section == 2 and record.type == OPT:
                found.append(record)
    return _edns_of(found)


def _edns_of(found: list[Record]) -> Edns | None:
    if not found:
        return None
    if len(found) > 1 or found[0].name != b"\0":
        raise Malformed
    return Edns(found[0].class_, found[0].ttl >> 16 & 0xFF, bool(found[0].ttl & DO))


def _read_records(packet: bytes, at: int, count: int) -> tuple[tuple[Record, ...], int]:
    records = []
    for _ in range(count):
        record, at = _read_record(packet, at)
        records.append(record)
    return tuple(records), at


def _read_record(packet: bytes, at: int, names: bool = True) -> tuple[Record, int]:
    name, at = read_name(packet, at)
    if at + _FIXED.size > len(packet):
        raise Malformed
    kind, class_, ttl, length = _FIXED.unpack_from(packet, at)
    at += _FIXED.size
    end = at + length
    if end > len(packet):
        raise Malformed
    layout = _RDATA.get(kind) if names else None
    data = _read_data(packet, at, end, layout) if layout else packet[at:end]
    return Record(name, kind, class_, ttl, data), end


def _read_data(packet: bytes, at: int, end: int, layout: str) -> bytes:
    """The data of a record with the names in it written out."""
    parts = []
    for step in layout:
        if step == "n":
            name, at = read_name(packet, at)
            parts.append(name)
        else:
            size = end - at if step == "*" else _byte(packet, at) + 1 if step == "s" else int(step)
            parts.append(packet[at : at + size])
            at += size
        if at > end:
            raise Malformed
    if at != end:
        raise Malformed
    return b"".join(parts)
