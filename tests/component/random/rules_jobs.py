"""Rules for Jobs and CronJobs: no pod too many, every pod counted exactly once, no run too many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from component.random.bounds import without_lost
from component.random.state import Change, State
from component.random.weather import Weather
from tiphys.client.types import Object
from tiphys.controllers import pods as podlib
from tiphys.controllers.objects import controller_of, created, deleting, finalizers, int_of, name, spec, status, uid

FINALIZER = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"
COUNTS = ("succeeded", "failed")
ENDS = ("Complete", "Failed")


def finished(job: Object) -> bool:
    return any(each["type"] in ENDS and each["status"] == "True" for each in status(job).get("conditions") or ())


class Parallelism:
    """A Job does not create more pods than may run at once, nor any when it is suspended or over."""

    def __init__(self, weather: Weather) -> None:
        self._weather = weather
        self._allowed: dict[str, list[tuple[float, int]]] = {}

    def check(self, change: Change, state: State) -> Iterator[str]:
        if change.plural == "jobs":
            self._note(change)
        owner = controller_of(change.obj) if change.plural == "pods" else None
        if owner is None or change.old is not None or change.controller != "job-controller":
            return
        allowed = self._possible(owner["uid"], state, change.at)
        active = [each for each in state.controlled(owner["uid"]) if podlib.active(each)]
        active = without_lost(active, self._weather.lost)
        if allowed is not None and len(active) + 1 > allowed:
            yield f"{change.key} is one of {len(active) + 1}, but at most {allowed} may run at once"
        index = index_of(change.obj)
        if index is not None and any(index_of(each) == index for each in active):
            yield f"{change.key} is another one of index {index}"

    def _note(self, change: Change) -> None:
        job = change.new
        if job is None:
            self._allowed.pop(uid(change.obj), None)
            return
        wanted = spec(job)
        allowed = 0 if wanted.get("suspend") or finished(job) else int_of(wanted.get("parallelism"), 1)
        known = self._allowed.setdefault(uid(job), [])
        if not known or known[-1][1] != allowed:
            known.append((change.at, allowed))

    def _possible(self, job: str, state: State, now: float) -> int | None:
        """The most that any version allowed that the controller may go by."""
        known = self._allowed.get(job)
        if not known:
            return None
        late = [allowed for at, allowed in known if not state.known(at, now)]
        before = [allowed for at, allowed in known if state.known(at, now)]
        return max(late + before[-1:])


class Counting:
    """succeeded and failed grow by the pods that were seen to end, each once, and nothing is forgotten."""

    def __init__(self) -> None:
        self._counted: dict[str, list[str]] = {}
        self._freed: set[str] = set()
        self._ended: dict[str, dict[str, str]] = {}
        self._indexes: dict[str, set[int]] = {}

    def check(self, change: Change, state: State) -> Iterator[str]:
        if change.plural == "pods":
            self._note_pod(change)
            yield from self._untracked(change, state)
        if change.plural == "jobs" and change.old is not None and change.new is not None:
            yield from self._count(change.old, change.new)
            yield from self._completed(change.new)

    def _note_pod(self, change: Change) -> None:
        """What each pod that a Job had has come to."""
        if change.old is not None and change.new is not None and controller_of(change.new) is None:
            self._freed.add(uid(change.old))  # who adopts it takes it for another one
        for obj in (change.old, change.new):
            owner = controller_of(obj) if obj is not None else None
            if obj is None or owner is None or owner["kind"] != "Job":
                continue
            ended = self._ended.setdefault(owner["uid"], {})
            if podlib.phase(obj) == "Succeeded":
                ended[uid(obj)] = "succeeded"
                index = index_of(obj)
                if index is not None:
                    self._indexes.setdefault(owner["uid"], set()).add(index)
            elif podlib.phase(obj) == "Failed" or deleting(obj) or change.new is None:
                ended.setdefault(uid(obj), "failed")

    def _count(self, old: Object, new: Object) -> Iterator[str]:
        before, after = _uncounted(old), _uncounted(new)
        counted = self._counted.setdefault(uid(new), [])
        ended = self._ended.get(uid(new), {})
        for field in COUNTS:
            gone = set(before[field]) - set(after[field])
            grown = int_of(status(new).get(field)) - int_of(status(old).get(field))
            indexed = field == "succeeded" and _indexed(new)
            if grown != len(gone) and not indexed:
                yield f"{name(new)} counts {grown} more {field}, but {len(gone)} were to be counted"
            if len(after[field]) != len(set(after[field])):
                yield f"{name(new)} has a pod twice among those to be counted"
            for each in set(after[field]) - set(before[field]):
                if each in counted and each not in self._freed:
                    yield f"{name(new)} counts pod {each} again"
                if field == "succeeded" and ended.get(each) != field:
                    yield f"{name(new)} counts pod {each} as {field}, but it is {ended.get(each)}"
                counted.append(each)
            if not indexed and int_of(status(new).get(field)) + len(after[field]) > len(counted):
                yield f"{name(new)} counts more {field} than there were"

    def _untracked(self, change: Change, state: State) -> Iterator[str]:
        """The finalizer goes when the status has the pod, when the Job is over or gone, or with a surplus pod."""
        old, new = change.old, change.new
        if old is None or FINALIZER not in finalizers(old) or (new is not None and FINALIZER in finalizers(new)):
            return
        owner = controller_of(old)
        job = state.get(owner["uid"]) if owner is not None else None
        if change.controller != "job-controller" or job is None or ending(job) or deleting(job):
            return
        freed = uid(old) in self._freed or (new is not None and controller_of(new) is None)
        if not freed and podlib.terminal(old) and _counts(job, old) and not _counted(job, old):
            yield f"{change.key} was let go before {name(job)} counted it"

    def _completed(self, job: Object) -> Iterator[str]:
        text = status(job).get("completedIndexes") or ""
        done = parse(text)
        seen = self._indexes.get(uid(job), set())
        if not done <= seen:
            yield f"{name(job)} says that {sorted(done - seen)} are done, which never succeeded"


def _counts(job: Object, pod: Object) -> bool:
    """Whether the pod counts: failures to be ignored and indexes beyond the completions do not."""
    rules = (spec(job).get("podFailurePolicy") or {}).get("rules") or ()
    if podlib.phase(pod) == "Failed" and any(each["action"] == "Ignore" for each in rules):
        return False
    index = index_of(pod)
    return not _indexed(job) or (index is not None and index < int_of(spec(job).get("completions")))


def _counted(job: Object, pod: Object) -> bool:
    """Whether the status has it; of an index that is done, nothing more is counted as succeeded."""
    found = _uncounted(job)
    done = _indexed(job) and podlib.phase(pod) == "Succeeded"
    if done and index_of(pod) in parse(status(job).get("completedIndexes") or ""):
        return True
    return uid(pod) in {*found["succeeded"], *found["failed"]}


def ending(job: Object) -> bool:
    """Whether its fate is sealed: what its last pods come to does not matter any more."""
    sealed = ("SuccessCriteriaMet", "FailureTarget", *ENDS)
    return any(each["type"] in sealed for each in status(job).get("conditions") or ())


def _indexed(job: Object) -> bool:
    return bool(spec(job).get("completionMode") == "Indexed")


def _uncounted(job: Object) -> Mapping[str, list[str]]:
    found = status(job).get("uncountedTerminatedPods") or {}
    return {field: list(found.get(field) or ()) for field in COUNTS}


def index_of(pod: Object) -> int | None:
    found = (pod["metadata"].get("annotations") or {}).get(INDEX, "")
    return int(found) if found.isdigit() else None


def parse(text: str) -> set[int]:
    """The indexes in "1,3-5"."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


class Ends:
    """A Job that is over stays as it is, and is over only when no pod of it is left running."""

    def check(self, change: Change, state: State) -> Iterator[str]:
        old, new = change.old, change.new
        if change.plural != "jobs" or old is None or new is None:
            return
        if finished(old) and not finished(new):
            yield f"{change.key} is not over any more"
        if finished(old) and status(old) != status(new):
            yield f"{change.key} was over, but its status changed"
        if finished(new) and not finished(old):
            yield from self._end(change, new, state)
        for field in COUNTS:
            if int_of(status(new).get(field)) < int_of(status(old).get(field)):
                yield f"{change.key} counts fewer {field} than before"

    def _end(self, change: Change, job: Object, state: State) -> Iterator[str]:
        if any(_uncounted(job).values()):
            yield f"{change.key} is over, but has pods to count"
        left = [name(each) for each in state.controlled(uid(job)) if podlib.active(each)]
        if left and state.undisturbed(uid(job), change.at):
            yield f"{change.key} is over, but {', '.join(left)} still run"


class Schedules:
    """A CronJob that forbids concurrency starts no Job beside another, and none starts twice for one time."""

    def __init__(self) -> None:
        self._started: set[tuple[str, str]] = set()

    def check(self, change: Change, state: State) -> Iterator[str]:
        if change.plural == "cronjobs" and change.old is not None and change.new is not None:
            yield from self._time(change)
        owner = controller_of(change.obj) if change.plural == "jobs" and change.old is None else None
        if owner is None or change.controller != "cronjob-controller":
            return
        run = owner["uid"], change.obj["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"]
        cron_job = state.get(owner["uid"])
        told = (status(cron_job or {}).get("lastScheduleTime") or "") >= run[1]  # else it may be lost on its author
        if run in self._started and told:
            yield f"{change.key} was started for {run[1]} a second time"
        self._started.add(run)
        if cron_job is None or spec(cron_job).get("concurrencyPolicy") != "Forbid":
            return
        for other in state.controlled(owner["uid"], "jobs"):
            if not finished(other) and not deleting(other) and state.known(created(other), change.at):
                yield f"{change.key} was started beside {name(other)}"

    def _time(self, change: Change) -> Iterator[str]:
        before: Any = status(change.old or {}).get("lastScheduleTime") or ""
        if (status(change.new or {}).get("lastScheduleTime") or "") < before:
            yield f"{change.key}'s last time lies before the one before"
