"""Whether a Job ends, and why: the first of two conditions, FailureTarget or SuccessCriteriaMet. Pure.

Failed or Complete follow when no pod is left (KEP-3998, KEP-3939). What was decided once stays; then come failures
(policy, limit, deadline, indexes) and only then success.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.base.clock import rfc3339
from tiphys.controllers import job_policies as policies
from tiphys.controllers.job_facts import Facts
from tiphys.controllers.job_pods import failed, suspended
from tiphys.controllers.objects import int_of, moment

FAILURE, SUCCESS = "FailureTarget", "SuccessCriteriaMet"


def condition(type: str, reason: str, message: str, now: float, value: str = "True") -> dict[str, Any]:
    """A condition of a Job that changed just now."""
    stamp = rfc3339(now)
    return {
        "type": type, "status": value, "lastProbeTime": stamp, "lastTransitionTime": stamp,
        "reason": reason, "message": message,
    }  # fmt: skip


def ending(facts: Facts, start: str | None) -> Mapping[str, Any] | None:
    """Why the job ends; completions aside, for which it matters what still runs. `start` is its startTime."""
    for type in (SUCCESS, FAILURE):
        for each in facts.old.get("conditions") or ():
            if each["type"] == type and each.get("status") == "True":
                return dict(each)
    return _policy_failure(facts) or _limit_failure(facts, start) or _index_failure(facts) or _success_policy(facts)


def completed(facts: Facts, active: int) -> Mapping[str, Any] | None:
    """SuccessCriteriaMet if enough pods succeeded and none of the `active` is left."""
    enough = facts.succeeded > 0 if facts.completions is None else facts.succeeded >= int(facts.completions)
    if not enough or active:
        return None
    return condition(SUCCESS, "CompletionsReached", "Reached expected number of succeeded pods", facts.now)


def deadline_in(facts: Facts, start: str | None) -> float | None:
    """Seconds until the active deadline; not positive if it has passed, None if none runs."""
    seconds = facts.spec.get("activeDeadlineSeconds")
    if seconds is None or suspended(facts.job) or start is None:
        return None
    return moment(start) + float(seconds) - facts.now


def _fail(facts: Facts, reason: str, message: str) -> dict[str, Any]:
    return condition(FAILURE, reason, message, facts.now)


def _policy_failure(facts: Facts) -> Mapping[str, Any] | None:
    if not facts.spec.get("podFailurePolicy"):
        return None
    verdicts = (facts.verdict(pod) for pod in facts.pods if failed(facts.job, pod))
    message = next((verdict.message for verdict in verdicts if verdict.message), "")
    return _fail(facts, "PodFailurePolicy", message) if message else None


def _limit_failure(facts: Facts, start: str | None) -> Mapping[str, Any] | None:
    limit = int_of(facts.spec.get("backoffLimit"), 6)
    if facts.failed > limit or policies.restarted_too_often(facts.job, facts.pods):
        return _fail(facts, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    left = deadline_in(facts, start)
    if left is not None and left <= 0:
        return _fail(facts, "DeadlineExceeded", "Job was active longer than specified deadline")
    return None


def _index_failure(facts: Facts) -> Mapping[str, Any] | None:
    most = facts.spec.get("maxFailedIndexes")
    if most is not None and len(facts.failed_indexes) > most:
        message = "Job has exceeded the specified maximal number of failed indexes"
        return _fail(facts, "MaxFailedIndexesExceeded", message)
    done = len(facts.failed_indexes) + len(facts.succeeded_indexes)
    if facts.failed_indexes and done >= int_of(facts.completions):
        return _fail(facts, "FailedIndexes", "Job has failed indexes")
    return None


def _success_policy(facts: Facts) -> Mapping[str, Any] | None:
    rule = policies.success_rule(facts.job, facts.succeeded_indexes) if facts.indexed else None
    if rule is None:
        return None
    return condition(SUCCESS, "SuccessPolicy", f"Matched rules at index {rule}", facts.now)
