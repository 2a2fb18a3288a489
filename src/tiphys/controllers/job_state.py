"""What a Job should do next. Pure.

Every pod is counted exactly once, whatever crashes when: it has a finalizer until its uid was written to
status.uncountedTerminatedPods, then the finalizer goes, then the uid becomes a number (KEP-2307). `decide` takes one
step of that, of starting and stopping pods, and of the way to the end: FailureTarget or SuccessCriteriaMet first,
Failed or Complete when no pod is left (KEP-3998, KEP-3939).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiphys.base.clock import rfc3339
from tiphys.client.types import Object
from tiphys.controllers import job_policies as policies
from tiphys.controllers import pods as podlib
from tiphys.controllers.job_pods import (
    failed,
    format_indexes,
    index_failures,
    index_of,
    indexed,
    indexed_pod,
    job_pod,
    parse_indexes,
    replaces_failed_only,
    suspended,
    tracked,
)
from tiphys.controllers.objects import condition, deleting, has_condition, int_of, moment, name, spec, status, uid

MAX_UNCOUNTED = 500
NO_FAILURES = policies.Failures()
MAX_AT_ONCE = 500

Pods = tuple[Object, ...]
Event = tuple[str, str, str]
"""Type, reason and message."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, in this order: create, discard and delete, write the status, strip finalizers, tell events."""

    create: tuple[Mapping[str, Any], ...] = ()
    discard: Pods = ()
    """Surplus pods: they lose the finalizer first, so that they are not counted."""
    delete: Pods = ()
    """Active pods of a job that has ended; they count."""
    status: Mapping[str, Any] | None = None
    """The status, if it should change."""
    strip: Pods = ()
    """Pods that the new status accounts for."""
    events: tuple[Event, ...] = ()
    failures: policies.Failures = NO_FAILURES
    after: float | None = None


def finished(job: Object) -> bool:
    return has_condition(job, "Complete") or has_condition(job, "Failed")


def decide(
    job: Object,
    pods: Sequence[Object],
    now: float,
    failures: policies.Failures,
    *,
    stripped: Collection[str] = (),
    settled: bool = True,
) -> Decision:
    """One step. `stripped`: pods whose finalizer was removed though the cache does not show it yet; `settled`:
    whether the cache shows all pods that were created and deleted."""
    return _Step(job, pods, now, failures, stripped, settled).decision()


class _Step:
    """The facts of one decision."""

    def __init__(
        self,
        job: Object,
        pods: Sequence[Object],
        now: float,
        failures: policies.Failures,
        stripped: Collection[str],
        settled: bool,
    ) -> None:
        self.job, self.pods, self.now, self.settled = job, pods, now, settled
        self.spec, self.old = spec(job), status(job)
        self.completions = self.spec.get("completions")
        self.tracked = [pod for pod in pods if tracked(pod) and uid(pod) not in stripped]
        self.active = [pod for pod in pods if podlib.active(pod)]
        self.terminating = sum(map(podlib.terminating, pods))
        self.conditions = list(self.old.get("conditions") or ())
        self.events: list[Event] = []
        self.after: float | None = None
        self._count()
        self.failures = failures.after(self.new_succeeded, self.new_failed)
        self.start: str | None = self.old.get("startTime")
        if self.start is None and not suspended(job):
            self.start = rfc3339(now)

    def _count(self) -> None:
        uncounted = self.old.get("uncountedTerminatedPods") or {}
        alive = {uid(pod) for pod in self.tracked}
        succeeded, lost = uncounted.get("succeeded") or (), uncounted.get("failed") or ()
        self.uncounted_succeeded = [each for each in succeeded if each in alive]
        self.uncounted_failed = [each for each in lost if each in alive]
        self.counted_succeeded = int_of(self.old.get("succeeded")) + len(succeeded) - len(self.uncounted_succeeded)
        self.counted_failed = int_of(self.old.get("failed")) + len(lost) - len(self.uncounted_failed)
        valid = [pod for pod in self.tracked if self._valid(pod)]
        self.new_succeeded = [
            pod for pod in valid if podlib.phase(pod) == "Succeeded" and uid(pod) not in self.uncounted_succeeded
        ]
        self.new_failed = [pod for pod in valid if failed(self.job, pod) and uid(pod) not in self.uncounted_failed]
        counting = sum(policies.judge(self.job, pod).counts for pod in self.new_failed)
        self.failed = self.counted_failed + len(self.uncounted_failed) + counting
        self.succeeded = self.counted_succeeded + len(self.uncounted_succeeded) + len(self.new_succeeded)
        self.indexes: set[int] = set()
        self.failed_indexes: set[int] = set()
        if indexed(self.job):
            self._count_indexes(valid)

    def _valid(self, pod: Object) -> bool:
        index = index_of(pod)
        return not indexed(self.job) or (index is not None and index < int_of(self.completions))

    def _count_indexes(self, valid: Sequence[Object]) -> None:
        limit = int_of(self.completions)
        self.indexes = parse_indexes(self.old.get("completedIndexes") or "", limit)
        self.indexes |= {index for pod in valid if podlib.phase(pod) == "Succeeded" for index in _index(pod)}
        self.succeeded = len(self.indexes)
        if self.per_index:
            self.failed_indexes = parse_indexes(self.old.get("failedIndexes") or "", limit)
            lost = (pod for pod in valid if policies.index_failed(self.job, pod))
            self.failed_indexes |= {index for pod in lost for index in _index(pod)}

    @property
    def per_index(self) -> bool:
        return self.spec.get("backoffLimitPerIndex") is not None

    def decision(self) -> Decision:
        ending = self._ending()
        if ending is None:
            return self._go_on()
        delete = tuple(self.active)
        if ending["type"] not in (each["type"] for each in self.conditions) and self.settled:
            self.conditions.append(ending)
        strip = tuple(self.tracked)
        self._account(strip, all_failed=ending["type"] == "FailureTarget")
        return self._result(delete=delete, strip=strip, gone=delete, ending=ending)

    def _go_on(self) -> Decision:
        create: tuple[Mapping[str, Any], ...] = ()
        discard: Pods = ()
        if self.settled and not deleting(self.job):
            discard = self._surplus()
            create = () if discard or suspended(self.job) else self._missing()
            if self._reached_completions(len(self.active) + len(create) - len(discard)):
                ending = self._condition("SuccessCriteriaMet", "CompletionsReached", _COMPLETIONS)
                self.conditions.append(ending)
                strip = tuple(self.tracked)
                self._account(strip, all_failed=False)
                return self._result(discard=discard, strip=strip, gone=discard, ending=ending)
            self._note_suspension()
        strip = tuple(pod for pod in self.tracked if self._accountable(pod))
        self._account(strip, all_failed=False)
        return self._result(create=create, discard=discard, strip=strip, gone=discard)

    def _condition(self, type: str, reason: str, message: str, value: str = "True") -> dict[str, Any]:
        stamp = rfc3339(self.now)
        return {
            "type": type,
            "status": value,
            "lastProbeTime": stamp,
            "lastTransitionTime": stamp,
            "reason": reason,
            "message": message,
        }

    def _ending(self) -> Mapping[str, Any] | None:
        """SuccessCriteriaMet or FailureTarget: why the job ends, if it does, completions aside."""
        for type in ("SuccessCriteriaMet", "FailureTarget"):
            if has_condition(self.job, type):
                return condition(self.old, type)
        return self._policy_failure() or self._limit_failure() or self._index_outcome()

    def _fail(self, reason: str, message: str) -> dict[str, Any]:
        return self._condition("FailureTarget", reason, message)

    def _policy_failure(self) -> Mapping[str, Any] | None:
        verdicts = (policies.judge(self.job, pod) for pod in self.pods if failed(self.job, pod))
        message = next((verdict.message for verdict in verdicts if verdict.message), "")
        return self._fail("PodFailurePolicy", message) if message else None

    def _limit_failure(self) -> Mapping[str, Any] | None:
        limit = int_of(self.spec.get("backoffLimit"), 6)
        if self.failed > limit or policies.restarted_too_often(self.job, self.pods):
            return self._fail("BackoffLimitExceeded", "Job has reached the specified backoff limit")
        deadline = self.spec.get("activeDeadlineSeconds")
        if deadline is None or suspended(self.job) or self.start is None:
            return None
        left = moment(self.start) + float(deadline) - self.now
        if left <= 0:
            return self._fail("DeadlineExceeded", "Job was active longer than specified deadline")
        self._come_back(left)
        return None

    def _index_outcome(self) -> Mapping[str, Any] | None:
        if not indexed(self.job):
            return None
        most = self.spec.get("maxFailedIndexes")
        if most is not None and len(self.failed_indexes) > most:
            message = "Job has exceeded the specified maximal number of failed indexes"
            return self._fail("MaxFailedIndexesExceeded", message)
        done = len(self.failed_indexes) + len(self.indexes)
        if self.failed_indexes and done >= int_of(self.completions):
            return self._fail("FailedIndexes", "Job has failed indexes")
        rule = policies.success_rule(self.job, self.indexes)
        if rule is not None:
            return self._condition("SuccessCriteriaMet", "SuccessPolicy", f"Matched rules at index {rule}")
        return None

    def _reached_completions(self, active: int) -> bool:
        if self.completions is None:
            return self.succeeded > 0 and active == 0
        return self.succeeded >= int(self.completions) and active == 0

    def _wanted_active(self) -> int:
        parallelism = int_of(self.spec.get("parallelism"), 1)
        if suspended(self.job):
            return 0
        if self.completions is None:
            return len(self.active) if self.succeeded else parallelism
        return max(0, min(parallelism, int(self.completions) - self.succeeded))

    def _surplus(self) -> Pods:
        surplus = max(0, len(self.active) - self._wanted_active())
        repeated, rest = self._repeated() if indexed(self.job) else ([], self.active)
        ranked = podlib.ranked_for_deletion(rest, (), self.now)
        return tuple((repeated + ranked[: max(0, surplus - len(repeated))])[:MAX_AT_ONCE])

    def _repeated(self) -> tuple[list[Object], list[Object]]:
        """(active pods without a valid index or with one that another has as well, the others)."""
        by_index: dict[int, list[Object]] = {}
        wrong = []
        for pod in self.active:
            index = index_of(pod)
            if index is None or index >= int_of(self.completions):
                wrong.append(pod)
            else:
                by_index.setdefault(index, []).append(pod)
        rest = []
        for same in by_index.values():
            *surplus, last = podlib.ranked_for_deletion(same, (), self.now)
            wrong += surplus
            rest.append(last)
        return wrong, rest

    def _missing(self) -> tuple[Mapping[str, Any], ...]:
        ahead = self.terminating if replaces_failed_only(self.job) else 0
        number = min(MAX_AT_ONCE, self._wanted_active() - ahead - len(self.active))
        if number <= 0:
            return ()
        wait = 0.0 if self.per_index else self.failures.wait(self.now)
        if wait > 0:
            self._come_back(wait)
            return ()
        if not indexed(self.job):
            return tuple([job_pod(self.job)] * number)
        return self._missing_indexes(number)

    def _missing_indexes(self, number: int) -> tuple[Mapping[str, Any], ...]:
        there = self.active + ([pod for pod in self.pods if podlib.terminating(pod)] if self._waits else [])
        taken = self.indexes | self.failed_indexes | {index for pod in there for index in _index(pod)}
        free = [index for index in range(int_of(self.completions)) if index not in taken][:number]
        if not self.per_index:
            return tuple(indexed_pod(self.job, index, None) for index in free)
        last = self._last_failed()
        waits = {index: policies.index_wait(last.get(index), self.now) for index in free}
        ready = [index for index in free if waits[index] == 0]
        if free and not ready:
            self._come_back(min(waits.values()))
        counts = {index: policies.next_index_failures(self.job, last.get(index)) for index in ready}
        return tuple(indexed_pod(self.job, index, counts[index]) for index in ready)

    @property
    def _waits(self) -> bool:
        return replaces_failed_only(self.job)

    def _last_failed(self) -> dict[int, Object]:
        """The latest failed pod of each index that is to be tried again: it keeps the index's count of failures."""
        busy = self.indexes | self.failed_indexes | {index for pod in self.active for index in _index(pod)}
        last: dict[int, Object] = {}
        for pod in sorted(self.tracked, key=_attempt):
            for index in _index(pod):
                if index not in busy and failed(self.job, pod):
                    last[index] = pod
        return last

    def _accountable(self, pod: Object) -> bool:
        """Whether its finalizer may go now."""
        if deleting(self.job) or podlib.phase(pod) == "Succeeded":
            return True
        if not failed(self.job, pod):
            return False
        delayed = self._last_failed().values() if self.per_index else ()
        return all(uid(each) != uid(pod) for each in delayed)

    def _account(self, strip: Pods, *, all_failed: bool) -> None:
        """Put the uids of `strip` on the lists of the status; `all_failed` also those that have not finished."""
        for pod in strip:
            key = uid(pod)
            if not self._valid(pod) or key in self.uncounted_failed or key in self.uncounted_succeeded:
                continue
            if podlib.phase(pod) == "Succeeded":
                if not indexed(self.job):
                    self.uncounted_succeeded.append(key)
            elif (all_failed or failed(self.job, pod)) and policies.judge(self.job, pod).counts:
                self.uncounted_failed.append(key)

    def _note_suspension(self) -> None:
        if suspended(self.job):
            if self._set_condition("Suspended", "True", "JobSuspended", "Job suspended"):
                self.events.append(("Normal", "Suspended", "Job suspended"))
                self.start = None
        elif self._set_condition("Suspended", "False", "JobResumed", "Job resumed"):
            self.events.append(("Normal", "Resumed", "Job resumed"))
            self.start = rfc3339(self.now)

    def _set_condition(self, type: str, value: str, reason: str, message: str) -> bool:
        """Whether that changed anything; a condition does not start out as False."""
        for number, each in enumerate(self.conditions):
            if each["type"] == type:
                if each["status"] == value:
                    return False
                self.conditions[number] = self._condition(type, reason, message, value)
                return True
        if value == "True":
            self.conditions.append(self._condition(type, reason, message))
        return value == "True"

    def _come_back(self, seconds: float) -> None:
        self.after = seconds if self.after is None else min(self.after, seconds)

    def _result(
        self,
        *,
        create: tuple[Mapping[str, Any], ...] = (),
        discard: Pods = (),
        delete: Pods = (),
        strip: Pods = (),
        gone: Pods = (),
        ending: Mapping[str, Any] | None = None,
    ) -> Decision:
        strip = strip[:MAX_UNCOUNTED]
        done = ending is not None and not (strip or gone or self.terminating or self.active) and self.settled
        new = self._status(len(self.active) + len(create) - len(gone), len(gone), gone)
        if done and ending is not None:
            new |= self._finish(ending, new)
        return Decision(
            create=create,
            discard=discard,
            delete=delete,
            status=None if new == self.old else new,
            strip=strip,
            events=tuple(self.events),
            failures=self.failures,
            after=self.after,
        )

    def _status(self, active: int, leaving: int, gone: Pods) -> dict[str, Any]:
        uncounted = {"succeeded": self.uncounted_succeeded, "failed": self.uncounted_failed}
        succeeded = len(self.indexes) if indexed(self.job) else self.counted_succeeded
        left = [pod for pod in self.active if all(pod is not each for each in gone)]
        optional = {
            "conditions": self.conditions,
            "startTime": self.start,
            "active": active,
            "succeeded": succeeded,
            "failed": self.counted_failed,
            "completedIndexes": format_indexes(self.indexes),
        }
        new: dict[str, Any] = {key: value for key, value in optional.items() if value}
        new["terminating"] = self.terminating + leaving
        new["uncountedTerminatedPods"] = {key: value for key, value in uncounted.items() if value}
        new["ready"] = sum(map(podlib.ready, left))
        if indexed(self.job) and self.per_index:
            new["failedIndexes"] = format_indexes(self.failed_indexes)
        return new

    def _finish(self, ending: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
        success = ending["type"] == "SuccessCriteriaMet"
        last = self._condition("Complete" if success else "Failed", ending["reason"], ending["message"])
        result: dict[str, Any] = {"conditions": [*self.conditions, last]}
        if not success:
            self.events.append(("Warning", last["reason"], last["message"]))
            return result
        if self.completions is not None and int_of(new.get("succeeded")) > int(self.completions):
            message = "Too many succeeded pods running after completion count reached"
            self.events.append(("Warning", "TooManySucceededPods", message))
        self.events.append(("Normal", "Completed", "Job completed"))
        return {**result, "completionTime": last["lastTransitionTime"]}


_COMPLETIONS = "Reached expected number of succeeded pods"


def _index(pod: Object) -> tuple[int, ...]:
    index = index_of(pod)
    return () if index is None else (index,)


def _attempt(pod: Object) -> tuple[int, str]:
    return sum(index_failures(pod)), name(pod)
