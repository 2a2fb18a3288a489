"""Deletes Jobs a while after they finished, if they say so (spec.ttlSecondsAfterFinished)."""

from __future__ import annotations

from tiphys.base.errors import NotFound
from tiphys.client.reconcile import Result
from tiphys.client.resources import JOBS
from tiphys.client.types import Object
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import condition, deleting, moment, name, namespace, spec, status, uid


def time_left(job: Object, now: float) -> float | None:
    """Seconds until `job` is to be deleted, not positive when it is due; None: it stays."""
    ttl = spec(job).get("ttlSecondsAfterFinished")
    if ttl is None or deleting(job):
        return None
    for type in ("Complete", "Failed"):
        found = condition(status(job), type)
        if found is not None and found.get("status") == "True" and found.get("lastTransitionTime"):
            return moment(found.get("lastTransitionTime")) + float(ttl) - now
    return None


class TtlAfterFinishedController(Controller):
    """Keys are Jobs."""

    name = "ttl-after-finished-controller"
    account = "ttl-after-finished-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._jobs = self.watch(JOBS)
        self._jobs.subscribe(self._job_changed)

    async def reconcile(self, key: str) -> Result | None:
        job = self._jobs.by_key(key)
        left = time_left(job, self.clock.time()) if job is not None else None
        if job is None or left is None:
            return None
        if left > 0:
            return Result(left)
        fresh = await self._fresh(job)
        if fresh is None or (time_left(fresh, self.clock.time()) or 0.0) > 0:
            return Result(0.0) if fresh is not None else None
        revision = str(fresh["metadata"].get("resourceVersion") or "")
        await self.client.delete(
            JOBS, name(job), namespace(job), propagation="Foreground", uid=uid(job), resource_version=revision
        )
        return None

    async def _fresh(self, job: Object) -> Object | None:
        """Read again before deleting: somebody may just have given it more time."""
        try:
            fresh = await self.client.get(JOBS, name(job), namespace(job))
        except NotFound:
            return None
        keeps = uid(fresh) != uid(job) or time_left(fresh, self.clock.time()) is None
        return None if keeps else fresh

    def _job_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and spec(new).get("ttlSecondsAfterFinished") is not None:
            self.enqueue(old, new)
