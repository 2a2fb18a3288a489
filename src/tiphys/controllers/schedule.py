"""Cron schedules: when something happens next. Pure.

    minute hour day-of-month month day-of-week      and @hourly, @daily ..., @every 1h30m

What is a schedule is for `api.kinds.batch.schedule` to say; here its fields become times. If both day fields are
restricted a day that matches either counts, as cron always had it. Changes to daylight saving are taken as upstream's
parser (robfig/cron) takes them: the search goes by the zone's wall clock, so times that a change skips do not happen,
times that it repeats happen twice, and a day that has no midnight starts when its first hour does.
"""

from __future__ import annotations

import math
import re
from calendar import timegm
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

from tiphys.api.kinds.batch.schedule import problem

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
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"([0-9.]+)(h|ms|us|µs|μs|ns|m|s)")
_SEARCH_YEARS = 5
"""Upstream gives up after so many years as well."""
_SEARCH_STEPS = 100_000
"""Far more than five years take; a zone that once left out a whole day would have the search go in circles."""


class ScheduleError(ValueError):
    """The text is no schedule; the message says why, in upstream's words."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When something happens."""

    minutes: frozenset[int] = frozenset()
    hours: frozenset[int] = frozenset()
    days: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()
    any_day: bool = False
    """Day-of-month or day-of-week is unrestricted: a day has to match both fields then, else either."""
    zone: tzinfo = UTC
    every: int = 0
    """For "@every": the distance in seconds; the fields do not count then."""

    def next(self, after: float) -> float | None:
        """The first time later than `after`, both in seconds since the epoch; None if there is none in five years."""
        if self.every:
            return float(math.floor(after) + self.every)
        if not (self.minutes and self.hours and self.months and (self.days or self.weekdays)):
            return None  # "," is a field of which nothing matches
        return _Search(self, math.floor(after) + 1).find()

    def includes(self, day: datetime) -> bool:
        """Whether it happens on that day of its month."""
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return of_month and of_week if self.any_day else of_month or of_week


class _Circle(Exception):
    """The search does not get anywhere."""


class _Search:
    """Moves a time forward, field by field, until all of them match.

    A step says whether it got by without passing into the next year, month, day or hour; if not, everything before it
    has to be looked at again. The first step that moves the time at all cuts off what is smaller than its field."""

    def __init__(self, schedule: Schedule, start: int) -> None:
        self._schedule = schedule
        self._cut = False
        self._steps = _SEARCH_STEPS
        self._set(-(-start // 60) * 60)
        self._last_year = self._local.year + _SEARCH_YEARS

    def find(self) -> float | None:
        with suppress(_Circle):
            while self._local.year <= self._last_year:
                if self._month() and self._day() and self._hour() and self._minute():
                    return float(self._time)
        return None

    def _set(self, time: int) -> None:
        self._steps -= 1
        if self._steps < 0:
            raise _Circle
        self._time = time
        self._local = datetime.fromtimestamp(time, self._schedule.zone)

    def _set_wall(self, wall: datetime) -> None:
        """To when the zone's clocks show `wall`; where they never do, to a time as far from the change."""
        time = timegm(wall.timetuple())
        for _ in range(2):
            offset = datetime.fromtimestamp(time, self._schedule.zone).utcoffset() or timedelta()
            time = timegm(wall.timetuple()) - int(offset.total_seconds())
        self._set(time)

    def _cut_to(self, **smaller: int) -> None:
        if not self._cut:
            self._cut = True
            self._set_wall(self._local.replace(tzinfo=None, **smaller))

    def _month(self) -> bool:
        while self._local.month not in self._schedule.months:
            self._cut_to(day=1, hour=0, minute=0)
            wall = self._local.replace(tzinfo=None)
            following = (wall.replace(day=1) + timedelta(days=31)).replace(day=1)
            self._set_wall(following + timedelta(days=wall.day - 1))
            if self._local.month == 1:
                return False
        return True

    def _day(self) -> bool:
        while not self._schedule.includes(self._local):
            self._cut_to(hour=0, minute=0)
            self._set_wall(self._local.replace(tzinfo=None) + timedelta(days=1))
            if hour := self._local.hour:
                self._set(self._time + (24 - hour if hour > 12 else -hour) * 3600)
            if self._local.day == 1:
                return False
        return True

    def _hour(self) -> bool:
        while self._local.hour not in self._schedule.hours:
            self._cut_to(minute=0)
            self._set(self._time + 3600)
            if self._local.hour == 0:
                return False
        return True

    def _minute(self) -> bool:
        while self._local.minute not in self._schedule.minutes:
            self._cut = True
            self._set(self._time + 60)
            if self._local.minute == 0:
                return False
        return True


@lru_cache(maxsize=1024)
def parse(text: str, zone: str = "") -> Schedule:
    """The schedule that `text` describes, in the named time zone ("": UTC) unless it begins with TZ=name itself.

    Raises ScheduleError."""
    if why := problem(text):
        raise ScheduleError(why)
    if text.startswith(("TZ=", "CRON_TZ=")):
        named, _, text = text.partition(" ")
        zone, text = named.partition("=")[2], text.strip()
    try:
        where = load_zone(zone)
    except ScheduleError as error:
        raise ScheduleError(f"provided bad location {zone}: {error}") from error
    if text.startswith("@every "):
        return Schedule(zone=where, every=max(1, int(_seconds(text.removeprefix("@every ")))))
    fields = _MACROS.get(text, text).split()
    return Schedule(
        minutes=_field(fields[0], 0, 59),
        hours=_field(fields[1], 0, 23),
        days=_field(fields[2], 1, 31),
        months=_field(fields[3], 1, 12, _MONTHS),
        weekdays=_field(fields[4], 0, 6, _DAYS),
        any_day=_unrestricted(fields[2]) or _unrestricted(fields[4]),
        zone=where,
    )


def load_zone(name: str) -> tzinfo:
    """The named time zone; "" is UTC. Raises ScheduleError."""
    if name in ("", "UTC", "Local"):
        return UTC
    if ".." in name or name[0] in "/\\":
        raise ScheduleError("time: invalid location name")
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ScheduleError(f"unknown time zone {name}") from error


def _seconds(duration: str) -> float:
    total = sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(duration))
    return -total if duration.startswith("-") else total


def _unrestricted(field: str) -> bool:
    """Whether a part of it is "*" or "?", at every step."""
    for part in filter(None, field.split(",")):
        bounds, _, step = part.partition("/")
        if bounds.split("-")[0] in ("*", "?") and int(step or 1) == 1:
            return True
    return False


def _field(text: str, low: int, high: int, names: Mapping[str, int] | None = None) -> frozenset[int]:
    values: set[int] = set()
    for part in filter(None, text.split(",")):
        values.update(_range(part, low, high, names or {}))
    return frozenset(values)


def _range(text: str, low: int, high: int, names: Mapping[str, int]) -> range:
    bounds, slash, step = text.partition("/")
    first, dash, last = bounds.partition("-")
    if first in ("*", "?"):
        start, end = low, high
    else:
        start = _number(first, names)
        end = _number(last, names) if dash else start
    if slash and not dash:
        end = high
    return range(start, end + 1, int(step or 1))


def _number(text: str, names: Mapping[str, int]) -> int:
    return names[text.lower()] if text.lower() in names else int(text)
