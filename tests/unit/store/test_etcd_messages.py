"""etcd's messages by hand: what is written can be read, what is malformed is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiphys.store.etcd import Layout
from tiphys.store.etcd_messages import KeyValue, range_request, read_range, read_txn, read_watch, watch_request
from tiphys.store.protobuf import data, fields, number, varint
from tiphys.store.types import Unavailable


@given(st.integers(-(2**63), 2**64 - 1))
def test_numbers_are_read_as_they_were_written(value: int) -> None:
    ((field, found),) = fields(number(7, value))
    assert (field, found) == (7, value % 2**64)


@given(st.lists(st.tuples(st.integers(1, 2**20), st.binary(max_size=300))))
def test_fields_come_in_their_order(written: list[tuple[int, bytes]]) -> None:
    assert list(fields(b"".join(data(field, value) for field, value in written))) == written


def test_known_encodings() -> None:
    assert [varint(n) for n in (0, 1, 127, 128, 300)] == [b"\x00", b"\x01", b"\x7f", b"\x80\x01", b"\xac\x02"]
    assert range_request(b"k", b"l", revision=5, limit=2) == b"\x0a\x01k\x12\x01l\x18\x02\x20\x05"
    assert watch_request(b"a", b"b", 3) == b"\x0a\x0c\x0a\x01a\x12\x01b\x18\x03\x20\x010\x01"


@given(st.binary(max_size=60))
def test_what_is_malformed_is_refused_and_nothing_else_happens(message: bytes) -> None:
    for read in (read_range, read_txn, read_watch):
        try:
            read(message)
        except ValueError:
            continue


def test_fixed_fields_are_passed_over() -> None:
    message = varint(9 << 3 | 1) + b"12345678" + varint(8 << 3 | 5) + b"1234" + number(4, 6)
    assert read_range(message).count == 6


@given(st.text(max_size=20), st.text(max_size=20), st.binary(max_size=50))
def test_a_value_keeps_its_author(actor: str, cause: str, value: bytes) -> None:
    layout = Layout("/registry")
    found = KeyValue(layout.of("a/b"), layout.envelope(actor, cause) + value, 3, 4)
    assert layout.open(found) == (actor, cause, value)
    assert (layout.row(found).key, layout.row(found).created, layout.row(found).revision) == ("a/b", 3, 4)


@pytest.mark.parametrize("value", [b"", b"k8s\x00\n", b"{}", b'["a"]\nx', b"[1\nx"])
def test_a_value_of_somebody_else_is_refused(value: bytes) -> None:
    with pytest.raises(Unavailable, match="was not written by Tiphys"):
        Layout("registry").row(KeyValue(b"/registry/a", value, 1, 1))


def test_prefixes_may_be_written_with_or_without_slashes() -> None:
    for prefix in ("registry", "/registry", "/registry/"):
        layout = Layout(prefix)
        assert (layout.head, layout.all) == (b"/registry.head", (b"/registry.head", b"/registry0"))
        assert layout.span("a/") == (b"/registry/a/", b"/registry/a0")
