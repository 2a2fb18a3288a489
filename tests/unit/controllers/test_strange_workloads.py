"""Jobs, CronJobs, ReplicaSets and pods with fields missing, null or odd do not upset the rules."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tiphys.controllers import cronjob_state, replicaset
from tiphys.controllers.job_pods import FINALIZER, INDEX, INDEX_FAILURES
from tiphys.controllers.job_state import Outcome, Step, finished
from tiphys.controllers.pods import least_advanced, ranked_for_deletion
from tiphys.controllers.ttl_after_finished import time_left

NOW = 1_767_225_600.0
WHEN = "2026-01-01T00:00:00Z"
OWNER = {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u", "controller": True}
TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}, "finalizers": ["f"]},
    "spec": {"restartPolicy": "OnFailure", "containers": [{"name": "c", "env": [{"name": "E", "value": "v"}]}]},
}
POD: dict[str, Any] = {
    "metadata": {
        "name": "p",
        "namespace": "ns",
        "uid": "p",
        "creationTimestamp": WHEN,
        "deletionTimestamp": WHEN,
        "deletionGracePeriodSeconds": 30,
        "finalizers": [FINALIZER],
        "ownerReferences": [OWNER],
        "annotations": {INDEX: "0", INDEX_FAILURES: "1", "controller.kubernetes.io/pod-deletion-cost": "5"},
    },
    "spec": {"nodeName": "n", "initContainers": [{"name": "s", "restartPolicy": "Always"}]},
    "status": {
        "phase": "Failed",
        "conditions": [
            {"type": "Ready", "status": "False", "lastTransitionTime": WHEN},
            {"type": "DisruptionTarget", "status": "True"},
        ],
        "containerStatuses": [
            {"name": "c", "restartCount": 2, "state": {"terminated": {"exitCode": 3, "finishedAt": WHEN}}}
        ],
        "initContainerStatuses": [{"name": "s", "restartCount": 1, "state": {"terminated": {"finishedAt": WHEN}}}],
    },
}
JOB: dict[str, Any] = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "j", "namespace": "ns", "uid": "u", "deletionTimestamp": WHEN},
    "spec": {
        "parallelism": 3,
        "completions": 5,
        "completionMode": "Indexed",
        "backoffLimit": 6,
        "backoffLimitPerIndex": 2,
        "maxFailedIndexes": 3,
        "activeDeadlineSeconds": 100,
        "ttlSecondsAfterFinished": 5,
        "suspend": True,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [
                {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [3]}},
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            ]
        },
        "successPolicy": {"rules": [{"succeededIndexes": "0-2", "succeededCount": 1}]},
        "template": TEMPLATE,
    },
    "status": {
        "startTime": WHEN,
        "completedIndexes": "0,2-3",
        "failedIndexes": "1",
        "succeeded": 3,
        "failed": 1,
        "uncountedTerminatedPods": {"succeeded": ["x"], "failed": ["p"]},
        "conditions": [
            {"type": "Suspended", "status": "True", "reason": "r", "message": "m", "lastTransitionTime": WHEN},
            {"type": "FailureTarget", "status": "True", "reason": "r", "message": "m"},
            {"type": "Failed", "status": "True", "reason": "r", "message": "m", "lastTransitionTime": WHEN},
        ],
    },
}
CRON_JOB: dict[str, Any] = {
    "apiVersion": "batch/v1",
    "kind": "CronJob",
    "metadata": {"name": "c", "namespace": "ns", "uid": "c", "creationTimestamp": WHEN},
    "spec": {
        "schedule": "*/2 * * * *",
        "timeZone": "Asia/Shanghai",
        "startingDeadlineSeconds": 500,
        "concurrencyPolicy": "Replace",
        "successfulJobsHistoryLimit": 0,
        "failedJobsHistoryLimit": 0,
        "jobTemplate": {"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}, "spec": {"template": TEMPLATE}},
    },
    "status": {"active": [{"name": "j", "namespace": "ns", "uid": "u"}], "lastScheduleTime": WHEN},
}
REPLICA_SET: dict[str, Any] = {
    "metadata": {"name": "r", "namespace": "ns", "uid": "r", "generation": 2},
    "spec": {"replicas": 1, "minReadySeconds": 5, "template": TEMPLATE},
    "status": {"replicas": 3, "conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}]},
}
KEPT = {"metadata", "name", "uid", "apiVersion", "kind", "type", "action", "values", "operator"}
"""What every object has, or its validation has seen to for ever."""
ODD = {INDEX: "-1", INDEX_FAILURES: "many", "controller.kubernetes.io/pod-deletion-cost": "²", "schedule": "x",
       "timeZone": "Mars/Olympus", "completedIndexes": "1-,x", "phase": "Odd", "completionMode": "Odd"}  # fmt: skip


def damaged(value: Any, rng: random.Random) -> Any:
    """`value` with some fields gone, null, empty or odd."""
    if isinstance(value, dict):
        made = {}
        for key, each in value.items():
            luck = 1.0 if key in KEPT else rng.random()
            if luck < 0.08:
                continue
            odd = ODD.get(key) if rng.random() < 0.2 else None
            made[key] = odd if odd is not None else None if luck < 0.16 else damaged(each, rng)
        return made
    if isinstance(value, list):
        return [damaged(each, rng) for each in value if rng.random() > 0.1]
    return value


def pods(rng: random.Random) -> list[dict[str, Any]]:
    made = []
    for number, phase in enumerate(["Failed", "Succeeded", "Running", "Pending", "Running", "Failed"]):
        pod = damaged(POD, rng)
        pod["metadata"] = {**pod["metadata"], "name": f"p{number}", "uid": f"p{number}"}
        if pod.get("status") and pod["status"].get("phase") == "Failed":
            pod["status"]["phase"] = phase
        if number % 2:
            pod["metadata"].pop("deletionTimestamp", None)
        made.append(pod)
    return made


def rules(rng: random.Random) -> Iterator[Callable[[], Any]]:
    job, cron_job, replica_set, found = damaged(JOB, rng), damaged(CRON_JOB, rng), damaged(REPLICA_SET, rng), pods(rng)

    def stepping() -> None:
        step = Step(job, found, NOW)
        plan = step.plan()
        step.conclude(Outcome(len(plan.create), (*plan.discard, *plan.delete)))

    def scheduling() -> None:
        new, _ = cronjob_state.follow(cron_job.get("status") or {}, [job])
        cronjob_state.missing(new, [job])
        cronjob_state.start(cron_job, new, NOW + 600)
        cronjob_state.surplus(cron_job, [job])

    yield stepping
    yield scheduling
    yield lambda: (finished(job), time_left(job, NOW))
    yield lambda: (ranked_for_deletion(found, found, NOW), least_advanced(found))
    yield lambda: replicaset.decide(replica_set, found, found, NOW)
    yield lambda: replicaset.new_status(replica_set, found, 0, "why", NOW)
    yield lambda: replicaset.next_check(replica_set, found, NOW)


@pytest.mark.parametrize("seed", range(300))
def test_no_rule_stumbles(seed: int) -> None:
    for rule in rules(random.Random(seed)):
        rule()
