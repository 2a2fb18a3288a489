"""What is known of a Job and its pods when a decision about it is made: who runs, who has finished, what was counted.

A pod that has finished is in one of four places: newly finished (it has the finalizer and is in no list), uncounted
(its uid is in status.uncountedTerminatedPods and it still has the finalizer), just counted (its finalizer is gone, its
uid still listed), counted (a number). Pure; times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tiphys.client.types import Object
from tiphys.controllers import job_policies as policies
from tiphys.controllers import pods as podlib
from tiphys.controllers.job_indexes import parse_indexes
from tiphys.controllers.job_pods import failed, finished_at, index_failures, index_of, indexed, tracked
from tiphys.controllers.objects import int_of, spec, status, uid

Pods = tuple[Object, ...]


class Facts:
    """See the module. `stripped` are pods whose finalizer was removed though the cache does not show it yet."""

    def __init__(self, job: Object, pods: Sequence[Object], now: float, stripped: Collection[str]) -> None:
        self.job, self.pods, self.now = job, pods, now
        self.spec, self.old = spec(job), status(job)
        self.completions: int | None = self.spec.get("completions")
        self.indexed = indexed(job)
        self.per_index = self.indexed and self.spec.get("backoffLimitPerIndex") is not None
        self.tracked = [pod for pod in pods if tracked(pod) and uid(pod) not in stripped]
        self.active = [pod for pod in pods if podlib.active(pod)]
        self.terminating = [pod for pod in pods if podlib.terminating(pod)]
        self._verdicts: dict[str, policies.Verdict] = {}
        self._count_uncounted()
        self._count_new()
        self._count_indexes()

    def verdict(self, pod: Object) -> policies.Verdict:
        """What the pod failure policy says of a failed pod."""
        if not self.spec.get("podFailurePolicy"):
            return policies.COUNTED
        found = self._verdicts.get(uid(pod))
        if found is None:
            found = self._verdicts[uid(pod)] = policies.judge(self.job, pod)
        return found

    def index(self, pod: Object) -> int | None:
        """Its completion index, if that is one of the job's."""
        index = index_of(pod)
        return index if index is not None and index < int_of(self.completions) else None

    def valid(self, pod: Object) -> bool:
        """Whether it counts for the job."""
        return not self.indexed or self.index(pod) is not None

    def indexes_of(self, pods: Sequence[Object]) -> set[int]:
        return {index for pod in pods if (index := self.index(pod)) is not None}

    def last_failed(self) -> dict[int, Object]:
        """With a limit per index: the latest failed pod of each index that is to be tried again. It stays until its
        replacement is there, which takes over the index's count of failures."""
        if not self.per_index:
            return {}
        busy = self.succeeded_indexes | self.failed_indexes | self.indexes_of(self.active)
        last: dict[int, tuple[tuple[int, float], Object]] = {}
        for pod in self.tracked:
            index = self.index(pod)
            if index is None or index in busy or not failed(self.job, pod):
                continue
            attempt = sum(index_failures(pod)), finished_at(pod)
            if index not in last or attempt >= last[index][0]:
                last[index] = attempt, pod
        return {index: pod for index, (_, pod) in last.items()}

    def _count_uncounted(self) -> None:
        lists = self.old.get("uncountedTerminatedPods") or {}
        alive = {uid(pod) for pod in self.tracked}
        succeeded, lost = lists.get("succeeded") or (), lists.get("failed") or ()
        self.uncounted_succeeded = [each for each in succeeded if each in alive]
        self.uncounted_failed = [each for each in lost if each in alive]
        self.counted_succeeded = int_of(self.old.get("succeeded")) + len(succeeded) - len(self.uncounted_succeeded)
        self.counted_failed = int_of(self.old.get("failed")) + len(lost) - len(self.uncounted_failed)

    def _count_new(self) -> None:
        known, lost = set(self.uncounted_succeeded), set(self.uncounted_failed)
        valid = [pod for pod in self.tracked if self.valid(pod)]
        self.new_succeeded = [pod for pod in valid if podlib.phase(pod) == "Succeeded" and uid(pod) not in known]
        self.new_failed = [pod for pod in valid if uid(pod) not in lost and failed(self.job, pod)]
        counting = sum(self.verdict(pod).counts for pod in self.new_failed)
        self.failed = self.counted_failed + len(self.uncounted_failed) + counting
        self.succeeded = self.counted_succeeded + len(self.uncounted_succeeded) + len(self.new_succeeded)

    def _count_indexes(self) -> None:
        self.succeeded_indexes: set[int] = set()
        self.failed_indexes: set[int] = set()
        if not self.indexed:
            return
        limit = int_of(self.completions)
        if self.per_index:
            self.failed_indexes = parse_indexes(self.old.get("failedIndexes") or "", limit)
        # An index may have had two pods, one of each end: it is what was written first, else it has succeeded. The
        # server takes no status in which it is both, and upstream, which writes one, does not get any further.
        succeeded = self.indexes_of([pod for pod in self.tracked if podlib.phase(pod) == "Succeeded"])
        self.succeeded_indexes = parse_indexes(self.old.get("completedIndexes") or "", limit)
        self.succeeded_indexes |= succeeded - self.failed_indexes
        self.succeeded = len(self.succeeded_indexes)
        if self.per_index:
            lost = self.indexes_of([pod for pod in self.tracked if self._index_failed(pod)])
            self.failed_indexes |= lost - self.succeeded_indexes

    def _index_failed(self, pod: Object) -> bool:
        """Whether the index of `pod` has failed for good."""
        if not failed(self.job, pod):
            return False
        verdict = self.verdict(pod)
        limit = int_of(self.spec.get("backoffLimitPerIndex"))
        return verdict.action == "FailIndex" or (verdict.counts and index_failures(pod)[0] >= limit)
