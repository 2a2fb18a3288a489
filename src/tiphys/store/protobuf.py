"""Protocol Buffers' wire format, as much as etcd's messages need: numbers, bytes and messages in messages.

etcd's interface is a handful of small messages (`etcd_messages`), so they are written and read here by hand instead of
by generated classes. See https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
_SIGNED = 1 << 64


def varint(number: int) -> bytes:
    """A number from -2**63 to 2**64 - 1; negative ones take ten bytes."""
    number %= _SIGNED
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    """A field that holds a number or a flag; also when it is 0, which members of a `oneof` need."""
    return varint(field << 3 | VARINT) + varint(value)


def data(field: int, value: bytes) -> bytes:
    """A field that holds bytes, text or a message."""
    return b"".join((varint(field << 3 | LENGTH), varint(len(value)), value))


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of a message, in the order of the wire. Raises ValueError for what is none."""
    position, size = 0, len(message)
    while position < size:
        tag, position = _read_varint(message, position)
        kind = tag & 7
        if kind == VARINT:
            value, position = _read_varint(message, position)
            yield tag >> 3, value
            continue
        if kind == LENGTH:
            length, position = _read_varint(message, position)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind} at byte {position} is not known")
        end = position + length
        if end > size:
            raise ValueError(f"a field ends at byte {end} of {size}")
        yield tag >> 3, message[position:end]
        position = end


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    try:
        byte = message[position]
        if byte < 0x80:
            return byte, position + 1
        result, shift = byte & 0x7F, 7
        while True:
            position += 1
            byte = message[position]
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return result, position + 1
            shift += 7
    except IndexError:
        raise ValueError("the message ends inside of a number") from None
