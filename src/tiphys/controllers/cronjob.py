"""CronJob: makes a Job at each time of a schedule. The shell; `cronjob_state` decides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tiphys.base.clock import rfc3339
from tiphys.base.errors import AlreadyExists, ApiError, NotFound, Retry
from tiphys.client.events import NORMAL, WARNING, reference
from tiphys.client.reconcile import Result
from tiphys.client.resources import CRON_JOBS, JOBS
from tiphys.client.types import Object
from tiphys.controllers import cronjob_state as state
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import (
    controlled_by,
    controller_of,
    name,
    namespace,
    namespace_terminating,
    spec,
    status,
    uid,
)
from tiphys.controllers.schedule import ScheduleError

Status = dict[str, Any]


class CronJobController(Controller):
    """Keys are CronJobs."""

    name = "cronjob-controller"
    account = "cronjob-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._cron_jobs = self.watch(CRON_JOBS)
        self._jobs = self.watch(JOBS)
        self._jobs.add_index("cron job", _by_cron_job)
        self._cron_jobs.subscribe(self._cron_job_changed)
        self._jobs.subscribe(self._job_changed)

    async def reconcile(self, key: str) -> Result | None:
        cron_job = self._cron_jobs.by_key(key)
        if cron_job is None or self.behind(key, cron_job):
            return None
        jobs = self._jobs.by_index("cron job", key)
        cron_job = await self._current(cron_job, jobs)
        new = await self._clean(cron_job, jobs)
        new, events = state.follow(new, jobs)
        self._tell(cron_job, events)
        try:
            new = await self._without_missing(cron_job, jobs, new)
            decision = state.start(cron_job, new, self.clock.time())
            self._tell(cron_job, decision.events)
            if decision.replace:
                new = await self._replace(cron_job, new)
            if decision.create is not None:
                new = await self._start(cron_job, decision, new)
        finally:
            if new != status(cron_job):
                await self.update_status(CRON_JOBS, cron_job, new)
        return Result(decision.after)

    def _tell(self, cron_job: Object, events: Iterable[state.Event]) -> None:
        for event in events:
            self.recorder.event(cron_job, *event)

    async def _current(self, cron_job: Object, jobs: Sequence[Object]) -> Object:
        """The CronJob as the server has it, if a Job is active of which the cache's does not know."""
        if all(state.outcome(job) or state.listed(status(cron_job), job) for job in jobs):
            return cron_job
        fresh = await self.client.get(CRON_JOBS, name(cron_job), namespace(cron_job))
        return fresh if any(state.listed(status(fresh), job) for job in jobs) else cron_job

    async def _clean(self, cron_job: Object, jobs: Sequence[Object]) -> Status:
        """Delete finished Jobs that need not be kept; one that cannot be deleted is tried again with the next look."""
        new = dict(status(cron_job))
        for job in state.surplus(cron_job, jobs):
            if await self._delete(cron_job, name(job)):
                new = state.without(new, uid(job))
        return new

    async def _without_missing(self, cron_job: Object, jobs: Sequence[Object], new: Status) -> Status:
        """Jobs that are gone are not active any more."""
        for lost in state.missing(new, jobs):
            called = str(lost.get("name") or "")
            if not called or not await self._exists(called, namespace(cron_job)):
                self.recorder.event(cron_job, NORMAL, "MissingJob", f"Active job went missing: {called}")
                new = state.without(new, lost.get("uid"))
        return new

    async def _exists(self, job: str, where: str) -> bool:
        try:
            await self.client.get(JOBS, job, where)
        except NotFound:
            return False
        return True

    async def _replace(self, cron_job: Object, new: Status) -> Status:
        """Delete what is still active, to make room."""
        for old in new.get("active") or ():
            try:
                job = await self.client.get(JOBS, str(old.get("name")), namespace(cron_job))
            except ApiError as error:
                self.recorder.event(cron_job, WARNING, "FailedGet", f"Get job: {error}")
                raise
            if not await self._delete(cron_job, name(job)):
                raise Retry(f"could not replace job {namespace(job)}/{name(job)}")
            new = state.without(new, uid(job))
        return new

    async def _start(self, cron_job: Object, decision: state.Start, new: Status) -> Status:
        job = await self._create(cron_job, decision.create or {})
        if job is None or state.listed(new, job):
            return new
        active = [*(new.get("active") or ()), reference(job)]
        return {**state.with_active(new, active), "lastScheduleTime": rfc3339(decision.at)}

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

    async def _delete(self, cron_job: Object, job: str) -> bool:
        """Whether the Job is gone or going."""
        try:
            await self.client.delete(JOBS, job, namespace(cron_job), propagation="Background")
        except NotFound:
            return True
        except ApiError as error:
            self.recorder.event(cron_job, WARNING, "FailedDelete", f"Deleted job: {error}")
            return False
        self.recorder.event(cron_job, NORMAL, "SuccessfulDelete", f"Deleted job {job}")
        return True

    def _cron_job_changed(self, old: Object | None, new: Object | None) -> None:
        if old is None or new is None or _timing(old) == _timing(new):
            self.enqueue(old, new)
            return
        try:
            schedule = state.schedule_of(new)
        except ScheduleError:
            message = f"unparseable schedule for cronjob: {spec(new).get('schedule')}"
            self.recorder.event(new, WARNING, "UnParseableCronJobSchedule", message)
            return
        after = state.wait(new, status(new), schedule, self.clock.time())
        if after is not None:  # times of the new schedule that lie in the past are not made up for
            self.queue.add_after(f"{namespace(new)}/{name(new)}", after)

    def _job_changed(self, old: Object | None, new: Object | None) -> None:
        for job in (old, new):
            for key in _by_cron_job(job) if job is not None else ():
                self.queue.add(key)


def _timing(cron_job: Object) -> tuple[Any, Any]:
    return spec(cron_job).get("schedule"), spec(cron_job).get("timeZone")


def _by_cron_job(job: Object) -> Iterable[str]:
    """An informer's index: the key of the CronJob that it belongs to."""
    owner = controller_of(job)
    if owner is not None and owner.get("kind") == "CronJob":
        yield f"{namespace(job)}/{owner.get('name')}"
