"""CronJob: makes a Job at each time of a schedule.

Pure: `decide` tells what has become of earlier Jobs, whether one is due, which are too old to keep, and when to
look again. A Job's name tells its time, so that it is never made twice. The shell carries out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tiphys.base.clock import rfc3339, utc
from tiphys.base.errors import AlreadyExists, ApiError, NotFound, Retry
from tiphys.client.events import NORMAL, WARNING, reference
from tiphys.client.informer import index_by_owner
from tiphys.client.reconcile import Result
from tiphys.client.resources import CRON_JOBS, JOBS
from tiphys.client.types import Object
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import (
    controlled_by,
    controller_of,
    controller_reference,
    created,
    deleting,
    has_condition,
    int_of,
    moment,
    name,
    namespace,
    namespace_terminating,
    spec,
    status,
    uid,
)
from tiphys.controllers.schedule import Schedule, ScheduleError, parse

SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"

_MANY = 100
_SKEW = 0.1
"""Seconds added to a wait, so that the clock has really passed the time when it ends."""

Event = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do."""

    status: Mapping[str, Any]
    """The status as far as earlier Jobs go."""
    missing: tuple[Mapping[str, Any], ...] = ()
    """Active Jobs that the cache does not show; whether they are gone is for the server to say."""
    create: Mapping[str, Any] | None = None
    at: float = 0.0
    """The time that `create` is for."""
    replace: tuple[Mapping[str, Any], ...] = ()
    """Active Jobs to delete before that."""
    remove: tuple[Object, ...] = ()
    """Finished Jobs beyond the history limits."""
    events: tuple[Event, ...] = ()
    after: float | None = None


def decide(cron_job: Object, jobs: Sequence[Object], now: float) -> Decision:
    """What the state of its `jobs` and the time ask for."""
    new, events = _follow_jobs(cron_job, jobs)
    known = {uid(job) for job in jobs}
    missing = tuple(each for each in new.get("active") or () if each["uid"] not in known)
    remove = tuple(_too_many(cron_job, jobs))
    if deleting(cron_job):
        return Decision(new, missing, remove=(), events=tuple(events))
    if spec(cron_job).get("suspend"):
        return Decision(new, missing, remove=remove, events=tuple(events))
    try:
        schedule = _schedule(cron_job)
        due, many = due_time(cron_job, new, schedule, now)
    except ScheduleError as error:
        events.append(_bad_schedule(cron_job, error))
        return Decision(new, missing, remove=remove, events=tuple(events))
    if many:
        events.append((WARNING, "TooManyMissedTimes", _TOO_MANY))
    create, replace = _start(cron_job, new, due, now, events)
    return Decision(
        status=new,
        missing=missing,
        create=create,
        at=due or 0.0,
        replace=replace,
        remove=remove,
        events=tuple(events),
        after=_wait(schedule, now),
    )


_TOO_MANY = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"


def _schedule(cron_job: Object) -> Schedule:
    return parse(str(spec(cron_job)["schedule"]), str(spec(cron_job).get("timeZone") or ""))


def _bad_schedule(cron_job: Object, error: ScheduleError) -> Event:
    zone = spec(cron_job).get("timeZone")
    if zone and str(error).startswith("unknown time zone"):
        return WARNING, "UnknownTimeZone", f'invalid timeZone: "{zone}": {error}'
    return WARNING, "UnparseableSchedule", f'unparseable schedule: "{spec(cron_job)["schedule"]}" : {error}'


def _follow_jobs(cron_job: Object, jobs: Sequence[Object]) -> tuple[dict[str, Any], list[Event]]:
    """The status with finished Jobs taken off the active list and successes noted."""
    new, events = dict(status(cron_job)), []
    active = list(new.get("active") or ())
    for job in jobs:
        listed = any(each["uid"] == uid(job) for each in active)
        outcome = _outcome(job)
        if not outcome and not listed:
            message = f"Saw a job that the controller did not create or forgot: {name(job)}"
            events.append((WARNING, "UnexpectedJob", message))
        if outcome and listed:
            active = [each for each in active if each["uid"] != uid(job)]
            message = f"Saw completed job: {name(job)}, condition: {outcome}"
            events.append((NORMAL, "SawCompletedJob", message))
        ended = status(job).get("completionTime")
        if outcome == "Complete" and ended and moment(ended) > moment(new.get("lastSuccessfulTime")):
            new["lastSuccessfulTime"] = ended
    new.pop("active", None)
    if active:
        new["active"] = active
    return new, events


def _outcome(job: Object) -> str:
    return next((type for type in ("Complete", "Failed") if has_condition(job, type)), "")


def due_time(cron_job: Object, current: Mapping[str, Any], schedule: Schedule, now: float) -> tuple[float | None, bool]:
    """(the latest time that a Job should have been started for, if any; whether very many were missed)."""
    since = moment(current.get("lastScheduleTime")) or created(cron_job)
    deadline = spec(cron_job).get("startingDeadlineSeconds")
    if deadline is not None:
        since = max(since, now - float(deadline))
    first = schedule.next(since)
    if first is None or first > now:
        return None, False
    second = schedule.next(first)
    if second is None or second > now:
        return first, False
    missed = int((now - first) / (second - first)) + 1
    latest = first
    moment_ = schedule.next(max(first, first + (missed - 2) * (second - first)))
    while moment_ is not None and moment_ <= now:
        latest, moment_ = moment_, schedule.next(moment_)
    return latest, missed > _MANY


def _wait(schedule: Schedule, now: float) -> float | None:
    following = schedule.next(now)
    return None if following is None else following - now + _SKEW


def _start(
    cron_job: Object, current: Mapping[str, Any], due: float | None, now: float, events: list[Event]
) -> tuple[Mapping[str, Any] | None, tuple[Mapping[str, Any], ...]]:
    """(the Job to create, Jobs to delete first), by deadline and concurrency policy."""
    if due is None:
        return None, ()
    deadline = spec(cron_job).get("startingDeadlineSeconds")
    if deadline is not None and due + float(deadline) < now:
        when = utc(due).strftime("%a, %d %b %Y %H:%M:%S UTC")
        events.append((WARNING, "MissSchedule", f"Missed scheduled time to start a job: {when}"))
        return None, ()
    active = tuple(current.get("active") or ())
    if any(each["name"] == job_name(cron_job, due) for each in active):
        return None, ()
    if moment(current.get("lastScheduleTime")) == due:
        return None, ()
    policy = spec(cron_job).get("concurrencyPolicy") or "Allow"
    if policy == "Forbid" and active:
        message = "Not starting job because prior execution is running and concurrency policy is Forbid"
        events.append((NORMAL, "JobAlreadyActive", message))
        return None, ()
    return job_for(cron_job, due), active if policy == "Replace" else ()


def job_name(cron_job: Object, at: float) -> str:
    return f"{name(cron_job)}-{int(at) // 60}"


def job_for(cron_job: Object, at: float) -> dict[str, Any]:
    """The Job for one time of the schedule."""
    template = spec(cron_job)["jobTemplate"]
    meta = template.get("metadata") or {}
    when = datetime.fromtimestamp(at, _schedule(cron_job).zone).isoformat().replace("+00:00", "Z")
    wanted = {
        "name": job_name(cron_job, at),
        "namespace": namespace(cron_job),
        "labels": dict(meta.get("labels") or {}),
        "annotations": {**(meta.get("annotations") or {}), SCHEDULED: when},
        "ownerReferences": [controller_reference(cron_job)],
    }
    present = {key: value for key, value in wanted.items() if value}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": present, "spec": template["spec"]}


def _too_many(cron_job: Object, jobs: Sequence[Object]) -> list[Object]:
    surplus: list[Object] = []
    for outcome, field in (("Failed", "failedJobsHistoryLimit"), ("Complete", "successfulJobsHistoryLimit")):
        limit = spec(cron_job).get(field)
        if limit is None:
            continue
        ended = [job for job in jobs if _outcome(job) == outcome and not deleting(job)]
        ended.sort(key=lambda job: (not status(job).get("startTime"), moment(status(job).get("startTime")), name(job)))
        surplus += ended[: max(0, len(ended) - int_of(limit))]
    return surplus


class CronJobController(Controller):
    """Keys are CronJobs."""

    name = "cronjob-controller"
    account = "cronjob-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._cron_jobs = self.watch(CRON_JOBS)
        self._jobs = self.watch(JOBS)
        self._jobs.add_index("owner", index_by_owner)
        self._cron_jobs.subscribe(self._cron_job_changed)
        self._jobs.subscribe(self._job_changed)

    async def reconcile(self, key: str) -> Result | None:
        cron_job = self._cron_jobs.by_key(key)
        if cron_job is None or self.behind(key, cron_job):
            return None
        jobs = self._jobs.by_index("owner", uid(cron_job))
        decision = decide(cron_job, jobs, self.clock.time())
        for event in decision.events:
            self.recorder.event(cron_job, *event)
        new = await self._without_missing(cron_job, decision)
        try:
            new = await self._start(cron_job, decision, new)
        finally:
            for job in decision.remove:
                await self._delete(cron_job, name(job))
            if new != status(cron_job):
                await self.update_status(CRON_JOBS, cron_job, new)
        return Result(decision.after)

    async def _without_missing(self, cron_job: Object, decision: Decision) -> dict[str, Any]:
        new = dict(decision.status)
        for lost in decision.missing:
            try:
                await self.client.get(JOBS, lost["name"], namespace(cron_job))
            except NotFound:
                self.recorder.event(cron_job, NORMAL, "MissingJob", f"Active job went missing: {lost['name']}")
                new["active"] = [each for each in new["active"] if each["uid"] != lost["uid"]]
        if not new.get("active"):
            new.pop("active", None)
        return new

    async def _start(self, cron_job: Object, decision: Decision, new: dict[str, Any]) -> dict[str, Any]:
        if decision.create is None:
            return new
        for old in decision.replace:
            await self._delete(cron_job, old["name"])
            left = [each for each in new.get("active") or () if each["uid"] != old["uid"]]
            new = {**new, "active": left}
        job = await self._create(cron_job, decision.create)
        if job is None:
            return new
        ref = reference(job)
        active = [*(new.get("active") or ()), ref]
        return {**new, "active": active, "lastScheduleTime": rfc3339(decision.at)}

    async def _create(self, cron_job: Object, wanted: Mapping[str, Any]) -> Object | None:
        """The Job made, or the one made before; None if it is not ours."""
        try:
            job = await self.client.create(JOBS, wanted)
        except AlreadyExists:
            job = await self.client.get(JOBS, name(wanted), namespace(wanted))
            return job if controlled_by(job, cron_job) else None
        except ApiError as error:
            if not namespace_terminating(error):
                self.recorder.event(cron_job, WARNING, "FailedCreate", f"Error creating job: {error}")
            raise
        self.recorder.event(cron_job, NORMAL, "SuccessfulCreate", f"Created job {name(job)}")
        return job

    async def _delete(self, cron_job: Object, job: str) -> None:
        try:
            await self.client.delete(JOBS, job, namespace(cron_job), propagation="Background")
        except NotFound:
            return
        except ApiError as error:
            self.recorder.event(cron_job, WARNING, "FailedDelete", f"Deleted job: {error}")
            raise Retry(f"could not delete job {job}") from error
        self.recorder.event(cron_job, NORMAL, "SuccessfulDelete", f"Deleted job {job}")

    def _cron_job_changed(self, old: Object | None, new: Object | None) -> None:
        self.enqueue(old, new)

    def _job_changed(self, old: Object | None, new: Object | None) -> None:
        job = new or old
        owner = controller_of(job) if job is not None else None
        if job is not None and owner is not None and owner["kind"] == "CronJob":
            self.queue.add(f"{namespace(job)}/{owner['name']}")
