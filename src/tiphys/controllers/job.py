"""Job: pods that are to finish, so many at a time, so many in all. The shell; `job_state` decides."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from tiphys.api import selectors
from tiphys.base.errors import ApiError, NotFound
from tiphys.client.informer import index_by_owner, key_of, split_key
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
from tiphys.controllers.job_state import Decision, decide, finished
from tiphys.controllers.objects import controller_of, labels, name, namespace, spec, status, uid
from tiphys.controllers.podcontrol import PodControl

_OURS = "kubernetes.io/job-controller"


class JobController(Controller):
    """Keys are Jobs; pods that lost their Job have a queue of their own, to lose the finalizer too."""

    name = "job-controller"
    account = "job-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._jobs = self.watch(JOBS)
        self._pods = self.watch(PODS)
        self._pods.add_index("owner", index_by_owner)
        self._pods.add_index("orphans", podlib.orphans_by_namespace)
        self._expectations = Expectations(self._pods, self.clock)
        self._control = PodControl(self.client, self.recorder, self._expectations)
        self._failures: dict[str, Failures] = {}
        self._stripped: set[str] = set()
        self._lost: WorkQueue[str] = WorkQueue()
        self._jobs.subscribe(self._job_changed)
        self._pods.subscribe(self._pod_changed)

    async def background(self) -> None:
        await run_workers(f"{self.name} orphans", self._lost, self._free, 1)

    async def reconcile(self, key: str) -> Result | None:
        job = self._jobs.by_key(key)
        if job is None or finished(job):
            self._expectations.forget(key)
            self._failures.pop(key, None)
            return None
        if self.behind(key, job) or spec(job).get("managedBy") not in (None, _OURS):
            return None
        settled = self._expectations.satisfied(key)
        pods = await self._claimed(job)
        failures = self._failures.get(key, Failures())
        now = self.clock.time()
        decision = decide(job, pods, now, failures, stripped=self._stripped, settled=settled)
        await self._carry_out(key, job, decision)
        return Result(decision.after)

    async def _claimed(self, job: Object) -> Sequence[Object]:
        selector = selectors.from_object(spec(job).get("selector"))
        candidates = self._pods.by_index("owner", uid(job)) + self._pods.by_index("orphans", namespace(job))
        claims = claim(job, selector.matches, candidates)
        return await settle(self.client, JOBS, job, PODS, claims, FINALIZER)

    async def _carry_out(self, key: str, job: Object, decision: Decision) -> None:
        failure = await self._control.create(key, job, decision.create)
        await self._strip(decision.discard)
        failure = await self._control.delete(key, job, [*decision.discard, *decision.delete]) or failure
        if decision.status is not None:
            new = dict(decision.status)
            if failure is not None and decision.create:
                new["active"] = status(job).get("active", 0)
            if new != status(job):
                await self.update_status(JOBS, job, new)
        self._failures[key] = decision.failures
        await self._strip(decision.strip)
        for type, reason, message in decision.events:
            self.recorder.event(job, type, reason, message)
        if failure is not None:
            raise failure

    async def _strip(self, pods: Iterable[Object]) -> None:
        """Remove the finalizer: the status accounts for these pods now."""
        async with asyncio.TaskGroup() as tasks:
            for pod in pods:
                if tracked(pod):
                    tasks.create_task(self._strip_one(pod))

    async def _strip_one(self, pod: Object) -> None:
        self._stripped.add(uid(pod))
        patch = {"metadata": {"uid": uid(pod), "$deleteFromPrimitiveList/finalizers": [FINALIZER]}}
        try:
            await self.client.patch(PODS, name(pod), patch, namespace(pod), type=STRATEGIC_PATCH)
        except NotFound:
            self._stripped.discard(uid(pod))
        except (ApiError, OSError):
            self._stripped.discard(uid(pod))
            self.queue.add_rate_limited(_owner_key(pod) or key_of(pod))

    async def _free(self, key: str) -> Result | None:
        """Let a pod go whose Job does not exist any more."""
        pod = self._pods.get(*split_key(key))
        owner = controller_of(pod) if pod is not None else None
        if pod is None or not tracked(pod) or (owner is not None and owner["kind"] != "Job"):
            return None
        job = self._jobs.get(namespace(pod), owner["name"]) if owner is not None else None
        if job is None or owner is None or uid(job) != owner["uid"]:
            await self._strip_one(pod)
        return None

    def _job_changed(self, old: Object | None, new: Object | None) -> None:
        self.enqueue(old, new)
        gone = old if new is None else None
        for pod in self._pods.by_index("owner", uid(gone)) if gone is not None else ():
            self._lost.add(key_of(pod))

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None or not tracked(new):
            self._stripped.discard(uid(new or old or {"metadata": {}}))
        for pod in (old, new):
            key = _owner_key(pod)
            owner = controller_of(pod) if pod is not None else None
            if key and owner is not None:
                self.enqueue_owner(key, self._pods.count("owner", owner["uid"]))
                if pod is new and pod is not None and tracked(pod) and self._jobs.synced:
                    self._check_orphan(key, pod)
        if new is not None and controller_of(new) is None:
            self._orphan_changed(old, new)

    def _check_orphan(self, key: str, pod: Object) -> None:
        if self._jobs.by_key(key) is None:
            self._lost.add(key_of(pod))

    def _orphan_changed(self, old: Object | None, new: Object) -> None:
        if tracked(new):
            self._lost.add(key_of(new))
        if old is not None and labels(old) == labels(new) and controller_of(old) is None:
            return
        for job in self._jobs.list(namespace(new)):
            if selectors.from_object(spec(job).get("selector")).matches(labels(new)):
                self.queue.add(key_of(job))


def _owner_key(pod: Object | None) -> str:
    owner = controller_of(pod) if pod is not None else None
    return (
        f"{namespace(pod)}/{owner['name']}" if pod is not None and owner is not None and owner["kind"] == "Job" else ""
    )
