"""Cron schedules: five fields, names, ranges, steps, lists, @macros and time zones. Pure.

    minute hour day-of-month month day-of-week

Sunday is 0 or 7. If both day fields are restricted a day that matches either counts, as cron always had it. Times
that a change to daylight saving skips do not happen; times that it repeats happen twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, start=1)}
_DAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_SEARCH_YEARS = 5
"""29 February on a given weekday may be farther away than that, but upstream stops searching here as well."""


class ScheduleError(ValueError):
    """The text is no schedule; the message says why."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When something happens."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    """Day-of-month is unrestricted."""
    any_weekday: bool
    zone: tzinfo
    every: float = 0.0
    """For "@every": the distance in seconds; the fields do not count then."""

    def next(self, after: float) -> float | None:
        """The first time later than `after`, both in seconds since the epoch; None if there is none in five years."""
        if self.every:
            return float(int(after)) + max(1.0, float(int(self.every)))
        local = datetime.fromtimestamp(after, self.zone).replace(second=0, microsecond=0, tzinfo=None)
        moment = local + timedelta(minutes=1)
        last = moment.year + _SEARCH_YEARS
        while moment.year <= last:
            found = self._skip(moment)
            if found != moment:
                moment = found
                continue
            stamp = self._stamp(moment, after)
            if stamp is not None:
                return stamp
            moment += timedelta(minutes=1)
        return None

    def _skip(self, moment: datetime) -> datetime:
        """The start of the next month, day, hour or minute worth a look; `moment` itself if it matches."""
        if moment.month not in self.months:
            first = moment.replace(day=1, hour=0, minute=0)
            return (first + timedelta(days=32)).replace(day=1)
        if not self._day_matches(moment):
            return moment.replace(hour=0, minute=0) + timedelta(days=1)
        if moment.hour not in self.hours:
            return moment.replace(minute=0) + timedelta(hours=1)
        if moment.minute not in self.minutes:
            return moment + timedelta(minutes=1)
        return moment

    def _day_matches(self, moment: datetime) -> bool:
        day = moment.day in self.days
        weekday = moment.isoweekday() % 7 in self.weekdays
        return day and weekday if self.any_day or self.any_weekday else day or weekday

    def _stamp(self, moment: datetime, after: float) -> float | None:
        """The first real time, later than `after`, when clocks in the zone show `moment`; None if they never do."""
        for fold in (0, 1):
            aware = moment.replace(tzinfo=self.zone, fold=fold)
            stamp = aware.timestamp()
            if stamp > after and datetime.fromtimestamp(stamp, self.zone).replace(tzinfo=None) == moment:
                return stamp
        return None


@lru_cache(maxsize=1024)
def parse(text: str, zone: str = "") -> Schedule:
    """The schedule that `text` describes, in the named time zone ("": UTC). Raises ScheduleError."""
    zone, text = _zone_prefix(zone, text.strip())
    where = _zone(zone)
    if text.startswith("@every "):
        return _every(text, where)
    text = _MACROS.get(text, text)
    if text.startswith("@"):
        raise ScheduleError(f"unrecognized descriptor: {text}")
    fields = text.split()
    if len(fields) != 5:
        raise ScheduleError(f"expected exactly 5 fields, found {len(fields)}: {fields}")
    weekdays = {day % 7 for day in _field(fields[4], 0, 7, _DAYS)}
    return Schedule(
        minutes=frozenset(_field(fields[0], 0, 59)),
        hours=frozenset(_field(fields[1], 0, 23)),
        days=frozenset(_field(fields[2], 1, 31)),
        months=frozenset(_field(fields[3], 1, 12, _MONTHS)),
        weekdays=frozenset(weekdays),
        any_day=_unrestricted(fields[2]),
        any_weekday=_unrestricted(fields[4]),
        zone=where,
    )


def _zone_prefix(zone: str, text: str) -> tuple[str, str]:
    for prefix in ("CRON_TZ=", "TZ="):
        if text.startswith(prefix):
            named, _, rest = text.partition(" ")
            return zone or named.removeprefix(prefix), rest.strip()
    return zone, text


def _zone(name: str) -> tzinfo:
    if name in ("", "UTC", "Etc/UTC"):
        return UTC
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ScheduleError(f"unknown time zone {name}") from error


def _every(text: str, zone: tzinfo) -> Schedule:
    parts = re.findall(r"([0-9.]+)(h|ms|us|µs|ns|m|s)", text.removeprefix("@every "))
    if not parts or "".join(map("".join, parts)) != text.removeprefix("@every ").strip():
        raise ScheduleError(f"failed to parse duration {text}")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    nothing: frozenset[int] = frozenset()
    return Schedule(nothing, nothing, nothing, nothing, nothing, False, False, zone, every=max(1.0, seconds))


def _unrestricted(field: str) -> bool:
    return any(part.split("/")[0] in ("*", "?") for part in field.split(","))


def _field(text: str, low: int, high: int, names: Mapping[str, int] | None = None) -> set[int]:
    values: set[int] = set()
    for part in text.split(","):
        values |= _range(part, low, high, names or {})
    return values


def _range(text: str, low: int, high: int, names: Mapping[str, int]) -> set[int]:
    bounds, slash, step_text = text.partition("/")
    first_text, dash, last_text = bounds.partition("-")
    if first_text in ("*", "?") and not dash:
        first, last = low, high if high != 7 else 6
    else:
        first = _number(first_text, names)
        last = _number(last_text, names) if dash else (high if slash else first)
    step = _number(step_text, {}) if slash else 1
    if step == 0:
        raise ScheduleError(f"step of range should be a positive number: {text}")
    if first < low:
        raise ScheduleError(f"beginning of range ({first}) below minimum ({low}): {text}")
    if last > high:
        raise ScheduleError(f"end of range ({last}) above maximum ({high}): {text}")
    if first > last:
        raise ScheduleError(f"beginning of range ({first}) beyond end of range ({last}): {text}")
    return set(range(first, last + 1, step))


def _number(text: str, names: Mapping[str, int]) -> int:
    if text.lower() in names:
        return names[text.lower()]
    if not text.isdigit():
        raise ScheduleError(f"failed to parse int from {text}")
    return int(text)
