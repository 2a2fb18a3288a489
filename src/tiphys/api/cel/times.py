"""Timestamps (RFC 3339) and durations (Go's syntax): parsing, printing, fields in a time zone.

Sources: RFC 3339; Go's time.ParseDuration; cel-spec langdef.md for the fields, which count months, days of the month
and of the year from 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tiphys.api.cel.arithmetic import INT_MAX, INT_MIN, SECOND, timestamp
from tiphys.api.cel.types import EvaluationError
from tiphys.api.cel.values import Duration, Timestamp

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
}
_PART = re.compile(r"(\d*)(?:\.(\d*))?(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_TIMESTAMP = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d?):(\d\d):(\d\d)(?:[.,](\d+))?(Z|[+-]\d\d:\d\d)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_duration(text: str) -> int | None:
    """Nanoseconds of a duration like `-1h2.5m`; None when it is none, or does not fit 64 bits."""
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    if not rest or len(text) > 1000:
        return None
    total, at = 0, 0
    while at < len(rest):
        match = _PART.match(rest, at)
        if match is None or not (match[1] or match[2]):
            return None
        unit = _UNITS[match[3]]
        fraction = match[2] or ""
        total += int(match[1] or 0) * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)
        at = match.end()
    total = -total if text[0] == "-" else total
    return total if INT_MIN <= total <= INT_MAX else None


def parse_timestamp(text: str) -> Timestamp | None:
    """The moment of an RFC 3339 time; None when it is none. It may lie out of CEL's range."""
    match = _TIMESTAMP.fullmatch(text)
    if match is None or len(text) > 100:
        return None
    try:
        moment = datetime(*(int(match[at]) for at in range(1, 7)), tzinfo=UTC)  # type: ignore[arg-type, misc]
    except ValueError:
        return None
    fraction = int((match[7] or "0")[:9].ljust(9, "0"))
    offset = _offset_seconds(match[8])
    if offset is None:
        return None
    return Timestamp((_seconds(moment) - offset) * SECOND + fraction, offset)


def _offset_seconds(zone: str) -> int | None:
    if zone == "Z":
        return 0
    hours, minutes = int(zone[1:3]), int(zone[4:6])
    if hours > 24 or minutes > 60:
        return None
    return (hours * 3600 + minutes * 60) * (-1 if zone[0] == "-" else 1)


def _seconds(moment: datetime) -> int:
    delta = moment - _EPOCH
    return delta.days * 86400 + delta.seconds


def print_timestamp(moment: Timestamp) -> str:
    """RFC 3339 in its own time zone with as many digits as it takes."""
    seconds, nanoseconds = divmod(moment.nanoseconds, SECOND)
    try:
        local = _EPOCH + timedelta(seconds=seconds + moment.offset)
    except OverflowError as error:
        raise EvaluationError("timestamp overflow") from error
    fraction = f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""
    hours, minutes = divmod(abs(moment.offset) // 60, 60)
    zone = f"{'-' if moment.offset < 0 else '+'}{hours:02d}:{minutes:02d}" if moment.offset else "Z"
    return f"{local.year:04d}-{local.strftime('%m-%dT%H:%M:%S')}{fraction}{zone}"


def print_duration(span: Duration) -> str:
    """Seconds: `90s`, `0.5s`."""
    seconds, nanoseconds = divmod(abs(span.nanoseconds), SECOND)
    value = seconds + nanoseconds / SECOND
    text = format(value, "f") if value == int(value) else repr(value)
    if "e" in text:
        text = f"{value:.20f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return f"{'-' if span.nanoseconds < 0 else ''}{text}s"


def timestamp_of(text: str) -> Timestamp:
    """`timestamp(string)`."""
    parsed = parse_timestamp(text)
    if parsed is None:
        raise EvaluationError("type conversion error from 'string' to 'google.protobuf.Timestamp'")
    return timestamp(parsed.nanoseconds, parsed.offset)


def duration_of(text: str) -> Duration:
    """`duration(string)`."""
    parsed = parse_duration(text)
    if parsed is None:
        raise EvaluationError("type conversion error from 'string' to 'google.protobuf.Duration'")
    return Duration(parsed)


def _zone(name: str) -> tzinfo:
    """A time zone by its IANA name, or as an offset like `-08:00`."""
    if ":" in name:
        return _fixed(name)
    if name in ("", "UTC"):
        return UTC
    if len(name) > 100 or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_+\-]*(/[A-Za-z0-9_+\-]+)*", name):
        raise EvaluationError(f"unknown time zone {name}")
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError, ValueError) as error:
        raise EvaluationError(f"unknown time zone {name}") from error


def _fixed(name: str) -> tzinfo:
    hours, _, minutes = name.partition(":")
    for part in (hours, minutes):
        if not re.fullmatch(r"[+-]?[0-9]{1,4}", part):
            raise EvaluationError(f'strconv.Atoi: parsing "{part}": invalid syntax')
    offset = int(hours) * 60 + (-int(minutes) if name.startswith("-") else int(minutes))
    if abs(offset) >= 1440:
        raise EvaluationError(f"unknown time zone {name}")
    return timezone(timedelta(minutes=offset))


def _local(moment: Timestamp, zone: str) -> datetime:
    try:
        return (_EPOCH + timedelta(seconds=moment.nanoseconds // SECOND)).astimezone(_zone(zone))
    except OverflowError as error:
        raise EvaluationError("timestamp overflow") from error


def _field(read: Callable[[datetime], int]) -> Callable[..., int]:
    def get(moment: Timestamp, zone: str = "UTC") -> int:
        return read(_local(moment, zone))

    return get


full_year = _field(lambda local: local.year)
month = _field(lambda local: local.month - 1)
day_of_year = _field(lambda local: local.timetuple().tm_yday - 1)
day_of_month = _field(lambda local: local.day - 1)
date = _field(lambda local: local.day)
day_of_week = _field(lambda local: local.isoweekday() % 7)
hours = _field(lambda local: local.hour)
minutes = _field(lambda local: local.minute)
seconds = _field(lambda local: local.second)


def milliseconds(moment: Timestamp, zone: str = "UTC") -> int:
    _local(moment, zone)
    return moment.nanoseconds % SECOND // 1_000_000


def in_unit(nanoseconds: int) -> Callable[[Duration], int]:
    """Whole hours, minutes, ... of a duration, towards zero."""

    def get(span: Duration) -> int:
        whole = abs(span.nanoseconds) // nanoseconds
        return -whole if span.nanoseconds < 0 else whole

    return get
