"""When pods of a Job fail or succeed, what that means for the Job: failure and success policies, back-off. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiphys.client.types import Object
from tiphys.controllers import job_pods
from tiphys.controllers.job_indexes import parse_indexes
from tiphys.controllers.objects import int_of, name, namespace, spec, status

_BASE, _LIMIT = 10.0, 600.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the pod failure policy says of one failed pod."""

    action: str = ""
    """FailJob, FailIndex, Ignore, Count; "" when no rule matches."""
    message: str = ""
    """Why the job fails, for FailJob."""

    @property
    def counts(self) -> bool:
        """Whether the failure counts towards the back-off limit."""
        return self.action != "Ignore"


COUNTED = Verdict()


def judge(job: Object, pod: Object) -> Verdict:
    """Apply the rules of podFailurePolicy in order."""
    rules = (spec(job).get("podFailurePolicy") or {}).get("rules") or ()
    for number, rule in enumerate(rules):
        why = _matching(rule, pod)
        if why:
            action = str(rule["action"])
            message = f"{why} matching {action} rule at index {number}" if action == "FailJob" else ""
            return Verdict(action, message)
    return COUNTED


def _matching(rule: Mapping[str, Any], pod: Object) -> str:
    where = f"{namespace(pod)}/{name(pod)}"
    if rule.get("onExitCodes"):
        for each in [*(status(pod).get(kind) or () for kind in ("containerStatuses", "initContainerStatuses"))]:
            for container in each:
                code = _exit_code(container)
                if code and _exit_code_matches(rule["onExitCodes"], container["name"], code):
                    return f"Container {container['name']} for pod {where} failed with exit code {code}"
        return ""
    for condition in status(pod).get("conditions") or ():
        for pattern in rule.get("onPodConditions") or ():
            if condition["type"] == pattern["type"] and condition.get("status") == pattern.get("status", "True"):
                return f"Pod {where} has condition {condition['type']}"
    return ""


def _exit_code(container: Mapping[str, Any]) -> int:
    terminated = (container.get("state") or {}).get("terminated") or {}
    return int_of(terminated.get("exitCode"))


def _exit_code_matches(requirement: Mapping[str, Any], container: str, code: int) -> bool:
    if requirement.get("containerName") not in (None, container):
        return False
    return bool((code in requirement["values"]) == (requirement["operator"] == "In"))


def success_rule(job: Object, succeeded: set[int]) -> int | None:
    """The number of the first rule of successPolicy that the succeeded indexes satisfy."""
    completions = int_of(spec(job).get("completions"))
    for number, rule in enumerate((spec(job).get("successPolicy") or {}).get("rules") or ()):
        count = rule.get("succeededCount")
        if rule.get("succeededIndexes") is None:
            if count is not None and succeeded and len(succeeded) >= count:
                return number
            continue
        required = parse_indexes(rule["succeededIndexes"], completions)
        done = len(required & succeeded)
        if required and succeeded and (done == len(required) or (count is not None and done >= count)):
            return number
    return None


@dataclass(frozen=True, slots=True)
class Failures:
    """Failures in a row since the last success, and when the last of them was (seconds since the epoch)."""

    count: int = 0
    last: float = 0.0

    def after(self, succeeded: Sequence[Object], failed: Sequence[Object]) -> Failures:
        """With what has finished since taken into account."""
        ends = sorted(map(job_pods.finished_at, failed))
        if not succeeded:
            return Failures(self.count + len(ends), ends[-1]) if ends else self
        since = max(map(job_pods.finished_at, succeeded))
        later = [end for end in ends if end > since]
        return Failures(len(later), later[-1]) if later else Failures()

    def wait(self, now: float) -> float:
        """Seconds to wait before the next pod: 10, doubling to 10 minutes, counted from the last failure."""
        if self.count == 0:
            return 0.0
        return max(0.0, min(_LIMIT, _BASE * 2.0 ** min(self.count - 1, 30)) - (now - self.last))


def index_wait(pod: Object | None, now: float) -> float:
    """Seconds to wait before `pod`, the last failed one of its index, is replaced."""
    if pod is None:
        return 0.0
    return Failures(sum(job_pods.index_failures(pod)) + 1, job_pods.finished_at(pod)).wait(now)


def next_index_failures(job: Object, pod: Object | None) -> tuple[int, int]:
    """(counted, ignored) failures of an index with those of `pod`, its last failed one."""
    if pod is None:
        return 0, 0
    counted, ignored = job_pods.index_failures(pod)
    return (counted + 1, ignored) if judge(job, pod).counts else (counted, ignored + 1)


def restarted_too_often(job: Object, pods: Iterable[Object]) -> bool:
    """With restartPolicy OnFailure, restarts of containers count towards the back-off limit."""
    if ((spec(job).get("template") or {}).get("spec") or {}).get("restartPolicy") != "OnFailure":
        return False
    restarts = sum(
        int_of(container.get("restartCount"))
        for pod in pods
        if status(pod).get("phase") in ("Running", "Pending")
        for kind in ("initContainerStatuses", "containerStatuses")
        for container in status(pod).get(kind) or ()
    )
    return restarts >= max(1, int_of(spec(job).get("backoffLimit"), 6))
