from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiphys.base.clock import parse_rfc3339, rfc3339
from tiphys.controllers.schedule import ScheduleError, parse


def following(schedule: str, after: str, zone: str = "") -> str | None:
    found = parse(schedule, zone).next(parse_rfc3339(after))
    return None if found is None else rfc3339(found)


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        ("*/1 * * * *", "2026-01-01T00:00:30Z", "2026-01-01T00:01:00Z"),
        ("*/15 * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:15:00Z"),
        ("0 9-17/4 * * MON-FRI", "2026-01-02T18:00:00Z", "2026-01-05T09:00:00Z"),
        ("30 4 1,15 * *", "2026-01-01T05:00:00Z", "2026-01-15T04:30:00Z"),
        ("30 4 1,15 * FRI", "2026-01-01T05:00:00Z", "2026-01-02T04:30:00Z"),
        ("1,,2 * * * *", "2026-01-01T00:01:30Z", "2026-01-01T00:02:00Z"),
        (", * * * *", "2026-01-01T00:00:00Z", None),
        ("0 0 * */3 *", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
        ("0 0 * * 0", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
        ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("5/20 * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:05:00Z"),
        ("5/20 * * * *", "2026-01-01T00:45:00Z", "2026-01-01T01:05:00Z"),
        ("0 0 ? jan,JUL *", "2026-01-31T12:00:00Z", "2026-07-01T00:00:00Z"),
        ("@hourly", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"),
        ("@weekly", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
        ("@yearly", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("@every 1h30m", "2026-01-01T00:00:00Z", "2026-01-01T01:30:00Z"),
        ("59 23 31 2 *", "2026-01-01T00:00:00Z", None),
        ("0 0 */2 * MON", "2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z"),
        ("0 0 */1 * MON", "2026-01-01T00:00:00Z", "2026-01-05T00:00:00Z"),
        ("@every 90s", "2026-01-01T00:00:20.75Z", "2026-01-01T00:01:50Z"),
        ("@every 100ms", "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"),
    ],
)
def test_the_next_time(schedule: str, after: str, expected: str | None) -> None:
    assert following(schedule, after) == expected


@pytest.mark.parametrize(
    ("schedule", "after", "zone", "expected"),
    [
        ("0 9 * * *", "2026-01-01T00:00:00Z", "Asia/Shanghai", "2026-01-01T01:00:00Z"),
        ("0 9 * * *", "2026-07-01T00:00:00Z", "Europe/Berlin", "2026-07-01T07:00:00Z"),
        ("30 2 * * *", "2026-03-28T12:00:00Z", "Europe/Berlin", "2026-03-30T00:30:00Z"),
        ("30 2 * * *", "2026-10-24T12:00:00Z", "Europe/Berlin", "2026-10-25T00:30:00Z"),
        ("CRON_TZ=Asia/Shanghai 0 9 * * *", "2026-01-01T00:00:00Z", "", "2026-01-01T01:00:00Z"),
        ("TZ=Asia/Tokyo 0 9 * * *", "2026-01-01T00:00:00Z", "Asia/Shanghai", "2026-01-02T00:00:00Z"),
        ("30 2 * * *", "2026-10-25T00:30:00Z", "Europe/Berlin", "2026-10-25T01:30:00Z"),
        ("30 2 * * *", "2026-10-25T01:30:00Z", "Europe/Berlin", "2026-10-26T01:30:00Z"),
        ("0 0 * * *", "2018-11-03T03:00:00Z", "America/Sao_Paulo", "2018-11-05T02:00:00Z"),
        ("0 0 * * *", "2026-09-05T21:00:00Z", "America/Santiago", "2026-09-07T03:00:00Z"),
        ("30 1 * * *", "2026-11-01T05:30:00Z", "America/New_York", "2026-11-01T06:30:00Z"),
        ("30 1 26 * *", "2011-12-28T10:00:00Z", "Pacific/Apia", None),
    ],
)
def test_time_zones_and_daylight_saving(schedule: str, after: str, zone: str, expected: str | None) -> None:
    assert following(schedule, after, zone) == expected


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("* * * *", r"expected exactly 5 fields, found 4: \[\* \* \* \*\]"),
        ("", "empty spec string"),
        ("0 0 * * 7", r"end of range \(7\) above maximum \(6\): 7"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("*/2/3 * * * *", "too many slashes"),
        ("60 * * * *", r"end of range \(60\) above maximum \(59\): 60"),
        ("* * 0 * *", r"beginning of range \(0\) below minimum \(1\): 0"),
        ("5-3 * * * *", r"beginning of range \(5\) beyond end of range \(3\): 5-3"),
        ("*/0 * * * *", "step of range should be a positive number"),
        ("x * * * *", "failed to parse int from x"),
        ("@never", "unrecognized descriptor: @never"),
        ("@every soon", "failed to parse duration"),
    ],
)
def test_what_is_no_schedule_is_refused(schedule: str, message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        parse(schedule)


def test_an_unknown_time_zone_is_refused() -> None:
    with pytest.raises(ScheduleError, match="unknown time zone Mars/Olympus"):
        parse("* * * * *", "Mars/Olympus")
    with pytest.raises(ScheduleError, match="provided bad location Mars/Olympus: unknown time zone Mars/Olympus"):
        parse("TZ=Mars/Olympus * * * * *")
    with pytest.raises(ScheduleError, match="time: invalid location name"):
        parse("* * * * *", "../etc/passwd")


@given(
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
    weekday=st.integers(0, 6),
    after=st.integers(1_700_000_000, 1_900_000_000),
)
def test_the_next_time_is_the_first_that_matches(minute: int, hour: int, weekday: int, after: int) -> None:
    schedule = parse(f"{minute} {hour} * * {weekday}")
    found = schedule.next(float(after))
    assert found is not None
    assert 0 < found - after <= 7 * 86400
    moment = datetime.fromisoformat(rfc3339(found))
    assert (moment.minute, moment.hour, moment.isoweekday() % 7) == (minute, hour, weekday)
