"""What a CronJob does next, as a table."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.base.clock import parse_rfc3339, rfc3339
from tiphys.controllers import cronjob_state as state

TEN = parse_rfc3339("2016-05-19T10:00:00Z")
"""The schedule's time, hourly."""


def cron_job(**spec: Any) -> dict[str, Any]:
    meta = {"name": "tick", "namespace": "ns", "uid": "c", "creationTimestamp": rfc3339(TEN - 10)}
    wanted = {"schedule": "0 * * * ?", "jobTemplate": {"spec": {"a": 1}}, **spec}
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta, "spec": wanted}


def job(name: str, outcome: str = "", **status: Any) -> dict[str, Any]:
    if outcome:
        status["conditions"] = [{"type": outcome, "status": "True"}]
    return {"metadata": {"name": name, "namespace": "ns", "uid": name}, "status": status}


def ref(name: str) -> dict[str, str]:
    return {"kind": "Job", "namespace": "ns", "name": name, "uid": name, "apiVersion": "batch/v1"}


@pytest.mark.parametrize(
    ("spec", "status", "now", "created", "reasons"),
    [
        ({}, {}, -1, False, []),
        ({}, {}, 1, True, []),
        ({"suspend": True}, {}, 1, False, []),
        ({"startingDeadlineSeconds": 60}, {}, 30, True, []),
        ({"startingDeadlineSeconds": 10}, {}, 30, False, []),
        ({"concurrencyPolicy": "Forbid"}, {"active": [ref("x")]}, 1, False, ["JobAlreadyActive"]),
        ({"concurrencyPolicy": "Allow"}, {"active": [ref("x")]}, 1, True, []),
        ({"concurrencyPolicy": "Replace"}, {"active": [ref("x")]}, 1, True, []),
        ({}, {"lastScheduleTime": rfc3339(TEN)}, 5, False, []),
        ({}, {"active": [ref(f"tick-{int(TEN) // 60}")]}, 5, False, []),
        ({"schedule": "obvious error"}, {}, 1, False, ["UnparseableSchedule"]),
        ({"schedule": "59 23 31 2 *"}, {}, 1, False, ["InvalidSchedule"]),
        ({"timeZone": "bad/zone"}, {}, 1, False, ["UnknownTimeZone"]),
        ({"timeZone": "bad/zone", "suspend": True}, {}, 1, False, ["UnknownTimeZone"]),
        ({"schedule": "TZ=UTC 0 * * * ?"}, {}, 1, True, ["UnsupportedSchedule"]),
        ({"schedule": "* * * * *"}, {"lastScheduleTime": rfc3339(TEN - 86400)}, 1, True, ["TooManyMissedTimes"]),
        ({"schedule": "* * * * *"}, {"lastScheduleTime": rfc3339(TEN - 5400)}, 1, True, []),
    ],
)
def test_a_job_is_started_when_it_is_due_and_nothing_stands_against_it(
    spec: dict[str, Any], status: dict[str, Any], now: float, created: bool, reasons: list[str]
) -> None:
    decision = state.start(cron_job(**spec), status, TEN + now)
    assert (decision.create is not None) is created
    assert [reason for _, reason, _ in decision.events] == reasons
    assert decision.replace is (created and spec.get("concurrencyPolicy") == "Replace")


def test_a_start_that_comes_too_late_is_left_out() -> None:
    daily = cron_job(schedule="0 10 * * *", startingDeadlineSeconds=10)
    assert state.start(daily, {}, TEN + 9).create is not None
    assert state.start(daily, {}, TEN + 10.5).create is None


def test_what_went_wrong_is_said_in_upstreams_words() -> None:
    zone = state.start(cron_job(timeZone="bad/zone"), {}, TEN)
    assert zone.events == (("Warning", "UnknownTimeZone", 'invalid timeZone: "bad/zone": unknown time zone bad/zone'),)
    unparseable = state.start(cron_job(schedule="x"), {}, TEN)
    assert unparseable.events[0][2] == 'unparseable schedule: "x" : expected exactly 5 fields, found 1: [x]'
    never = state.start(cron_job(schedule="0 0 31 2 *"), {}, TEN)
    words = "invalid schedule: 0 0 31 2 * : time difference between two schedules is less than 1 second"
    assert never.events[0][2] == words
    assert zone.after is unparseable.after is never.after is None


def test_it_looks_again_just_after_the_next_time() -> None:
    assert state.start(cron_job(), {}, TEN - 7).after == pytest.approx(7.1)
    assert state.start(cron_job(), {}, TEN + 1).after == pytest.approx(3599.1)
    every = cron_job(schedule="@every 90s")
    begun = {"lastScheduleTime": rfc3339(TEN)}
    assert state.start(every, begun, TEN + 30).after == pytest.approx(60.1)
    assert state.start(every, begun, TEN + 100).at == TEN + 90
    assert state.start(every, begun, TEN + 1000).at == TEN + 990


def test_the_jobs_name_and_annotation_tell_its_time() -> None:
    made = state.job_for(cron_job(timeZone="Asia/Shanghai"), TEN)
    assert made["metadata"]["name"] == f"tick-{int(TEN) // 60}"
    assert made["metadata"]["annotations"] == {state.SCHEDULED: "2016-05-19T18:00:00+08:00"}
    (owner,) = made["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["controller"], owner["blockOwnerDeletion"]) == ("CronJob", True, True)


def test_finished_jobs_leave_the_active_list_and_unknown_ones_are_told() -> None:
    ended = job("done", "Complete", completionTime=rfc3339(TEN))
    new, events = state.follow({"active": [ref("done"), ref("runs")]}, [ended, job("runs"), job("stray")])
    assert [each["name"] for each in new["active"]] == ["runs"]
    assert new["lastSuccessfulTime"] == rfc3339(TEN)
    assert events == [
        ("Normal", "SawCompletedJob", "Saw completed job: done, condition: Complete"),
        ("Warning", "UnexpectedJob", "Saw a job that the controller did not create or forgot: stray"),
    ]
    again, quiet = state.follow(new, [ended, job("runs")])
    assert (again, quiet) == (new, [])
    assert state.follow({"active": [ref("bad")]}, [job("bad", "Failed")])[0] == {}


def test_the_oldest_finished_jobs_are_too_many() -> None:
    def at(minute: int) -> dict[str, str]:
        return {"startTime": rfc3339(TEN + 60 * minute)}

    jobs = [job("f", "Failed", **at(0)), job("c2", "Complete", **at(2)), job("c1", "Complete", **at(1)), job("r")]
    jobs.append(job("never-started", "Complete"))
    found = state.surplus(cron_job(successfulJobsHistoryLimit=1, failedJobsHistoryLimit=0), jobs)
    assert [each["metadata"]["name"] for each in found] == ["c1", "c2", "f"]
    assert state.surplus(cron_job(), jobs) == []


def test_entries_of_the_active_list_without_uid_or_name_do_no_harm() -> None:
    strange: dict[str, Any] = {"active": [{"kind": "Job"}, {"name": "x"}]}
    assert state.missing(strange, []) == strange["active"]
    assert state.follow(strange, [job("y")])[0] == strange
    assert state.start(cron_job(), strange, TEN + 1).create is not None


MINUTE, HOUR = 60, 3600
DAY = 24 * HOUR
FEW_HOURS, LATE_MORNING = "30 6-16/4 * * 1-5", "30 10,11,12 * * 1-5"


@pytest.mark.parametrize(
    ("schedule", "last", "deadline", "now", "since", "latest", "many"),
    [
        ("0 * * * *", None, None, 30, 0, None, False),
        ("0 * * * *", None, None, 61 * MINUTE, 0, 60 * MINUTE, False),
        ("0 * * * *", None, None, 301 * MINUTE, 0, 300 * MINUTE, False),
        ("0 * * * *", 0, None, 30, 0, None, False),
        (FEW_HOURS, 30 * MINUTE, None, DAY + 31 * MINUTE, 30 * MINUTE, DAY + 30 * MINUTE, False),
        (FEW_HOURS, 30 * MINUTE, None, 4 * DAY + 31 * MINUTE, 30 * MINUTE, 4 * DAY + 30 * MINUTE, False),
        (FEW_HOURS, None, None, DAY + 31 * MINUTE, 0, DAY + 30 * MINUTE, False),
        (LATE_MORNING, 30 * MINUTE, None, 30 * HOUR + 30 * MINUTE, 30 * MINUTE, None, False),
        ("@every 1h", MINUTE, None, 7 * DAY, MINUTE, 7 * DAY - HOUR + MINUTE, True),
        ("*/5 * * * *", 30 * MINUTE, None, 31 * MINUTE, 30 * MINUTE, None, False),
        ("*/5 * * * *", 30 * MINUTE, 60, 32 * MINUTE, 31 * MINUTE, None, False),
    ],
)
def test_the_latest_time_that_has_come_is_found_by_the_distance_of_the_first_two(
    schedule: str, last: int | None, deadline: int | None, now: int, since: int, latest: int | None, many: bool
) -> None:
    ticking = cron_job(schedule=schedule, startingDeadlineSeconds=deadline)
    ticking["metadata"]["creationTimestamp"] = rfc3339(TEN)
    current = {} if last is None else {"lastScheduleTime": rfc3339(TEN + last)}
    found = state.recent(ticking, current, state.schedule_of(ticking), TEN + now, deadline=deadline is not None)
    assert found[0] == TEN + since
    assert found[1] == (None if latest is None else TEN + latest)
    assert (found[2] > 100) is many


@pytest.mark.parametrize(
    ("schedule", "last", "now", "expected"),
    [
        (FEW_HOURS, 30 * MINUTE, DAY + 31 * MINUTE, 4 * HOUR - MINUTE),
        (LATE_MORNING, 30 * MINUTE, 30 * HOUR + 30 * MINUTE, 66 * HOUR),
        ("0 12 * * 4", 2 * HOUR, 19 * DAY + 90 * MINUTE, 2 * DAY + 30 * MINUTE),
        ("0 12 * * 5", None, 6 * HOUR, 20 * HOUR),
    ],
)
def test_the_wait_for_the_next_time_passes_over_weekends_and_missed_runs(
    schedule: str, last: int | None, now: int, expected: int
) -> None:
    ticking = cron_job(schedule=schedule)
    ticking["metadata"]["creationTimestamp"] = rfc3339(TEN)
    current = {} if last is None else {"lastScheduleTime": rfc3339(TEN + last)}
    assert state.wait(ticking, current, state.schedule_of(ticking), TEN + now) == pytest.approx(expected + 0.1)
