"""Heads of responses: what a handler says cannot become more fields than it has."""

from __future__ import annotations

import pytest

from tiphys.base.http import encode


@pytest.mark.parametrize(
    "headers", [{"A": "b\r\nSet-Cookie: c"}, {"A": "b\n"}, {"A": "b\rc"}, {"A\r\nB": "c"}, {"A\nB": "c", "D": "e"}]
)
def test_a_header_cannot_break_out_of_its_line(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="line break"):
        encode.head(200, headers, 0)


def test_a_length_that_is_given_is_not_given_twice() -> None:
    assert encode.head(200, {"Content-Length": "7", "X": "y"}, 0).lower().count(b"content-length") == 1
    assert b"content-length: 3\r\n" in encode.head(200, {"X": "no Content-Length here"}, 3)
