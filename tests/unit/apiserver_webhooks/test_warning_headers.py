"""Warning headers: what gets into them and what does not."""

from __future__ import annotations

from tiphys.apiserver.warnings import header


def test_texts_are_quoted_and_told_once() -> None:
    assert header(['mind "the" gap', "mind the \\", 'mind "the" gap', ""]) == (
        '299 - "mind \\"the\\" gap", 299 - "mind the \\\\"'
    )
    assert header([]) == ""


def test_nothing_breaks_out_of_the_header() -> None:
    assert header(["a\r\nSet-Cookie: b", "c\x00", "d\x85", "\ud800", "fine"]) == '299 - "fine"'


def test_other_scripts_are_utf_8_on_the_wire() -> None:
    assert header(["früh 🚢"]).encode("latin-1").decode() == '299 - "früh 🚢"'


def test_long_texts_are_cut_when_they_are_too_many() -> None:
    assert header(["x" * 4096]) == '299 - "' + "x" * 4096 + '"'
    many = header([f"{number:03}" + "x" * 1000 for number in range(100)])
    assert many.count("299 - ") == 16
    assert len(many) < 16 * 270
