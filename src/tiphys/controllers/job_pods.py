"""The pods of a Job: how they are made, which count as failed, their completion index. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.client.types import Object
from tiphys.controllers import pods as podlib
from tiphys.controllers.job_indexes import number
from tiphys.controllers.objects import (
    annotations_of,
    condition,
    created,
    deleting,
    finalizers,
    moment,
    name,
    spec,
    status,
)

FINALIZER = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"
INDEX_FAILURES = "batch.kubernetes.io/job-index-failure-count"
INDEX_IGNORED = "batch.kubernetes.io/job-index-ignored-failure-count"

_INDEX_ENV = "JOB_COMPLETION_INDEX"
_MAX_GENERATED = 58


def indexed(job: Object) -> bool:
    return bool(spec(job).get("completionMode") == "Indexed")


def suspended(job: Object) -> bool:
    return bool(spec(job).get("suspend"))


def tracked(pod: Object) -> bool:
    """Whether it still has to be counted before it may go."""
    return FINALIZER in finalizers(pod)


def replaces_failed_only(job: Object) -> bool:
    """Whether a terminating pod is replaced only once it has finished."""
    return spec(job).get("podReplacementPolicy") == "Failed" or bool(spec(job).get("podFailurePolicy"))


def failed(job: Object, pod: Object) -> bool:
    """Whether it counts as failed: it did, or it was deleted before it could finish."""
    if podlib.phase(pod) == "Failed":
        return True
    return not replaces_failed_only(job) and deleting(pod) and podlib.phase(pod) != "Succeeded"


def index_of(pod: Object) -> int | None:
    """Its completion index."""
    return number(annotations_of(pod).get(INDEX))


def index_failures(pod: Object) -> tuple[int, int]:
    """(counted, ignored) failures of its index before this pod."""
    notes = annotations_of(pod)
    return number(notes.get(INDEX_FAILURES)) or 0, number(notes.get(INDEX_IGNORED)) or 0


def finished_at(pod: Object) -> float:
    """When it finished, as well as can be told: its containers, its readiness, its deletion, its creation."""
    sidecars = {each["name"] for each in spec(pod).get("initContainers") or () if each.get("restartPolicy") == "Always"}
    containers = list(status(pod).get("containerStatuses") or ())
    containers += [each for each in status(pod).get("initContainerStatuses") or () if each["name"] in sidecars]
    ends = [moment(((each.get("state") or {}).get("terminated") or {}).get("finishedAt")) for each in containers]
    if ends and all(ends):
        return max(ends)
    not_ready = condition(status(pod), "Ready")
    if not_ready is not None and not_ready.get("status") == "False" and not_ready.get("lastTransitionTime"):
        return moment(not_ready["lastTransitionTime"])
    if deleting(pod):
        meta = pod["metadata"]
        return moment(meta["deletionTimestamp"]) - float(meta.get("deletionGracePeriodSeconds") or 0)
    return created(pod)


def job_pod(job: Object) -> dict[str, Any]:
    """A pod of a job without indexes."""
    pod = podlib.from_template(spec(job).get("template") or {}, job)
    meta = pod["metadata"]
    present = [each for each in meta.get("finalizers", ()) if each != FINALIZER]
    return {**pod, "metadata": {**meta, "finalizers": [*present, FINALIZER]}}


def indexed_pod(job: Object, index: int, failures: tuple[int, int] | None) -> dict[str, Any]:
    """The pod for one index; `failures` are (counted, ignored) ones to carry on, None without a limit per index."""
    pod = job_pod(job)
    meta, pod_spec = pod["metadata"], pod["spec"]
    notes = {**meta.get("annotations", {}), INDEX: str(index)}
    if failures is not None:
        notes[INDEX_FAILURES] = str(failures[0])
        if failures[1]:
            notes[INDEX_IGNORED] = str(failures[1])
    suffix = f"-{index}-"
    new_meta = {
        **meta,
        "generateName": name(job)[: _MAX_GENERATED - len(suffix)] + suffix,
        "labels": {**meta.get("labels", {}), INDEX: str(index)},
        "annotations": notes,
    }
    containers = {
        field: [_with_index_env(each) for each in pod_spec[field]]
        for field in ("initContainers", "containers")
        if pod_spec.get(field)
    }
    return {**pod, "metadata": new_meta, "spec": {**pod_spec, **containers, "hostname": f"{name(job)}-{index}"}}


def _with_index_env(container: Mapping[str, Any]) -> Mapping[str, Any]:
    env = list(container.get("env") or ())
    if any(each["name"] == _INDEX_ENV for each in env):
        return container
    source = {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX}']"}}
    return {**container, "env": [*env, {"name": _INDEX_ENV, "valueFrom": source}]}
