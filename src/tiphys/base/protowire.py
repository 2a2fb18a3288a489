"""The protobuf wire format: varints, lengths, tags, and skipping what nobody knows.

Source: protobuf.dev, Encoding. The limits and the words of errors are those of the decoders that upstream
generates (gogo/protobuf): ten bytes a varint, lengths inside the message, unknown fields skipped.
"""

from __future__ import annotations

VARINT, FIXED64, BYTES, START_GROUP, END_GROUP, FIXED32 = range(6)
DEEPEST_GROUP = 64
_MASK = 2**64 - 1
_ONE = tuple(bytes((number,)) for number in range(128))


class Malformed(ValueError):
    """Bytes that are not the message they should be."""


def varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """The unsigned number at `position` and where it ends. Raises Malformed."""
    value = shift = 0
    while position < end:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK, position
        shift += 7
        if shift >= 70:
            raise Malformed("proto: integer overflow")
    raise Malformed("unexpected EOF")


def span(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Start and end of a length-delimited value whose length is at `position`. Raises Malformed."""
    if position < end and data[position] < 128:
        length, position = data[position], position + 1
    else:
        length, position = varint(data, position, end)
    if length >= 2**63:
        raise Malformed("proto: negative length found during unmarshaling")
    stop = position + length
    if stop > end:
        raise Malformed("unexpected EOF")
    return position, stop


def skip(data: bytes, position: int, end: int, kind: int) -> int:
    """Where the value of an unknown field ends. `kind` is its wire type. Raises Malformed."""
    depth = 0
    while True:
        if kind == VARINT:
            position = varint(data, position, end)[1]
        elif kind == BYTES:
            position = span(data, position, end)[1]
        elif kind in (FIXED64, FIXED32):
            position += 8 if kind == FIXED64 else 4
        elif kind == START_GROUP and depth < DEEPEST_GROUP:
            depth += 1
        elif kind == END_GROUP and depth:
            depth -= 1
        elif kind == END_GROUP:
            raise Malformed("proto: unexpected end of group")
        else:
            raise Malformed(f"proto: illegal wireType {kind}")
        if position > end:
            raise Malformed("unexpected EOF")
        if not depth:
            return position
        tag, position = varint(data, position, end)
        kind = tag & 7


def signed(value: int, bits: int) -> int:
    """The two's complement number of `bits` bits in the low end of `value`."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def number(value: int) -> bytes:
    """A varint. Negative numbers take ten bytes."""
    if 0 <= value < 128:
        return _ONE[value]
    value &= _MASK
    out = bytearray()
    while value > 127:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def tag(field: int, kind: int) -> bytes:
    return number(field << 3 | kind)


def delimited(data: bytes) -> bytes:
    """`data` with its length in front."""
    length = len(data)
    return (_ONE[length] if length < 128 else number(length)) + data
