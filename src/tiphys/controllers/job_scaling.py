"""Which pods a Job needs, and which of its pods are too many. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.client.types import Object
from tiphys.controllers import job_policies as policies
from tiphys.controllers import pods as podlib
from tiphys.controllers.job_facts import Facts, Pods
from tiphys.controllers.job_pods import indexed_pod, job_pod, replaces_failed_only, suspended
from tiphys.controllers.objects import int_of

MAX_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Creation:
    """Pods to create now, or how long to wait for that after failures."""

    pods: tuple[Mapping[str, Any], ...] = ()
    after: float | None = None


def surplus(facts: Facts) -> Pods:
    """Active pods that are too many: without a valid index or with one that another has as well, then any."""
    too_many = max(0, len(facts.active) - _wanted_active(facts))
    repeated, rest = _repeated(facts) if facts.indexed else ([], facts.active)
    if len(repeated) < too_many:
        repeated += podlib.least_advanced(rest)[: too_many - len(repeated)]
    return tuple(repeated[:MAX_AT_ONCE])


def missing(facts: Facts, failures: policies.Failures) -> Creation:
    """The pods to create; none while a back-off lasts."""
    ahead = len(facts.terminating) if replaces_failed_only(facts.job) else 0
    number = min(MAX_AT_ONCE, _wanted_active(facts) - ahead - len(facts.active))
    if number <= 0:
        return Creation()
    wait = 0.0 if facts.per_index else failures.wait(facts.now)
    if wait > 0:
        return Creation(after=wait)
    return _missing_indexes(facts, number) if facts.indexed else Creation((job_pod(facts.job),) * number)


def _wanted_active(facts: Facts) -> int:
    parallelism = int_of(facts.spec.get("parallelism"), 1)
    if suspended(facts.job):
        return 0
    if facts.completions is None:
        return len(facts.active) if facts.succeeded else parallelism
    return max(0, min(parallelism, int(facts.completions) - facts.succeeded))


def _repeated(facts: Facts) -> tuple[list[Object], list[Object]]:
    """(active pods without a valid index or with one that another has as well, the others)."""
    by_index: dict[int, list[Object]] = {}
    wrong = []
    for pod in facts.active:
        index = facts.index(pod)
        if index is None:
            wrong.append(pod)
        else:
            by_index.setdefault(index, []).append(pod)
    rest = []
    for same in by_index.values():
        *others, last = podlib.least_advanced(same) if len(same) > 1 else same
        wrong += others
        rest.append(last)
    return wrong, rest


def _missing_indexes(facts: Facts, number: int) -> Creation:
    taken = facts.succeeded_indexes | facts.failed_indexes | facts.indexes_of(facts.active)
    if replaces_failed_only(facts.job):
        taken |= facts.indexes_of(facts.terminating)
    free = _first_free(taken, number, int_of(facts.completions))
    if not facts.per_index:
        return Creation(tuple(indexed_pod(facts.job, index, None) for index in free))
    last = facts.last_failed()
    waits = {index: policies.index_wait(last.get(index), facts.now) for index in free}
    ready = [index for index in free if waits[index] == 0]
    counts = {index: policies.next_index_failures(facts.job, last.get(index)) for index in ready}
    after = min((wait for wait in waits.values() if wait > 0), default=None)
    return Creation(tuple(indexed_pod(facts.job, index, counts[index]) for index in ready), after)


def _first_free(taken: set[int], number: int, completions: int) -> list[int]:
    free: list[int] = []
    for index in range(completions):
        if len(free) == number:
            break
        if index not in taken:
            free.append(index)
    return free
