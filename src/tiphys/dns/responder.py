"""From a packet to its answer: questions that were asked before in the same words, in whatever capitals, are answered
by one look-up.

What is remembered in words holds until the index changes, or until the TTLs in it have to be a second less.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

from tiphys.base.clock import Clock
from tiphys.dns import encode
from tiphys.dns.encode import Rendered, Sections, limit_of, render
from tiphys.dns.exchange import Asked
from tiphys.dns.forward import Forwarder
from tiphys.dns.index import Index
from tiphys.dns.metrics import Labels, Metrics
from tiphys.dns.names import to_text
from tiphys.dns.wire import (
    AD,
    AXFR,
    BADVERS,
    CD,
    FORMERR,
    IN,
    IXFR,
    NOERROR,
    OPT,
    QUESTION_AT,
    RD,
    REFUSED,
    SERVFAIL,
    Malformed,
    Message,
    Query,
    answerable,
    read_query,
)
from tiphys.dns.zone import Answer, Zone

log = logging.getLogger(__name__)

MAX_HOT = 2048
MAX_HOT_BYTES = 4 << 20
_LARGEST = 16384
"""Bytes of an answer that is remembered in words."""


@dataclass(slots=True)
class _Hot:
    rendered: Rendered
    until: float
    labels: Labels


@dataclass(frozen=True, slots=True)
class Pending:
    """A question of which other servers must be asked."""

    query: Query
    tcp: bool
    answer: Answer | None
    """What is known here; None: nothing."""


class Responder:
    """One for all sockets. `ready` says whether the cluster's names are known yet."""

    def __init__(self, zone: Zone, index: Index, forwarder: Forwarder, clock: Clock, metrics: Metrics) -> None:
        self._zone, self._index, self._forwarder = zone, index, forwarder
        self._monotonic: Callable[[], float] = clock.monotonic
        self._metrics = metrics
        self._hot: tuple[dict[bytes, _Hot], dict[bytes, _Hot]] = ({}, {})
        self._hot_bytes = 0
        self._version = index.version
        self.ready = False

    def respond(self, packet: bytes, tcp: bool) -> bytes | Pending | None:
        """The answer, or what has to be waited for (`finish`); None: the packet must not be answered."""
        if self._version != self._index.version:
            self._forget()
        hot = self._hot[tcp].get(_words(packet))
        if hot is not None and (hot.until == math.inf or hot.until > self._monotonic()):
            self._metrics.count(hot.labels)
            return hot.rendered.reply(packet)
        if not answerable(packet):
            return None
        try:
            query = read_query(packet)
        except Malformed as error:
            self._metrics.refused(tcp, error.rcode)
            return encode.failure(packet, error.rcode)
        return self._answer(query, tcp)

    async def finish(self, pending: Pending) -> bytes:
        """The answer, when the other servers have given theirs."""
        query = pending.query
        try:
            message = await self._forwarder.resolve(_asked(query, pending.answer))
            return self._render(query, pending.tcp, _joined(pending.answer, message))
        except Exception:  # what one server says must not end everybody's names
            log.exception("an answer to %s could not be made", to_text(query.name))
            return encode.failure(query.packet, SERVFAIL)

    def _answer(self, query: Query, tcp: bool) -> bytes | Pending:
        refusal = _refusal(query)
        if refusal != NOERROR:
            return self._render(query, tcp, Sections(refusal))
        answer = self._zone.answer(query.name, query.type)
        if answer is not None and not self.ready:
            return self._render(query, tcp, Sections(SERVFAIL))
        if answer is not None and not answer.chase:
            return self._render(query, tcp, answer.sections, math.inf)
        if answer is None and self._forwarder.comes_back(query.name):
            return self._render(query, tcp, Sections(SERVFAIL))
        message = self._forwarder.known(_asked(query, answer))
        if message is None:
            return Pending(query, tcp, answer)
        return self._render(query, tcp, _joined(answer, message), self._monotonic() + 1.0)

    def _render(self, query: Query, tcp: bool, said: Sections, until: float = 0.0) -> bytes:
        """Encode, and remember it if it holds for a while."""
        rendered = render(query, said, limit_of(query, tcp))
        labels = self._metrics.labels(query, tcp, said.rcode)
        self._metrics.count(labels)
        size = len(rendered)
        if until and size <= _LARGEST:
            if self._hot_bytes + size > MAX_HOT_BYTES or len(self._hot[tcp]) >= MAX_HOT:
                self._forget()
            self._hot[tcp][_words(query.packet)] = _Hot(rendered, until, labels)
            self._hot_bytes += size + len(query.packet)
        return rendered.reply(query.packet)

    def _forget(self) -> None:
        self._version = self._index.version
        self._hot[0].clear()
        self._hot[1].clear()
        self._hot_bytes = 0


def _words(packet: bytes) -> bytes:
    """All but the ID, in lower case up to the first zero: a name in which there is one is kept in several spellings."""
    end = packet.find(b"\0", QUESTION_AT)
    return packet[2:QUESTION_AT] + packet[QUESTION_AT:end].lower() + packet[end:]


def _refusal(query: Query) -> int:
    """Why there is no answer to such a question; NOERROR: there may be one."""
    if query.edns is not None and query.edns.version:
        return BADVERS
    if query.type in (AXFR, IXFR) or query.class_ != IN:
        return REFUSED
    if query.type in (0, OPT):
        return FORMERR
    return NOERROR


def _asked(query: Query, answer: Answer | None) -> Asked:
    """What others are asked: the question as it came, or the name to which an alias of ours leads."""
    dnssec = query.edns is not None and query.edns.dnssec
    flags = query.flags & (RD | CD)
    if answer is None:
        return Asked(query.question, query.name, query.type, query.class_, flags, dnssec)
    wire = answer.chase + query.question[-4:]
    return Asked(wire, answer.chase, query.type, query.class_, flags, dnssec)


def _joined(answer: Answer | None, message: Message) -> Sections:
    """The alias of ours, if there is one, and what others say of where it leads. The alias itself is there even if
    they know nothing of that, or do not answer: CoreDNS says so, too."""
    if answer is None:
        rcode = message.rcode if message.rcode < BADVERS else SERVFAIL
        return Sections(rcode, message.answers, message.authority, message.additional, message.flags & AD)
    return answer.sections._replace(answers=(*answer.sections.answers, *message.answers))
