"""Quantities: exact decimal numbers with a unit suffix ("100m", "1.5Gi", "12e6").

Canonical text is that of the API: no fractional digits but by a smaller suffix, the largest suffix that keeps
the mantissa an integer, the suffix family of the input kept. Values finer than a nano are rounded up.
Source: the API reference, "Quantity", and its apimachinery grammar.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

PATTERN = r"^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"
FORMAT_ERROR = f"quantities must match the regular expression '{PATTERN}'"
SUFFIX_ERROR = "unable to parse quantity's suffix"
NUMBER_ERROR = "unable to parse numeric part of quantity"

Format = Literal["decimal", "binary", "exponent"]

_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_SUFFIX = {power: suffix for suffix, power in _DECIMAL.items()}
_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_TEXT = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(.*)", re.DOTALL)
_EXPONENT = re.compile(r"[eE]([+-]?[0-9]+)")
_NANO = 10**9
_LARGEST = 2**63 - 1
_ABSURD = 10**100
"""Nanos beyond which an amount is the largest, whatever its suffix."""
_LONGEST = 1000
"""Characters of a quantity's text."""
_EXTREME = 2000
"""An exponent beyond which every text is the largest or the smallest amount: 10 to whatever is asked for would be
computed for ever."""


@dataclass(frozen=True, slots=True, order=False)
class Quantity:
    """An amount, in nano-units so that arithmetic is exact, and the family of suffixes to print it with."""

    nanos: int
    format: Format = "decimal"

    @property
    def value(self) -> int:
        """Whole units, rounded up (away from zero), as containers' limits are; what 64 bits leave of them."""
        return _int64(_divide_up(self.nanos, _NANO))

    @property
    def milli(self) -> int:
        """Thousandths, rounded up: CPU in millicores; what 64 bits leave of them."""
        return _int64(_divide_up(self.nanos, _NANO // 1000))

    def __str__(self) -> str:
        return _text(self)

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity(self.nanos + other.nanos, self.format if self.nanos else other.format)

    def __sub__(self, other: Quantity) -> Quantity:
        return Quantity(self.nanos - other.nanos, self.format if self.nanos else other.format)

    def __neg__(self) -> Quantity:
        return Quantity(-self.nanos, self.format)

    def __lt__(self, other: Quantity) -> bool:
        return self.nanos < other.nanos

    def __le__(self, other: Quantity) -> bool:
        return self.nanos <= other.nanos

    def __gt__(self, other: Quantity) -> bool:
        return self.nanos > other.nanos

    def __ge__(self, other: Quantity) -> bool:
        return self.nanos >= other.nanos

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and self.nanos == other.nanos

    def __hash__(self) -> int:
        return hash(self.nanos)


ZERO = Quantity(0)


def from_units(value: int | Fraction, format: Format = "decimal") -> Quantity:
    """`value` whole units."""
    return Quantity(_ceil_away(Fraction(value) * _NANO), format)


def from_milli(value: int, format: Format = "decimal") -> Quantity:
    """`value` thousandths."""
    return Quantity(value * (_NANO // 1000), format)


@lru_cache(maxsize=4096)
def parse(text: str) -> Quantity:
    """The quantity that `text` spells. Raises ValueError with the API's words."""
    if not text:
        raise ValueError("quantities must match the regular expression '" + PATTERN + "'")
    if len(text) > _LONGEST:
        raise ValueError(NUMBER_ERROR)
    sign, whole, fraction, suffix = _split(text)
    power, format = _suffix(suffix)
    digits = Fraction(int((whole + fraction) or "0"), 10 ** len(fraction))
    amount = _ceil_away(digits * power * _NANO)
    if format == "binary" or amount > _ABSURD:
        amount = min(amount, _LARGEST * _NANO)
    return Quantity(-amount if sign == "-" else amount, format)


@lru_cache(maxsize=4096)
def canonical(text: str) -> str:
    """`text` as the API writes it back. Raises ValueError."""
    return str(parse(text))


def is_quantity(text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def _split(text: str) -> tuple[str, str, str, str]:
    match = _TEXT.fullmatch(text)
    assert match is not None, "the pattern takes any text"
    sign, whole, fraction, suffix = match.groups()
    fraction = fraction or ""
    if not whole and not fraction:
        raise ValueError(FORMAT_ERROR)
    if not re.fullmatch(r"[eEinumkKMGTP]*[-+]?[0-9]*", suffix):
        raise ValueError(FORMAT_ERROR)
    return sign, whole, fraction, suffix


def _suffix(suffix: str) -> tuple[Fraction, Format]:
    if suffix in _DECIMAL:
        return Fraction(10) ** _DECIMAL[suffix], "decimal"
    if suffix in _BINARY:
        return Fraction(1024) ** _BINARY.index(suffix), "binary"
    exponent = _EXPONENT.fullmatch(suffix)
    if exponent is None:
        raise ValueError(SUFFIX_ERROR)
    return Fraction(10) ** max(-_EXTREME, min(int(exponent[1]), _EXTREME)), "exponent"


def _text(quantity: Quantity) -> str:
    nanos, format = quantity.nanos, quantity.format
    if nanos == 0:
        return "0"
    if format == "binary" and abs(nanos) >= 1024 * _NANO and nanos % _NANO == 0:
        return _binary_text(nanos // _NANO)
    power = -9
    while nanos % 1000 == 0 and power < 18:
        nanos //= 1000
        power += 3
    if format == "exponent":
        return f"{nanos}e{power}" if power else str(nanos)
    return f"{nanos}{_DECIMAL_SUFFIX[power]}"


def _binary_text(units: int) -> str:
    step = 0
    while units % 1024 == 0 and step < len(_BINARY) - 1:
        units //= 1024
        step += 1
    return f"{units}{_BINARY[step]}"


def _divide_up(amount: int, unit: int) -> int:
    return -((-amount) // unit) if amount >= 0 else -((amount * -1 + unit - 1) // unit)


def _int64(amount: int) -> int:
    return amount if -_LARGEST <= amount <= _LARGEST else (amount + 2**63) % 2**64 - 2**63


def _ceil_away(amount: Fraction) -> int:
    return -((-amount.numerator) // amount.denominator)
