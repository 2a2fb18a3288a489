"""What a CronJob should do next. Pure.

`surplus` are finished Jobs that need not be kept, `follow` tells what has become of earlier Jobs, `start` whether one
is due now and when to look again. A Job's name tells its time, so that it is never made twice. Times are seconds since
the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tiphys.base.clock import utc
from tiphys.client.events import NORMAL, WARNING
from tiphys.client.types import Object
from tiphys.controllers.objects import (
    controller_reference,
    created,
    deleting,
    has_condition,
    int_of,
    moment,
    name,
    namespace,
    spec,
    status,
    uid,
)
from tiphys.controllers.schedule import Schedule, ScheduleError, load_zone, parse

SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"

_MANY = 100
_SKEW = 0.1
"""Seconds added to a wait, so that the clock has really passed the time when it ends."""

Event = tuple[str, str, str]
"""Type, reason and message."""


@dataclass(frozen=True, slots=True)
class Start:
    """Whether to start a Job now."""

    create: Mapping[str, Any] | None = None
    at: float = 0.0
    """The time of the schedule that `create` is for."""
    replace: bool = False
    """All active Jobs are to be deleted before that."""
    events: tuple[Event, ...] = ()
    after: float | None = None
    """Seconds until the next look."""


def outcome(job: Object) -> str:
    """Complete, Failed, or "" while it goes on."""
    return next((type for type in ("Complete", "Failed") if has_condition(job, type)), "")


def listed(current: Mapping[str, Any], job: Object) -> bool:
    """Whether the status counts `job` as active."""
    return any(each.get("uid") == uid(job) for each in current.get("active") or ())


def without(current: Mapping[str, Any], job_uid: str | None) -> dict[str, Any]:
    """The status with a Job off its active list."""
    return with_active(current, [each for each in current.get("active") or () if each.get("uid") != job_uid])


def with_active(current: Mapping[str, Any], active: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The status with that active list."""
    new = {key: value for key, value in current.items() if key != "active"}
    return {**new, "active": list(active)} if active else new


def surplus(cron_job: Object, jobs: Sequence[Object]) -> list[Object]:
    """Finished Jobs beyond the history limits, oldest first; not those that are on their way out."""
    found: list[Object] = []
    for which, field in (("Complete", "successfulJobsHistoryLimit"), ("Failed", "failedJobsHistoryLimit")):
        limit = spec(cron_job).get(field)
        if limit is None:
            continue
        ended = [job for job in jobs if outcome(job) == which and not deleting(job)]
        ended.sort(key=lambda job: (not status(job).get("startTime"), moment(status(job).get("startTime")), name(job)))
        found += ended[: max(0, len(ended) - int_of(limit))]
    return found


def follow(current: Mapping[str, Any], jobs: Sequence[Object]) -> tuple[dict[str, Any], list[Event]]:
    """The status with finished Jobs taken off the active list and successes noted."""
    new, events = dict(current), []
    for job in jobs:
        ended = outcome(job)
        if not ended and not listed(new, job):
            events.append((WARNING, "UnexpectedJob", _UNEXPECTED + name(job)))
        elif ended and listed(new, job):
            new = without(new, uid(job))
            events.append((NORMAL, "SawCompletedJob", f"Saw completed job: {name(job)}, condition: {ended}"))
        at = status(job).get("completionTime")
        if ended == "Complete" and at and moment(at) > moment(new.get("lastSuccessfulTime")):
            new["lastSuccessfulTime"] = at
    return new, events


_UNEXPECTED = "Saw a job that the controller did not create or forgot: "


def missing(current: Mapping[str, Any], jobs: Sequence[Object]) -> list[Mapping[str, Any]]:
    """Active Jobs that are not among `jobs`; whether they are gone is for the server to say."""
    known = {uid(job) for job in jobs}
    return [each for each in current.get("active") or () if each.get("uid") not in known]


def start(cron_job: Object, current: Mapping[str, Any], now: float) -> Start:
    """Whether a Job is due, by schedule, suspension, deadline and concurrency policy."""
    if deleting(cron_job):
        return Start()
    zone = spec(cron_job).get("timeZone")
    try:
        load_zone(zone or "")
    except ScheduleError as error:
        return Start(events=((WARNING, "UnknownTimeZone", f'invalid timeZone: "{zone}": {error}'),))
    if spec(cron_job).get("suspend"):
        return Start()
    text, events = str(spec(cron_job).get("schedule") or ""), _unsupported(cron_job)
    try:
        schedule = schedule_of(cron_job)
    except ScheduleError as error:
        return Start(events=(*events, (WARNING, "UnparseableSchedule", f'unparseable schedule: "{text}" : {error}')))
    try:
        _, due, missed = recent(cron_job, current, schedule, now, deadline=True)
    except ScheduleError as error:
        return Start(events=(*events, (WARNING, "InvalidSchedule", f"invalid schedule: {text} : {error}")))
    if due is None:
        return Start(events=events, after=wait(cron_job, current, schedule, now))
    if missed > _MANY:
        events = (*events, (WARNING, "TooManyMissedTimes", _TOO_MANY))
    return _start_for(cron_job, current, schedule, due, now, events)


_TOO_MANY = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"


def _unsupported(cron_job: Object) -> tuple[Event, ...]:
    text = str(spec(cron_job).get("schedule") or "")
    if "TZ" not in text:
        return ()
    where = "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/"
    message = f'CRON_TZ or TZ used in schedule "{text}" is not officially supported, see {where} for more details'
    return ((WARNING, "UnsupportedSchedule", message),)


def schedule_of(cron_job: Object) -> Schedule:
    """Raises ScheduleError."""
    text = str(spec(cron_job).get("schedule") or "")
    zone = str(spec(cron_job).get("timeZone") or "")
    return parse(text, "" if "TZ" in text else zone)


def recent(
    cron_job: Object, current: Mapping[str, Any], schedule: Schedule, now: float, *, deadline: bool
) -> tuple[float, float | None, int]:
    """(since when times count, the latest of them that has come, about how many have been missed).

    `deadline`: times before startingDeadlineSeconds do not count. The number is estimated by the distance between the
    first two times. Raises ScheduleError for a schedule without a second time."""
    since = moment(current.get("lastScheduleTime")) or created(cron_job)
    seconds = spec(cron_job).get("startingDeadlineSeconds")
    if deadline and seconds is not None:
        since = max(since, now - float(seconds))
    first = schedule.next(since)
    second = schedule.next(first) if first is not None else None
    if first is not None and now < first:
        return since, None, 0
    if second is not None and now < second:
        return since, first, 0
    if first is None or second is None or round(second - first) < 1:
        raise ScheduleError("time difference between two schedules is less than 1 second")
    distance = round(second - first)
    missed = int(now - first) // distance + 1
    latest, following = None, schedule.next(first + (missed - 2) * distance)
    while following is not None and following <= now:
        latest, following = following, schedule.next(following)
    return since, latest, missed


def wait(cron_job: Object, current: Mapping[str, Any], schedule: Schedule, now: float) -> float | None:
    """Seconds until the next time of the schedule; not positive if that has come."""
    try:
        since, latest, missed = recent(cron_job, current, schedule, now, deadline=False)
    except ScheduleError:
        since, latest, missed = now, None, 0
    following = schedule.next(latest if latest is not None else now if missed else since)
    return None if following is None else following - now + _SKEW


def _start_for(
    cron_job: Object,
    current: Mapping[str, Any],
    schedule: Schedule,
    due: float,
    now: float,
    events: tuple[Event, ...],
) -> Start:
    """The Job of one time of the schedule, if nothing stands against it."""
    nothing = Start(events=events, after=wait(cron_job, current, schedule, now))
    seconds = spec(cron_job).get("startingDeadlineSeconds")
    if seconds is not None and due + float(seconds) < now:
        when = utc(due).strftime("%a, %d %b %Y %H:%M:%S +0000")
        message = f"Missed scheduled time to start a job: {when}"
        return Start(events=(*events, (WARNING, "MissSchedule", message)), after=nothing.after)
    active = current.get("active") or ()
    known = any(_refers_to(each, cron_job, due) for each in active)
    if known or moment(current.get("lastScheduleTime")) == due:
        return nothing
    policy = spec(cron_job).get("concurrencyPolicy") or "Allow"
    if policy == "Forbid" and active:
        return Start(events=(*events, (NORMAL, "JobAlreadyActive", _FORBIDDEN)), after=nothing.after)
    begun = {**current, "lastScheduleTime": utc(due).isoformat()}
    return Start(
        create=job_for(cron_job, due),
        at=due,
        replace=policy == "Replace",
        events=events,
        after=wait(cron_job, begun, schedule, now),
    )


_FORBIDDEN = "Not starting job because prior execution is running and concurrency policy is Forbid"


def _refers_to(active: Mapping[str, Any], cron_job: Object, due: float) -> bool:
    return active.get("name") == job_name(cron_job, due) and active.get("namespace") == namespace(cron_job)


def job_name(cron_job: Object, at: float) -> str:
    return f"{name(cron_job)}-{int(at) // 60}"


def job_for(cron_job: Object, at: float) -> dict[str, Any]:
    """The Job for one time of the schedule."""
    template = spec(cron_job).get("jobTemplate") or {}
    meta = template.get("metadata") or {}
    zone = load_zone(str(spec(cron_job).get("timeZone") or ""))
    when = datetime.fromtimestamp(at, zone).isoformat().replace("+00:00", "Z")
    wanted = {
        "name": job_name(cron_job, at),
        "namespace": namespace(cron_job),
        "labels": dict(meta.get("labels") or {}),
        "annotations": {**(meta.get("annotations") or {}), SCHEDULED: when},
        "ownerReferences": [controller_reference(cron_job)],
    }
    present = {key: value for key, value in wanted.items() if value}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": present, "spec": template.get("spec") or {}}
