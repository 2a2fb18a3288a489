"""Job: pods that are to finish, so many at a time, so many in all. The shell; `job_state` decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from tiphys.api import selectors
from tiphys.base.errors import ApiError, NotFound
from tiphys.client.backoff import Backoff
from tiphys.client.events import WARNING
from tiphys.client.informer import index_by_owner, key_of
from tiphys.client.reconcile import Result, run_workers
from tiphys.client.resources import JOBS, PODS
from tiphys.client.types import STRATEGIC_PATCH, Object
from tiphys.client.workqueue import WorkQueue
from tiphys.controllers import pods as podlib
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.claims import claim, settle
from tiphys.controllers.expectations import Expectations
from tiphys.controllers.job_pods import FINALIZER, tracked
from tiphys.controllers.job_policies import Failures
from tiphys.controllers.job_state import Conclusion, Outcome, Plan, Step, finished
from tiphys.controllers.objects import controller_of, deleting, labels, name, namespace, same_wish, spec, uid
from tiphys.controllers.podcontrol import Failure, PodControl, in_growing_batches

_OURS = "kubernetes.io/job-controller"
_API = "batch/v1"
_BACKOFF = Backoff(base=1.0, limit=60.0)
"""Seconds between tries when the API refuses something, as upstream has them for Jobs."""
_FEW, _EACH, _LONGEST = 20, 0.01, 1.0
"""From how many pods on their changes are gathered, for how many seconds for each, and at most."""


class JobController(Controller):
    """Keys are Jobs; pods that lost their Job have a queue of their own, to lose the finalizer too."""

    name = "job-controller"
    account = "job-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.queue = WorkQueue(_BACKOFF)
        self._jobs = self.watch(JOBS)
        self._pods = self.watch(PODS)
        self._pods.add_index("owner", index_by_owner)
        self._pods.add_index("orphans", podlib.orphans_by_namespace)
        self._expectations = Expectations(self._pods, self.clock)
        self._control = PodControl(self.client, self.recorder, self._expectations)
        self._failures: dict[str, Failures] = {}
        self._stripped: set[str] = set()
        self._refused: set[str] = set()
        """Keys that wait to be tried again: the status that tells of it is no reason to do so at once."""
        self._lost: WorkQueue[str] = WorkQueue(_BACKOFF)
        self._jobs.subscribe(self._job_changed)
        self._pods.subscribe(self._pod_changed)

    def enqueue_owner(self, key: str, size: int) -> None:
        """Changes of a Job's many pods are gathered for up to a second, as upstream gathers those of any Job; a Job of
        few pods is not kept waiting."""
        self.queue.add_after(key, 0.0 if size < _FEW else min(_LONGEST, size * _EACH))

    async def background(self) -> None:
        await run_workers(f"{self.name} orphans", self._lost, self._free, 1)

    async def reconcile(self, key: str) -> Result | None:
        job = self._jobs.by_key(key)
        if job is None or finished(job):
            self._expectations.forget(key)
            self._failures.pop(key, None)
            self._refused.discard(key)
            return None
        if self.behind(key, job) or _foreign(job):
            self._refused.discard(key)  # this was the next try: now the newer version must be one
            return None
        if not self._expectations.satisfied(key):
            return Result(self._expectations.patience)
        if spec(job).get("completionMode") not in (None, "NonIndexed", "Indexed"):
            self.recorder.event(job, WARNING, "UnknownCompletionMode", _UNKNOWN_MODE)
            return None
        self._refused.discard(key)
        pods = await self._claimed(job)
        failures = self._failures.get(key, Failures())
        step = Step(job, pods, self.clock.time(), failures, self._stripped)
        outcome, failure = await self._carry_out(key, job, step.plan())
        if failure is not None:
            self._refused.add(key)
        conclusion = step.conclude(outcome)
        failure = await self._write(key, job, conclusion) or failure
        if failure is not None:
            raise failure
        return Result(conclusion.after)

    async def _claimed(self, job: Object) -> Sequence[Object]:
        selector = selectors.from_object(spec(job).get("selector"))
        candidates = self._pods.by_index("owner", uid(job)) + self._pods.by_index("orphans", namespace(job))
        claims = claim(job, selector.matches, candidates)
        return await settle(self.client, JOBS, job, PODS, claims, FINALIZER)

    async def _carry_out(self, key: str, job: Object, plan: Plan) -> tuple[Outcome, Failure | None]:
        """What became of `plan`, and the first thing that failed."""
        created = 0

        async def create(pod: Mapping[str, Any]) -> Failure | None:
            nonlocal created
            failure = await self._control.create_one(key, job, pod)
            created += failure is None
            return failure

        failure = await in_growing_batches([partial(create, pod) for pod in plan.create])
        going = [*plan.discard, *plan.delete]
        discarded = {uid(pod) for pod in plan.discard}
        failures = await self._each(going, partial(self._delete, key, job, discarded))
        deleted = tuple(pod for pod, failed in zip(going, failures, strict=True) if failed is None)
        return Outcome(created, deleted), failure or _first(failures)

    async def _delete(self, key: str, job: Object, discarded: set[str], pod: Object) -> Failure | None:
        """Delete a pod; one that is discarded loses the finalizer before, and stays if that fails."""
        failure = await self._strip(pod, as_seen=True) if uid(pod) in discarded else None
        return failure or await self._control.delete_one(key, job, pod)

    async def _write(self, key: str, job: Object, conclusion: Conclusion) -> Failure | None:
        if conclusion.status is not None:
            await self.update_status(JOBS, job, conclusion.status)
        self._failures[key] = conclusion.failures
        for type, reason, message in conclusion.events:
            self.recorder.event(job, type, reason, message)
        return _first(await self._each(conclusion.strip, self._strip))

    async def _each(
        self, pods: Sequence[Object], call: Callable[[Object], Coroutine[Any, Any, Failure | None]]
    ) -> list[Failure | None]:
        async with asyncio.TaskGroup() as tasks:
            calls = [tasks.create_task(call(pod)) for pod in pods]
        return [each.result() for each in calls]

    async def _strip(self, pod: Object, *, as_seen: bool = False) -> Failure | None:
        """Remove the finalizer: the status accounts for this pod, or it does not count.

        `as_seen`: only if it has not changed: one that has ended meanwhile does count."""
        if not tracked(pod):
            return None
        self._stripped.add(uid(pod))
        version = {"resourceVersion": pod["metadata"].get("resourceVersion")} if as_seen else {}
        patch = {"metadata": {"uid": uid(pod), "$deleteFromPrimitiveList/finalizers": [FINALIZER], **version}}
        try:
            await self.client.patch(PODS, name(pod), patch, namespace(pod), type=STRATEGIC_PATCH)
        except NotFound:
            if self._pods.by_key(key_of(pod)) is None:  # nothing more will be shown of it
                self._stripped.discard(uid(pod))
            return None
        except (ApiError, OSError) as error:
            self._stripped.discard(uid(pod))
            return error
        return None

    async def _free(self, key: str) -> Result | None:
        """Let a pod go whose Job does not exist any more, or does not care."""
        pod = self._pods.by_key(key)
        if pod is None or not tracked(pod) or self._cared_for(pod):
            return None
        failure = await self._strip(pod)
        if failure is not None:
            raise failure
        return None

    def _cared_for(self, pod: Object) -> bool:
        """Whether somebody removes its finalizer in time, or is about to adopt it with its finalizer."""
        owner = controller_of(pod)
        if owner is None:
            return not deleting(pod) and any(not deleting(job) and not _foreign(job) for job in self._selecting(pod))
        if owner["kind"] != "Job" or owner["apiVersion"] != _API:
            return True
        job = self._jobs.get(namespace(pod), owner["name"])
        return job is not None and uid(job) == owner["uid"] and (_foreign(job) or not finished(job))

    def _job_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and same_wish(old, new):
            if key_of(new) not in self._refused:
                self.enqueue_owner(key_of(new), self._pods.count("owner", uid(new)))
        else:
            self.enqueue(old, new)
        done = new if new is not None and finished(new) else old if new is None else None
        if done is None:
            return
        for pod in self._pods.by_index("owner", uid(done)) + self._pods.by_index("orphans", namespace(done)):
            if tracked(pod):
                self._lost.add(key_of(pod))

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if self._stripped and (new is None or not tracked(new)):
            self._stripped.discard(uid(new or old or {"metadata": {}}))
        for pod in (old, new):
            key = _owner_key(pod)
            owner = controller_of(pod) if key and pod is not None else None
            if owner is not None:
                self.enqueue_owner(key, self._pods.count("owner", owner["uid"]))
        if new is None:
            return
        if tracked(new):
            self._check_owner(new)
        if controller_of(new) is None:
            self._orphan_changed(old, new)

    def _check_owner(self, pod: Object) -> None:
        """A Job that is not known may just be new, or not listed yet: its pods are let go only when they are being
        deleted, and whoever does that looks again when all Jobs are listed."""
        owner = controller_of(pod)
        known = owner is None or self._jobs.get(namespace(pod), owner["name"]) is not None
        if (known or deleting(pod)) and not self._cared_for(pod):
            self._lost.add(key_of(pod))

    def _orphan_changed(self, old: Object | None, new: Object) -> None:
        if old is not None and labels(old) == labels(new) and controller_of(old) is None:
            return
        for job in self._selecting(new):
            self.queue.add(key_of(job))

    def _selecting(self, pod: Object) -> Iterator[Object]:
        """Jobs that have not finished and whose selector matches."""
        for job in self._jobs.list(namespace(pod)):
            if not finished(job) and selectors.from_object(spec(job).get("selector")).matches(labels(pod)):
                yield job


_UNKNOWN_MODE = "Skipped Job sync because completion mode is unknown"


def _foreign(job: Object) -> bool:
    """Whether another controller manages it."""
    return spec(job).get("managedBy") not in (None, _OURS)


def _first(failures: Iterable[Failure | None]) -> Failure | None:
    return next((each for each in failures if each is not None), None)


def _owner_key(pod: Object | None) -> str:
    owner = controller_of(pod) if pod is not None else None
    if pod is None or owner is None or owner["kind"] != "Job":
        return ""
    return f"{namespace(pod)}/{owner['name']}"
