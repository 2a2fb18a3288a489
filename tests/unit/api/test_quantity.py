"""Quantities: canonical text, exact values, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiphys.api import intstr
from tiphys.api.quantity import Quantity, canonical, from_milli, from_units, is_quantity, parse


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("1000m", "1"), ("0.5", "500m"), ("1.5Gi", "1536Mi"), ("1Ki", "1Ki"), ("1024", "1024"), ("1024Ki", "1Mi"),
        ("12e6", "12e6"), ("1000k", "1M"), ("0Mi", "0"), ("100m", "100m"), ("0.1m", "100u"), ("1.", "1"),
        (".5", "500m"),
        ("-1.5", "-1500m"), ("+2", "2"), ("0.5Ki", "512"), ("1E", "1E"), ("1e3", "1e3"), ("0.0000000001", "1n"),
        ("1500", "1500"), ("2000", "2k"), ("1.00001Ki", "1024010240u"),
    ],
)  # fmt: skip
def test_canonical_text(text: str, result: str) -> None:
    assert canonical(text) == result


@pytest.mark.parametrize("text", ["", "x", "1x", "1 ", "Ki", "1KiB", "1e", "--1", ".", "1.2.3"])
def test_what_is_no_quantity(text: str) -> None:
    assert not is_quantity(text)


def test_values() -> None:
    assert parse("1500m").value == 2
    assert parse("1500m").milli == 1500
    assert parse("128Mi").value == 128 * 2**20
    assert parse("1n").milli == 1
    assert parse("99999999999Gi").value == 2**63 - 1
    assert parse("12345678901234567890").value == 12345678901234567890 - 2**64


def test_arithmetic_and_order() -> None:
    assert str(parse("100m") + parse("900m")) == "1"
    assert str(parse("1Gi") - parse("512Mi")) == "512Mi"
    assert parse("1") == parse("1000m")
    assert parse("1k") < parse("1Ki")
    assert hash(parse("1")) == hash(parse("1000m"))
    assert str(from_units(2)) == "2"
    assert str(from_milli(250)) == "250m"
    assert str(-parse("1")) == "-1"


@given(st.integers(min_value=-(2**60), max_value=2**60), st.sampled_from(["decimal", "exponent"]))
def test_text_parses_back_to_the_same_amount(nanos: int, family: str) -> None:
    quantity = Quantity(nanos, family)  # type: ignore[arg-type] # hypothesis does not keep Literal types
    assert parse(str(quantity)).nanos == nanos


def test_percentages_round_as_asked() -> None:
    assert intstr.scaled("25%", 10, round_up=True) == 3
    assert intstr.scaled("25%", 10, round_up=False) == 2
    assert intstr.scaled(4, 10, round_up=True) == 4
    with pytest.raises(ValueError, match="is not a percentage"):
        intstr.scaled("a", 10, round_up=True)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1e99999999", "9223372036854775807"), ("1E99999999999999999", "9223372036854775807"), ("0e99999999", "0"),
        ("1e-99999999", "1n"), ("-1e99999999", "-9223372036854775807"), ("0." + "0" * 900 + "1e910", "1e9"),
    ],
)  # fmt: skip
def test_extreme_exponents_take_no_time(text: str, shown: str) -> None:
    assert parse(text).nanos == parse(shown).nanos


def test_a_text_without_end_is_no_quantity() -> None:
    with pytest.raises(ValueError, match="numeric part"):
        parse("1" * 5000)
