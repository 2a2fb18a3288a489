"""Values between their JSON form and the bytes of a length-delimited field.

Most are messages with a Go type of their own: Time is seconds and nanoseconds, Quantity its text, IntOrString a
union of three fields that are always there, RawExtension, FieldsV1 and JSON hold JSON text as bytes. `READ` and `WRITE`
are keyed by the shape's kind (tiphys.api.schema). Sources: the *_proto.go files of apimachinery.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import orjson

from tiphys.base.protowire import BYTES, VARINT, Malformed, delimited, number, signed, skip, span, varint

ZERO_TIME = "0001-01-01T00:00:00Z"
"""Go's zero time: an empty message."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_string(data: bytes, start: int, stop: int) -> str:
    """Bytes that are not UTF-8 become U+FFFD, as when Go writes them as JSON."""
    return data[start:stop].decode("utf-8", "replace")


def read_bytes(data: bytes, start: int, stop: int) -> str:
    return base64.b64encode(data[start:stop]).decode("ascii")


def read_number(data: bytes, start: int, stop: int) -> dict[int, Any]:
    """The fields of a small flat message: integers and byte strings by field number."""
    out: dict[int, Any] = {}
    while start < stop:
        tag, start = varint(data, start, stop)
        if tag & 7 == VARINT:
            out[tag >> 3], start = varint(data, start, stop)
        elif tag & 7 == BYTES:
            first, start = span(data, start, stop)
            out[tag >> 3] = data[first:start]
        else:
            start = skip(data, start, stop, tag & 7)
    return out


def _integer(fields: Mapping[int, Any], field: int, bits: int) -> int:
    value = fields.get(field, 0)
    if value.__class__ is not int:
        raise Malformed(f"proto: wrong wireType = {BYTES} for field {field}")
    return signed(value, bits)


def _octets(fields: Mapping[int, Any], field: int) -> bytes:
    value = fields.get(field, b"")
    if value.__class__ is not bytes:
        raise Malformed(f"proto: wrong wireType = {VARINT} for field {field}")
    found: bytes = value
    return found


def read_quantity(data: bytes, start: int, stop: int) -> str:
    """An amount; 0 for a message without text."""
    return _octets(read_number(data, start, stop), 1).decode("utf-8", "replace") or "0"


@lru_cache(maxsize=1024)
def _moment(seconds: int) -> str:
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        raise Malformed("Time.MarshalJSON: year outside of range [0,9999]") from None
    return f"{moment:%Y-%m-%dT%H:%M:%S}".rjust(19, "0")


def read_time(data: bytes, start: int, stop: int) -> str | None:
    """Whole seconds: upstream does not look at the nanoseconds. None for the zero time."""
    if start == stop:
        return None
    return _moment(_integer(read_number(data, start, stop), 1, 64)) + "Z"


def read_micro_time(data: bytes, start: int, stop: int) -> str | None:
    """Six digits of fraction. None for the zero time."""
    if start == stop:
        return None
    fields = read_number(data, start, stop)
    carried, micros = divmod(int(_integer(fields, 2, 32) / 1000), 1_000_000)
    return f"{_moment(_integer(fields, 1, 64) + carried)}.{micros:06}Z"


def read_int_or_string(data: bytes, start: int, stop: int) -> int | str:
    fields = read_number(data, start, stop)
    if _integer(fields, 1, 64) == 1:
        return _octets(fields, 3).decode("utf-8", "replace")
    return _integer(fields, 2, 32)


def read_json(data: bytes, start: int, stop: int) -> Any:
    """The parsed text of RawExtension, FieldsV1 or JSON. Raises Malformed for what is not JSON."""
    text = _octets(read_number(data, start, stop), 1)
    if not text:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"json: error calling MarshalJSON for type runtime.RawExtension: {error}") from error


def write_string(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")


def write_bytes(value: str) -> bytes:
    try:
        return base64.b64decode(value)
    except binascii.Error as error:
        raise ValueError(f"illegal base64 data: {error}") from error


def write_quantity(value: str | None) -> bytes:
    return b"\x0a" + delimited(str(value or "0").encode())


@lru_cache(maxsize=1024)
def _timestamp(text: str, micro: bool) -> bytes:
    if text == ZERO_TIME:
        return b""
    moment = datetime.fromisoformat(text)
    seconds = (moment.replace(microsecond=0) - _EPOCH) // timedelta(seconds=1)
    return b"\x08" + number(seconds) + b"\x10" + number(moment.microsecond * 1000 if micro else 0)


def write_time(value: str | None) -> bytes:
    return _timestamp(value, False) if value else b""


def write_micro_time(value: str | None) -> bytes:
    return _timestamp(value, True) if value else b""


def write_int_or_string(value: int | str | None) -> bytes:
    if isinstance(value, str):
        return b"\x08\x01\x10\x00\x1a" + delimited(value.encode())
    return b"\x08\x00\x10" + number(value or 0) + b"\x1a\x00"


def write_json(value: Any) -> bytes:
    return b"" if value is None else b"\x0a" + delimited(orjson.dumps(value))


READ: Mapping[str, Callable[[bytes, int, int], Any]] = MappingProxyType(
    {
        "string": read_string,
        "bytes": read_bytes,
        "quantity": read_quantity,
        "time": read_time,
        "micro-time": read_micro_time,
        "int-or-string": read_int_or_string,
        "raw": read_json,
        "any": read_json,
    }
)
WRITE: Mapping[str, Callable[[Any], bytes]] = MappingProxyType(
    {
        "string": write_string,
        "bytes": write_bytes,
        "quantity": write_quantity,
        "time": write_time,
        "micro-time": write_micro_time,
        "int-or-string": write_int_or_string,
        "raw": write_json,
        "any": write_json,
    }
)
