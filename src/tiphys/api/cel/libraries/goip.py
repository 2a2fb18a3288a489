"""IP addresses and prefixes read by the rules of Go's net/netip, with its words for what is wrong.

Python's ipaddress accepts and words things differently. Source: the documentation of net/netip, RFC 5952.
"""

from __future__ import annotations

import ipaddress
import string
from dataclasses import dataclass
from functools import cached_property

from tiphys.api.kinds.base import quote

_HEX = frozenset(string.hexdigits)
_DIGITS = frozenset(string.digits)


class AddressError(ValueError):
    """Not an address or prefix; the text says why."""


@dataclass(frozen=True)
class Address:
    """An IPv4 or IPv6 address in network byte order."""

    packed: bytes
    zone: str = ""

    @property
    def family(self) -> int:
        return 4 if len(self.packed) == 4 else 6

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.packed)

    @property
    def mapped(self) -> bool:
        """Whether it is an IPv4 address in an IPv6 one."""
        return self.packed.startswith(b"\0" * 10 + b"\xff\xff") and self.size == 16

    @cached_property
    def number(self) -> int:
        return int.from_bytes(self.packed, "big")

    @property
    def unspecified(self) -> bool:
        return self.number == 0

    @property
    def loopback(self) -> bool:
        return self.packed[0] == 127 if self.family == 4 else self.number == 1

    @property
    def multicast(self) -> bool:
        return self.packed[0] & 0xF0 == 0xE0 if self.family == 4 else self.packed[0] == 0xFF

    @property
    def link_local_multicast(self) -> bool:
        if self.family == 4:
            return self.packed[:3] == b"\xe0\0\0"
        return self.packed[0] == 0xFF and self.packed[1] & 0xF == 2

    @property
    def link_local_unicast(self) -> bool:
        if self.family == 4:
            return self.packed[:2] == b"\xa9\xfe"
        return self.packed[0] == 0xFE and self.packed[1] & 0xC0 == 0x80

    @property
    def global_unicast(self) -> bool:
        broadcast = self.packed == b"\xff" * 4
        return not (broadcast or self.unspecified or self.loopback or self.multicast or self.link_local_unicast)

    def __str__(self) -> str:
        return str(ipaddress.ip_address(self.packed))


@dataclass(frozen=True)
class Prefix:
    """An address and how many of its leading bits count; the others are kept."""

    address: Address
    bits: int

    def masked(self) -> Prefix:
        address = self.address
        shift = address.size * 8 - self.bits
        return Prefix(Address((address.number >> shift << shift).to_bytes(address.size, "big")), self.bits)

    def contains(self, other: Address) -> bool:
        shift = self.address.size * 8 - self.bits
        return other.size == self.address.size and self.address.number >> shift == other.number >> shift

    def covers(self, other: Prefix) -> bool:
        """Whether every address of `other` is in it."""
        return self.bits <= other.bits and self.contains(other.address)

    def __str__(self) -> str:
        return f"{self.address}/{self.bits}"


def parse_address(text: str) -> Address:
    """Raises AddressError."""
    for char in text:
        if char == ".":
            return Address(_ipv4(text, text))
        if char == ":":
            return _ipv6(text)
        if char == "%":
            raise _wrong(text, "missing IPv6 address")
    raise _wrong(text, "unable to parse IP")


def parse_prefix(text: str) -> Prefix:
    """Raises AddressError."""
    head, slash, bits = text.rpartition("/")

    def wrong(message: str) -> AddressError:
        return AddressError(f"netip.ParsePrefix({quote(text)}): {message}")

    if not slash:
        raise wrong("no '/'")
    try:
        address = parse_address(head)
    except AddressError as error:
        raise wrong(str(error)) from None
    if address.zone:
        raise wrong("IPv6 zones cannot be present in a prefix")
    if not bits or any(char not in _DIGITS for char in bits) or (len(bits) > 1 and bits[0] == "0"):
        raise wrong(f"bad bits after slash: {quote(bits)}")
    if len(bits) > 3 or int(bits) > address.size * 8:
        raise wrong("bad bits after slash: " + quote(bits) if len(bits) > 18 else "prefix length out of range")
    return Prefix(address, int(bits))


def _wrong(text: str, message: str, at: str = "") -> AddressError:
    where = f" (at {quote(at)})" if at else ""
    return AddressError(f"ParseAddr({quote(text)}): {message}{where}")


def _ipv4(whole: str, text: str) -> bytes:
    fields: list[int] = []
    value = digits = 0
    for i, char in enumerate(text):
        if char in _DIGITS:
            if digits == 1 and value == 0:
                raise _wrong(whole, "IPv4 field has octet with leading zero")
            value, digits = value * 10 + int(char), digits + 1
            if value > 255:
                raise _wrong(whole, "IPv4 field has value >255")
        elif char != ".":
            raise _wrong(whole, "unexpected character", text[i:])
        elif i in (0, len(text) - 1) or text[i - 1] == ".":
            raise _wrong(whole, "IPv4 field must have at least one digit", text[i:])
        elif len(fields) == 3:
            raise _wrong(whole, "IPv4 address too long")
        else:
            fields.append(value)
            value = digits = 0
    if len(fields) < 3:
        raise _wrong(whole, "IPv4 address too short")
    return bytes((*fields, value))


def _ipv6(whole: str) -> Address:
    text, percent, zone = whole.partition("%")
    if percent and not zone:
        raise _wrong(whole, "zone must be a non-empty string")
    if text == "::":
        return Address(bytes(16), zone)
    packed, gap = bytearray(), -1
    if text.startswith("::"):
        gap, text = 0, text[2:]
    while len(packed) < 16:
        group = _group(whole, text)
        if text[len(group) : len(group) + 1] == ".":
            packed += _embedded(whole, text, len(packed), gap)
            text = ""
            break
        packed += int(group, 16).to_bytes(2, "big")
        text = text[len(group) :]
        if not text:
            break
        text = _after_colon(whole, text)
        if text[0] == ":":
            if gap >= 0:
                raise _wrong(whole, "multiple :: in address", text)
            gap, text = len(packed), text[1:]
            if not text:
                break
    if text:
        raise _wrong(whole, "trailing garbage after address", text)
    return Address(_expanded(whole, bytes(packed), gap), zone)


def _group(whole: str, text: str) -> str:
    """The hexadecimal digits at the beginning of `text`."""
    count = 0
    while count < len(text) and text[count] in _HEX:
        count += 1
        if count > 4:
            raise _wrong(whole, "each group must have 4 or less digits", text)
    if not count:
        raise _wrong(whole, "each colon-separated field must have at least one digit", text)
    return text[:count]


def _embedded(whole: str, text: str, filled: int, gap: int) -> bytes:
    if gap < 0 and filled != 12:
        raise _wrong(whole, "embedded IPv4 address must replace the final 2 fields of the address", text)
    if filled + 4 > 16:
        raise _wrong(whole, "too many hex fields to fit an embedded IPv4 at the end of the address", text)
    return _ipv4(whole, text)


def _after_colon(whole: str, text: str) -> str:
    if text[0] != ":":
        raise _wrong(whole, "unexpected character, want colon", text)
    if len(text) == 1:
        raise _wrong(whole, "colon must be followed by more characters", text)
    return text[1:]


def _expanded(whole: str, packed: bytes, gap: int) -> bytes:
    if len(packed) < 16:
        if gap < 0:
            raise _wrong(whole, "address string too short")
        return packed[:gap] + bytes(16 - len(packed)) + packed[gap:]
    if gap >= 0:
        raise _wrong(whole, "the :: must expand to at least one field of zeros")
    return packed
