"""DNS messages written: answers with compressed names, and questions to other servers.

The question comes back byte for byte as it was asked (some resolvers mix capitals in, to know their answers again),
and names in the answer point to it. An answer may be given many times: `Rendered` is all of it but ID and question, and
begins with another of its addresses each time.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from tiphys.dns.wire import CD, CNAME, DO, HEADER, MX, NS, OPT, PTR, QR, QUESTION_AT, RA, RD, SOA, TC, Query, Record

PAYLOAD = 1232
"""Bytes of an answer by UDP at most: what every path carries in one piece (DNS flag day 2020)."""
MAX_MESSAGE = 65535
_FIXED = struct.Struct("!HHIH")
_OPT = struct.Struct("!BHHIH")
_FURTHEST = 0x3FFF


class Sections(NamedTuple):
    """What an answer says."""

    rcode: int = 0
    answers: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    flags: int = 0
    """AA, AD: besides those that follow from the question."""
    spin: int = 0
    """How many of the last answers are addresses of one name, of which each may be the first. Nothing follows them."""


class Rendered:
    """An answer to one question, in whatever capitals it is written, without ID and question."""

    __slots__ = ("_block", "_count", "_end", "_fit", "_fixed", "_head", "_tail", "_turn", "_unit")

    def __init__(
        self, head: bytes, end: int, fixed: bytes, tail: bytes = b"", block: bytes = b"", unit: int = 0, fit: int = 0
    ) -> None:
        self._head, self._end, self._fixed, self._tail, self._unit, self._fit = head, end, fixed, tail, unit, fit
        self._count = len(block) // unit if unit else 0
        self._block = block + block[: fit * unit]
        self._turn = 0

    def __len__(self) -> int:
        return self._end + len(self._fixed) + len(self._block) + len(self._tail)

    def reply(self, packet: bytes) -> bytes:
        """The whole message to who sent that packet."""
        if not self._unit:
            return packet[:2] + self._head + packet[QUESTION_AT : self._end] + self._fixed
        start = self._turn
        self._turn = (start + 1) % self._count
        start *= self._unit
        turned = self._block[start : start + self._fit * self._unit]
        return b"".join((packet[:2], self._head, packet[QUESTION_AT : self._end], self._fixed, turned, self._tail))


class _Writer:
    """The bytes behind the question, and where which names are."""

    def __init__(self, question: bytes, limit: int) -> None:
        self._start = QUESTION_AT + len(question) + 4
        self._limit = limit - self._start
        self._places: dict[bytes, int] = {}
        self._remember(question, QUESTION_AT)
        self.body = bytearray()

    @property
    def room(self) -> int:
        return self._limit - len(self.body)

    def add(self, record: Record) -> bool:
        """Write it, if there is room; after one for which there is none nothing may be added."""
        body, before = self.body, len(self.body)
        self.name(record.name)
        body += _FIXED.pack(record.type, record.class_, record.ttl, 0)
        at = len(body)
        self._data(record)
        if len(body) > self._limit:
            del body[before:]
            return False
        struct.pack_into("!H", body, at - 2, len(body) - at)
        return True

    def _data(self, record: Record) -> None:
        """Only the data of the oldest types may have compressed names (RFC 3597)."""
        data = record.data
        if record.type in (CNAME, NS, PTR):
            self.name(data)
        elif record.type == MX:
            self.body += data[:2]
            self.name(data[2:])
        elif record.type == SOA:
            first = _end(data, 0)
            second = _end(data, first)
            self.name(data[:first])
            self.name(data[first:second])
            self.body += data[second:]
        else:
            self.body += data

    def name(self, name: bytes) -> None:
        at, lower = 0, name.lower()
        here = self._start + len(self.body)
        while lower[at]:
            place = self._places.get(lower[at:])
            if place is not None:
                self.body += name[:at] + (0xC000 | place).to_bytes(2, "big")
                self._remember(lower, here, at)
                return
            at += lower[at] + 1
        self._remember(lower, here)
        self.body += name

    def _remember(self, lower: bytes, place: int, upto: int = -1) -> None:
        at = 0
        while lower[at] and at != upto and place + at <= _FURTHEST:
            self._places.setdefault(lower[at:], place + at)
            at += lower[at] + 1


def _end(data: bytes, at: int) -> int:
    while data[at]:
        at += data[at] + 1
    return at + 1


def limit_of(query: Query, tcp: bool) -> int:
    """Bytes that the answer may have, its OPT record included."""
    if tcp:
        return MAX_MESSAGE
    return min(PAYLOAD, max(512, query.edns.payload)) if query.edns is not None else 512


def render(query: Query, said: Sections, limit: int) -> Rendered:
    """The whole answer. What does not fit is left out; TC tells if it is part of what was asked for."""
    opt = _opt_of(query, said.rcode)
    writer = _Writer(query.name, limit - len(opt))
    if said.spin > 1:
        return _render_spinning(query, said, writer, opt)
    counts, cut = _write(writer, said)
    return Rendered(_head(query, said, counts, cut, bool(opt)), query.end, bytes(writer.body) + opt)


def _render_spinning(query: Query, said: Sections, writer: _Writer, opt: bytes) -> Rendered:
    fixed, moving = said.answers[: -said.spin], said.answers[-said.spin :]
    counts, cut = _write(writer, Sections(answers=fixed))
    body = bytes(writer.body)
    writer.name(moving[0].name)
    owner = bytes(writer.body[len(body) :])
    del writer.body[len(body) :]
    units = [owner + _FIXED.pack(each.type, each.class_, each.ttl, len(each.data)) + each.data for each in moving]
    unit = len(units[0])
    fit = 0 if cut else min(len(units), writer.room // unit)
    counts[0] += fit
    head = _head(query, said, counts, fit < len(units), bool(opt))
    return Rendered(head, query.end, body, opt, b"".join(units), unit, fit)


def _head(query: Query, said: Sections, counts: list[int], cut: bool, edns: bool) -> bytes:
    flags = _flags_of(query) | said.flags | (TC if cut else 0) | said.rcode & 15
    answers, authority, additional = counts
    return HEADER.pack(0, flags, 1, answers, authority, additional + edns)[2:]


def _write(writer: _Writer, said: Sections) -> tuple[list[int], bool]:
    counts = [0, 0, 0]
    for section, records in enumerate((said.answers, said.authority, said.additional)):
        for record in records:
            if not writer.add(record):
                return counts, section < 2
            counts[section] += 1
    return counts, False


def failure(packet: bytes, rcode: int) -> bytes:
    """An answer to what could not be read: its header only."""
    flags = int.from_bytes(packet[2:4], "big") & (0x7800 | RD | CD)
    return packet[:2] + HEADER.pack(0, flags | QR | RA | rcode & 15, 0, 0, 0, 0)[2:]


def _flags_of(query: Query) -> int:
    return QR | RA | query.flags & (RD | CD)


def _opt_of(query: Query, rcode: int) -> bytes:
    """The OPT record of the answer; only who sent one gets one (RFC 6891, section 6.1.1)."""
    if query.edns is None:
        return b""
    return _opt(rcode >> 4, DO if query.edns.dnssec else 0)


def _opt(rcode: int, flags: int) -> bytes:
    return _OPT.pack(0, OPT, PAYLOAD, rcode << 24 | flags, 0)


def question(id: int, asked: bytes, flags: int, *, edns: bool, dnssec: bool) -> bytes:
    """A question to another server; `asked` is name, type and class on the wire."""
    head = HEADER.pack(id, flags & (RD | CD), 1, 0, 0, int(edns))
    return head + asked + (_opt(0, DO if dnssec else 0) if edns else b"")
