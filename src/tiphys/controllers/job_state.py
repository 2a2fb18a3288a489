"""What a Job should do next. Pure.

Every pod is counted exactly once, whatever crashes when: it has a finalizer until its uid was written to
status.uncountedTerminatedPods, then the finalizer goes, then the uid becomes a number (KEP-2307).

A step has two halves. `Step.plan` says which pods to create and to delete; when that has been tried, `Step.conclude`
says what the status becomes and from which pods the finalizer may go once it is written. The next step counts those.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiphys.base.clock import rfc3339
from tiphys.client.types import Object
from tiphys.controllers import job_policies as policies
from tiphys.controllers import pods as podlib
from tiphys.controllers.job_ending import FAILURE, SUCCESS, completed, condition, deadline_in, ending
from tiphys.controllers.job_facts import Facts, Pods
from tiphys.controllers.job_indexes import format_indexes, parse_indexes
from tiphys.controllers.job_pods import failed, suspended
from tiphys.controllers.job_scaling import missing, surplus
from tiphys.controllers.objects import deleting, has_condition, int_of, uid

MAX_UNCOUNTED = 500
"""As many uids are listed at most, to keep the object small."""
NO_FAILURES = policies.Failures()

Event = tuple[str, str, str]
"""Type, reason and message."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Pods to create and to delete."""

    create: tuple[Mapping[str, Any], ...] = ()
    discard: Pods = ()
    """Surplus pods: they lose the finalizer first, so that they are not counted."""
    delete: Pods = ()
    """Active pods of a job that has ended; they count."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a plan."""

    created: int = 0
    deleted: Pods = ()


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What to do then, in this order: write the status, strip finalizers, tell events."""

    status: Mapping[str, Any] | None = None
    """The status, if it should change."""
    strip: Pods = ()
    """Pods that the new status accounts for."""
    events: tuple[Event, ...] = ()
    failures: policies.Failures = NO_FAILURES
    after: float | None = None
    """Seconds until the next look."""


def finished(job: Object) -> bool:
    return has_condition(job, "Complete") or has_condition(job, "Failed")


class Step:
    """One step. `stripped`: pods whose finalizer was removed though the cache does not show it yet."""

    def __init__(
        self,
        job: Object,
        pods: Sequence[Object],
        now: float,
        failures: policies.Failures = NO_FAILURES,
        stripped: Collection[str] = (),
    ) -> None:
        self._facts = Facts(job, pods, now, stripped)
        self._job, self._now = job, now
        self._conditions = [dict(each) for each in self._facts.old.get("conditions") or ()]
        self._events: list[Event] = []
        self._failures = failures.after(self._facts.new_succeeded, self._facts.new_failed)
        self._start: str | None = self._facts.old.get("startTime")
        if self._start is None and not suspended(job):
            self._start = rfc3339(now)
        self._ending = ending(self._facts, self._start)
        self._waits: float | None = None
        """Seconds that a back-off still lasts."""

    def plan(self) -> Plan:
        if self._ending is not None:
            return Plan(delete=tuple(self._facts.active))
        if deleting(self._job):
            return Plan()
        if discard := surplus(self._facts):
            return Plan(discard=discard)
        creation = missing(self._facts, self._failures) if not suspended(self._job) else None
        if creation is None:
            return Plan()
        self._waits = creation.after
        return Plan(create=creation.pods)

    def conclude(self, outcome: Outcome) -> Conclusion:
        """What follows when the plan has been carried out as far as `outcome` says."""
        active = len(self._facts.active) + outcome.created - len(outcome.deleted)
        if self._ending is not None:
            if len(outcome.deleted) < len(self._facts.active):
                self._ending = None  # not yet: the rest has to go first
        elif (reached := completed(self._facts, active)) is not None:
            self._ending = reached
        elif not deleting(self._job):
            self._note_suspension()
        strip, all_accounted = self._account()
        self._note_ending()
        new = self._status(active, outcome.deleted)
        leaving = len(self._facts.terminating) + len(outcome.deleted)
        if self._ending is not None and all_accounted and not (strip or leaving or any(self._uncounted().values())):
            new |= self._finish(self._ending, new)
        return Conclusion(
            status=None if new == self._facts.old else new,
            strip=strip,
            events=tuple(self._events),
            failures=self._failures,
            after=self._come_back(),
        )

    def _account(self) -> tuple[Pods, bool]:
        """(pods whose finalizer may go when the status is written, whether these are all that have one).

        Puts their uids on the lists of the status, as many as there is room for."""
        facts = self._facts
        before = parse_indexes(facts.old.get("completedIndexes") or "", int_of(facts.completions))
        delayed = {uid(pod) for pod in facts.last_failed().values()}
        listed = set(facts.uncounted_succeeded), set(facts.uncounted_failed)
        new_indexes: set[int] = set()
        strip = []
        for pod in facts.tracked:
            if not self._accountable(pod, delayed):
                continue
            strip.append(pod)
            if podlib.phase(pod) == "Succeeded" and uid(pod) not in listed[1]:
                index = facts.index(pod)
                if not facts.indexed and uid(pod) not in listed[0]:
                    facts.uncounted_succeeded.append(uid(pod))
                elif facts.indexed and index is not None and index not in before:
                    new_indexes.add(index)
            elif self._lost(pod) and uid(pod) not in listed[1] and facts.valid(pod) and facts.verdict(pod).counts:
                facts.uncounted_failed.append(uid(pod))
            if len(new_indexes) + len(facts.uncounted_succeeded) + len(facts.uncounted_failed) >= MAX_UNCOUNTED:
                return tuple(strip), False
        return tuple(strip), True

    def _accountable(self, pod: Object, delayed: Collection[str]) -> bool:
        """Whether its finalizer may go now."""
        if self._ending is not None or deleting(self._job) or podlib.phase(pod) == "Succeeded":
            return True
        return failed(self._job, pod) and uid(pod) not in delayed

    def _lost(self, pod: Object) -> bool:
        """Whether it counts as failed; when a job fails, everything does that has not succeeded."""
        return failed(self._job, pod) or (self._ending is not None and self._ending["type"] == FAILURE)

    def _uncounted(self) -> dict[str, list[str]]:
        lists = {"succeeded": self._facts.uncounted_succeeded, "failed": self._facts.uncounted_failed}
        return {key: value for key, value in lists.items() if value}

    def _note_ending(self) -> None:
        held = {each["type"] for each in self._conditions if each.get("status") == "True"}
        if self._ending is not None and self._ending["type"] not in held:
            self._conditions.append(dict(self._ending))

    def _note_suspension(self) -> None:
        if suspended(self._job):
            if self._set_condition("Suspended", "True", "JobSuspended", "Job suspended"):
                self._events.append(("Normal", "Suspended", "Job suspended"))
                self._start = None
        elif self._set_condition("Suspended", "False", "JobResumed", "Job resumed"):
            self._events.append(("Normal", "Resumed", "Job resumed"))
            self._start = rfc3339(self._now)

    def _set_condition(self, type: str, value: str, reason: str, message: str) -> bool:
        """Whether that changed anything; a condition does not start out as False."""
        new = condition(type, reason, message, self._now, value)
        for number, each in enumerate(self._conditions):
            if each["type"] == type:
                same = all(each.get(key) == new[key] for key in ("status", "reason", "message"))
                self._conditions[number] = each if same else new
                return not same
        if value == "True":
            self._conditions.append(new)
        return value == "True"

    def _status(self, active: int, deleted: Pods) -> dict[str, Any]:
        facts = self._facts
        gone = {uid(pod) for pod in deleted}
        optional = {
            "conditions": self._conditions,
            "startTime": self._start,
            "active": active,
            "succeeded": len(facts.succeeded_indexes) if facts.indexed else facts.counted_succeeded,
            "failed": facts.counted_failed,
            "completedIndexes": format_indexes(facts.succeeded_indexes),
        }
        fixed = {
            "terminating": len(facts.terminating) + len(deleted),
            "uncountedTerminatedPods": self._uncounted(),
            "ready": sum(podlib.ready(pod) for pod in facts.active if uid(pod) not in gone),
            **({"failedIndexes": format_indexes(facts.failed_indexes)} if facts.per_index else {}),
        }
        kept = {key: value for key, value in facts.old.items() if key not in optional and key != "failedIndexes"}
        return {**kept, **{key: value for key, value in optional.items() if value}, **fixed}

    def _finish(self, ending: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
        """No pod is left: the last condition, and what belongs to it."""
        success = ending["type"] == SUCCESS
        reason, message = str(ending["reason"]), str(ending["message"])
        self._set_condition("Complete" if success else "Failed", "True", reason, message)
        if not success:
            self._events.append(("Warning", reason, message))
            return {"conditions": self._conditions}
        completions = self._facts.completions
        if completions is not None and int_of(new.get("succeeded")) > int(completions):
            words = "Too many succeeded pods running after completion count reached"
            self._events.append(("Warning", "TooManySucceededPods", words))
        self._events.append(("Normal", "Completed", "Job completed"))
        return {"conditions": self._conditions, "completionTime": rfc3339(self._now)}

    def _come_back(self) -> float | None:
        if self._ending is not None:
            return None
        waits = (self._waits, deadline_in(self._facts, self._start))
        return min((wait for wait in waits if wait is not None), default=None)
