"""Messages of anybody: what is well-formed is read and written back, what is not is refused without harm."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dns_world import query, shown
from tiphys.dns import encode, names
from tiphys.dns.encode import Sections, limit_of, render
from tiphys.dns.names import from_text
from tiphys.dns.wire import AAAA, CNAME, IN, MX, SOA, SRV, TC, TXT, A, Malformed, Record, read_message, read_query

LABEL = st.binary(min_size=1, max_size=20)
NAME = st.lists(LABEL, max_size=8).map(names.from_labels)


def test_a_question_is_read() -> None:
    asked = read_query(query("Web.Default", "AAAA", payload=4096, dnssec=True))
    assert (asked.name, asked.type, asked.class_) == (from_text("web.default"), AAAA, IN)
    assert asked.question.startswith(b"\3Web")
    assert asked.edns is not None
    assert (asked.edns.payload, asked.edns.version, asked.edns.dnssec) == (4096, 0, True)


@pytest.mark.parametrize(
    ("packet", "rcode"),
    [
        (query("a")[:-1], 1),
        (query("a")[:13], 1),
        (struct.pack("!6H", 1, 0x0100, 0, 0, 0, 0), 1),
        (struct.pack("!6H", 1, 0x0100, 2, 0, 0, 0) + query("a")[12:] * 2, 1),
        (struct.pack("!6H", 1, 0x2800, 1, 0, 0, 0) + query("a")[12:], 4),
        (struct.pack("!6H", 1, 0x0100, 1, 0, 0, 65535) + query("a")[12:], 1),
        (struct.pack("!6H", 1, 0x0100, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1", 1),
        (struct.pack("!6H", 1, 0x0100, 1, 0, 0, 0) + b"\x41" + b"a" * 65 + b"\0\0\1\0\1", 1),
        (struct.pack("!6H", 1, 0x0100, 1, 0, 0, 0) + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1", 1),
        (query("a", payload=512)[:10] + b"\0\2" + query("a", payload=512)[12:] + query("a", payload=512)[-11:], 1),
    ],
)
def test_what_is_no_question_is_refused(packet: bytes, rcode: int) -> None:
    with pytest.raises(Malformed) as refused:
        read_query(packet)
    assert refused.value.rcode == rcode


HEAD = struct.pack("!6H", 1, 0x8180, 1, 1, 0, 0) + b"\1a\0\0\1\0\1"


@pytest.mark.parametrize(
    "rest",
    [
        b"\xc0\x13\0\1\0\1\0\0\0\0\0\0",  # points at itself
        b"\xc0\xff\0\1\0\1\0\0\0\0\0\0",  # points beyond the end
        b"\1b\xc0\x13\0\1\0\1\0\0\0\0\0\0",  # points at its own beginning
        b"\xc0",
        b"\x80\0\0\1\0\1\0\0\0\0\0\0",
        b"\0\0\1\0\1\0\0\0\0\0\4\1\2",  # data that are not there
        b"\0\0\5\0\1\0\0\0\0\0\1\7",  # a name beyond the data
        b"\0\0\5\0\1\0\0\0\0\0\3\0\0\0",  # and data beyond the name
    ],
)
def test_answers_that_make_no_sense_are_refused(rest: bytes) -> None:
    with pytest.raises(Malformed):
        read_message(HEAD + rest)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_read_or_refused(data: bytes, headed: bool) -> None:
    packet = HEAD + data if headed else data
    for read in (read_message, read_query) if len(packet) >= 12 else (read_message,):
        try:
            read(packet)
        except Malformed:
            continue


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_message_with_one_byte_changed_is_read_or_refused(data: st.DataObject) -> None:
    packet = bytearray(_answer([Record(from_text("b.a"), CNAME, IN, 5, from_text("c.a")), _soa("a")]))
    packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_message(bytes(packet))
    except Malformed:
        return


def _soa(name: str) -> Record:
    return Record(from_text(name), SOA, IN, 9, from_text("ns.a") + from_text("admin.b.a") + bytes(range(20)))


def _answer(records: list[Record], asked: str = "a", limit: int = 65535) -> bytes:
    packet = query(asked)
    return render(read_query(packet), Sections(answers=tuple(records)), limit).reply(packet)


RECORDS = st.lists(
    st.one_of(
        st.builds(lambda name, to: Record(name, CNAME, IN, 30, to), NAME, NAME),
        st.builds(lambda name, to: Record(name, MX, IN, 30, b"\0\5" + to), NAME, NAME),
        st.builds(lambda name, to: Record(name, SRV, IN, 30, b"\0\1\0\2\0\3" + to), NAME, NAME),
        st.builds(lambda name, one, two: Record(name, SOA, IN, 1, one + two + bytes(20)), NAME, NAME, NAME),
        st.builds(
            lambda name, text: Record(name, TXT, IN, 1, bytes((len(text),)) + text), NAME, st.binary(max_size=99)
        ),
        st.builds(lambda name: Record(name, A, IN, 2**31, b"\1\2\3\4"), NAME),
    ),
    max_size=12,
)


@settings(max_examples=200, deadline=None)
@given(RECORDS, NAME)
def test_what_is_written_is_read_back(records: list[Record], asked: bytes) -> None:
    packet = query("x")[:12] + asked + b"\0\1\0\1"
    said = Sections(3, tuple(records), tuple(records[:2]), tuple(records[2:3]))
    read = read_message(render(read_query(packet), said, 65535).reply(packet))
    lower = [(each.name.lower(), each.data.lower()) for each in read.answers]
    assert lower == [(each.name.lower(), each.data.lower()) for each in records]
    assert (read.id, read.rcode, read.question[0]) == (4711, 3, asked.lower())
    assert (len(read.authority), len(read.additional)) == (len(records[:2]), len(records[2:3]))


def test_names_are_written_once_but_not_in_the_data_of_newer_types() -> None:
    name = from_text("_http._tcp.web.default.svc.cluster.local")
    target = from_text("web.default.svc.cluster.local")
    packet = _answer([Record(name, SRV, IN, 30, bytes(6) + target)], "_http._tcp.web.default.svc.cluster.local")
    assert packet.count(target) == 2  # the question has it, and the data
    packet = _answer([Record(name, CNAME, IN, 30, target)], "_http._tcp.web.default.svc.cluster.local")
    assert packet.count(target) == 1
    assert shown(read_message(packet).answers[0]).endswith("CNAME web.default.svc.cluster.local.")


@pytest.mark.parametrize(("payload", "expected"), [(0, 512), (100, 512), (900, 900), (65535, 1232)])
def test_an_answer_by_udp_is_no_longer_than_its_asker_takes(payload: int, expected: int) -> None:
    asked = read_query(query("many", payload=payload))
    addresses = [Record(asked.name, A, IN, 30, n.to_bytes(4, "big")) for n in range(500)]
    assert limit_of(asked, tcp=False) == expected
    for spin in (0, 500):
        said = Sections(answers=tuple(addresses), spin=spin)
        cut = render(asked, said, limit_of(asked, tcp=False)).reply(asked.packet)
        read = read_message(cut)
        assert expected - 16 < len(cut) <= expected
        assert read.flags & TC
        assert (read.edns is not None) is bool(payload)
        whole = read_message(render(asked, said, limit_of(asked, tcp=True)).reply(asked.packet))
        assert len(whole.answers) == 500
        assert not whole.flags & TC


def test_each_answer_begins_with_another_address() -> None:
    asked = read_query(query("many"))
    addresses = tuple(Record(asked.name, A, IN, 30, bytes((10, 0, 0, n))) for n in range(3))
    rendered = render(asked, Sections(answers=addresses, spin=3), 512)
    turns = [[each.data[3] for each in read_message(rendered.reply(asked.packet)).answers] for _ in range(4)]
    assert turns == [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]


def test_addresses_behind_an_alias_turn_too() -> None:
    asked = read_query(query("alias.test"))
    to = from_text("web.test")
    alias = Record(asked.name, CNAME, IN, 30, to)
    addresses = tuple(Record(to, A, IN, 30, bytes((10, 0, 0, n))) for n in range(2))
    rendered = render(asked, Sections(answers=(alias, *addresses), spin=2), 512)
    first, second = (read_message(rendered.reply(asked.packet)).answers for _ in range(2))
    assert [each.name for each in first] == [asked.name, to, to]
    assert first[1:] == (second[2], second[1])


def test_the_question_comes_back_in_its_own_capitals() -> None:
    asked = read_query(query("KuBerNetes.DEFAULT"))
    reply = render(asked, Sections(), 512).reply(asked.packet)
    assert b"\x0aKuBerNetes\7DEFAULT\0" in reply


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10-0-0-1", "10.0.0.1"),
        ("fd00--1", "fd00::1"),
        ("--1", "::1"),
        ("10-0-0", ""),
        ("a-b-c-d", ""),
        ("1-2-3-400", ""),
    ],
)
def test_addresses_with_dashes(text: str, address: str) -> None:
    found = names.undashed(text.encode())
    assert found == names.packed(address)
    assert not found or names.dashed(found) == text.encode()


def test_names_for_people() -> None:
    assert names.to_text(names.from_labels([b"a.b", b"\x07\xff", b"c"])) == "a\\046b.\\007\\255.c."
    assert names.from_text("") == names.from_text(".") == b"\0"
    with pytest.raises(ValueError, match="64 bytes"):
        names.from_text("a" * 64)
    with pytest.raises(ValueError, match="name of"):
        names.from_text(".".join(["a" * 60] * 5))


def test_a_question_to_another_server() -> None:
    asked = read_query(encode.question(9, from_text("a.test") + b"\0\1\0\1", 0xFFFF, edns=True, dnssec=True))
    assert asked.flags == 0x0110
    assert asked.edns is not None
    assert asked.edns.dnssec
