"""What must be so when nobody does anything any more: everything that was asked for is there, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from component.random.rules_jobs import FINALIZER, ending, finished
from component.random.rules_sets import node_of, ordinal
from component.random.state import State, generation, observed, owners
from tiphys.api import selectors
from tiphys.client.types import Object
from tiphys.controllers import pods as podlib
from tiphys.controllers.objects import (
    controller_of,
    created,
    deleting,
    finalizers,
    int_of,
    labels,
    name,
    namespace,
    spec,
    status,
    uid,
)

SYSTEM = ("kube-system", "kube-public", "kube-node-lease", "default")


def problems(state: State, now: float) -> Iterator[str]:
    """Everything that is not as it should be."""
    for check in _CHECKS:
        yield from check(state)
    yield from _old_jobs(state, now)


def _nothing_is_on_its_way(state: State) -> Iterator[str]:
    for key, obj in state.objects.items():
        if deleting(obj):
            yield f"{key} is still being deleted, finalizers {list(finalizers(obj))}"
        if "observedGeneration" in status(obj) and observed(obj) != generation(obj):
            yield f"{key} is at generation {generation(obj)}, but {observed(obj)} was observed"


def _owners_exist(state: State) -> Iterator[str]:
    for key, obj in state.objects.items():
        gone = [each for each in owners(obj) if state.get(each) is None]
        if gone:
            yield f"{key} belongs to {gone}, which do not exist"


def _pods_are_well(state: State) -> Iterator[str]:
    nodes = {name(each) for each in state.all("nodes")}
    for pod in state.all("pods"):
        where = f"pod {namespace(pod)}/{name(pod)}"
        node = spec(pod).get("nodeName")
        if not podlib.terminal(pod) and not podlib.ready(pod):
            yield f"{where} is {podlib.phase(pod)} on {node}, not ready"
        if node and node not in nodes:
            yield f"{where} is on {node}, which does not exist"
        owner = controller_of(pod)
        if FINALIZER in finalizers(pod):
            job = state.get(owner["uid"]) if owner is not None else None
            if job is None or finished(job) or podlib.terminal(pod):
                yield f"{where} is still tracked"


def _orphans_are_adopted(state: State) -> Iterator[str]:
    for plural in ("replicasets", "replicationcontrollers", "daemonsets"):
        for owner in state.all(plural):
            for pod in state.all("pods", namespace(owner)):
                if controller_of(pod) is None and podlib.active(pod) and _selects(owner, pod):
                    yield f"pod {name(pod)} is an orphan though {plural} {name(owner)} selects it"
            for pod in state.controlled(uid(owner)):
                if podlib.active(pod) and not _selects(owner, pod):
                    yield f"pod {name(pod)} is controlled by {plural} {name(owner)}, which does not select it"


def _selects(owner: Object, pod: Object) -> bool:
    wanted = spec(owner).get("selector") or {}
    if "matchLabels" not in wanted and "matchExpressions" not in wanted:
        wanted = {"matchLabels": wanted}
    return selectors.from_object(wanted).matches(labels(pod))


def _counts(obj: Object, expected: Mapping[str, int]) -> Iterator[str]:
    for field, wanted in expected.items():
        if int_of(status(obj).get(field)) != wanted:
            yield f"{obj['kind']} {namespace(obj)}/{name(obj)} has {field} {status(obj).get(field)}, not {wanted}"


def _active(state: State, owner: Object) -> list[Object]:
    return [each for each in state.controlled(uid(owner)) if podlib.active(each)]


def _replica_sets(state: State) -> Iterator[str]:
    for plural in ("replicasets", "replicationcontrollers"):
        for each in state.all(plural):
            wanted, have = int_of(spec(each).get("replicas"), 1), len(_active(state, each))
            if have != wanted:
                yield f"{plural} {namespace(each)}/{name(each)} has {have} pods, not {wanted}"
            yield from _counts(each, {"replicas": wanted, "readyReplicas": wanted, "availableReplicas": wanted})


def _deployments(state: State) -> Iterator[str]:
    for each in state.all("deployments"):
        sets = state.controlled(uid(each), "replicasets")
        wanted = int_of(spec(each).get("replicas"), 1)
        sizes = {name(one): int_of(spec(one).get("replicas"), 1) for one in sets}
        if not spec(each).get("paused"):
            if sum(sizes.values()) != wanted or sum(bool(size) for size in sizes.values()) > 1:
                yield f"deployment {namespace(each)}/{name(each)} has replica sets {sizes}, not {wanted}"
            fields = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
            yield from _counts(each, dict.fromkeys(fields, wanted) | {"unavailableReplicas": 0})
            limit = int_of(spec(each).get("revisionHistoryLimit"), 10)
            if len(sets) > limit + 1:
                yield f"deployment {namespace(each)}/{name(each)} keeps {len(sets) - 1} old replica sets, not {limit}"
            yield from _conditions(each)


def _conditions(deployment: Object) -> Iterator[str]:
    found = {each["type"]: (each["status"], each["reason"]) for each in status(deployment).get("conditions") or ()}
    if found.get("Available") != ("True", "MinimumReplicasAvailable"):
        yield f"deployment {name(deployment)} says Available {found.get('Available')}"
    if found.get("Progressing", ("",))[0] != "True":
        yield f"deployment {name(deployment)} says Progressing {found.get('Progressing')}"
    if "ReplicaFailure" in found:
        yield f"deployment {name(deployment)} says ReplicaFailure {found['ReplicaFailure']}"


def _stateful_sets(state: State) -> Iterator[str]:
    for each in state.all("statefulsets"):
        start = int_of((spec(each).get("ordinals") or {}).get("start"))
        wanted = int_of(spec(each).get("replicas"), 1)
        occupied = any(_occupied(state, each, number) for number in range(start, start + wanted))
        if occupied or any(not _fits(each, pod) for pod in state.controlled(uid(each))):
            continue  # users have to make room: neither names nor volumes of pods can be changed
        have = sorted(ordinal(pod) for pod in state.controlled(uid(each)))
        if have != list(range(start, start + wanted)):
            yield f"stateful set {namespace(each)}/{name(each)} has pods {have}, not {wanted} from {start}"
        yield from _counts(each, dict.fromkeys(("replicas", "readyReplicas", "availableReplicas"), wanted))
        rolling = (spec(each).get("updateStrategy") or {}).get("rollingUpdate") or {}
        if not rolling.get("partition"):
            yield from _counts(each, {"updatedReplicas": wanted})
            if status(each).get("currentRevision") != status(each).get("updateRevision"):
                yield f"stateful set {namespace(each)}/{name(each)} has not finished its update"


def _occupied(state: State, stateful_set: Object, number: int) -> bool:
    """Whether a pod that is not its own has the name that it needs."""
    pod = state.objects.get(f"core/pods/{namespace(stateful_set)}/{name(stateful_set)}-{number}")
    return pod is not None and owners(pod) != [uid(stateful_set)]


def _fits(stateful_set: Object, pod: Object) -> bool:
    """Whether a pod, which may come from another set, has the volumes that it should have."""
    volumes = {each["name"] for each in spec(pod).get("volumes") or () if "persistentVolumeClaim" in each}
    return {name(each) for each in spec(stateful_set).get("volumeClaimTemplates") or ()} <= volumes


def _daemon_sets(state: State) -> Iterator[str]:
    nodes = [name(each) for each in state.all("nodes")]
    for each in state.all("daemonsets"):
        have = Counter(node_of(pod) for pod in _active(state, each))
        if have != Counter(nodes):
            yield f"daemon set {namespace(each)}/{name(each)} has pods on {sorted(have.elements())}, not {nodes}"
        fields = ("desiredNumberScheduled", "currentNumberScheduled", "numberReady", "numberAvailable")
        yield from _counts(each, dict.fromkeys(fields, len(nodes)) | {"numberMisscheduled": 0})
        if (spec(each).get("updateStrategy") or {}).get("type") != "OnDelete":
            yield from _counts(each, {"updatedNumberScheduled": len(nodes)})


def _jobs(state: State) -> Iterator[str]:
    for job in state.all("jobs"):
        where = f"job {namespace(job)}/{name(job)}"
        active = _active(state, job)
        if ending(job) and not finished(job) and spec(job).get("suspend"):
            continue  # the server wants a start time of what is over, and what is suspended has none
        if finished(job) or spec(job).get("suspend"):
            if active:
                yield f"{where} is over or suspended, but {', '.join(map(name, active))} run"
            yield from _counts(job, {"active": 0, "ready": 0, "terminating": 0})
        elif int_of(spec(job).get("parallelism"), 1):
            yield f"{where} has not come to its end: {status(job)}"


def _old_jobs(state: State, now: float) -> Iterator[str]:
    for job in state.all("jobs"):
        limit = spec(job).get("ttlSecondsAfterFinished")
        if finished(job) and limit is not None and now - created(job) > int(limit) + 1000:
            yield f"job {namespace(job)}/{name(job)} should have been cleaned up"


def _cron_jobs(state: State) -> Iterator[str]:
    for each in state.all("cronjobs"):
        jobs = state.controlled(uid(each), "jobs")
        active = {uid(job) for job in jobs if not finished(job)}
        told = {reference["uid"] for reference in status(each).get("active") or ()}
        if active != told:
            yield f"cron job {namespace(each)}/{name(each)} has active {sorted(active)}, but says {sorted(told)}"
        done = [job for job in jobs if finished(job) and _type(job) == "Complete"]
        limit = int_of(spec(each).get("successfulJobsHistoryLimit"), 3)
        if len(done) > limit:
            yield f"cron job {namespace(each)}/{name(each)} keeps {len(done)} jobs, not {limit}"


def _type(job: Object) -> str:
    found = (each["type"] for each in status(job).get("conditions") or () if each["status"] == "True")
    return next((each for each in found if each in ("Complete", "Failed")), "")


def _slices(state: State) -> Iterator[str]:
    for service in state.all("services"):
        wanted = spec(service).get("selector")
        if not wanted or namespace(service) in SYSTEM:
            continue
        pods = [each for each in state.all("pods", namespace(service)) if wanted.items() <= labels(each).items()]
        expected = Counter(uid(each) for each in pods if podlib.active(each) and status(each).get("podIP"))
        slices = [each for each in state.all("endpointslices", namespace(service)) if _serves(each, service)]
        endpoints: list[Any] = [endpoint for each in slices for endpoint in each.get("endpoints") or ()]
        told = Counter(endpoint["targetRef"]["uid"] for endpoint in endpoints)
        if told != expected:
            yield f"slices of {namespace(service)}/{name(service)} name {told}, not {expected}"
        ready = [endpoint for endpoint in endpoints if endpoint["conditions"].get("ready")]
        if len(ready) != sum(podlib.ready(each) for each in pods if podlib.active(each)):
            yield f"slices of {namespace(service)}/{name(service)} have {len(ready)} ready endpoints"


def _serves(found: Object, service: Object) -> bool:
    return labels(found).get("kubernetes.io/service-name") == name(service)


def _quotas(state: State) -> Iterator[str]:
    for quota in state.all("resourcequotas"):
        used = status(quota).get("used") or {}
        pods = sum(not podlib.terminal(each) for each in state.all("pods", namespace(quota)))
        maps = sum(1 for _ in state.all("configmaps", namespace(quota)))
        if used != {"pods": str(pods), "count/configmaps": str(maps)}:
            yield f"quota {namespace(quota)}/{name(quota)} says {used}, but there are {pods} and {maps}"


def _budgets(state: State) -> Iterator[str]:
    for budget in state.all("poddisruptionbudgets"):
        found = status(budget)
        if any(each.get("reason") == "SyncFailed" for each in found.get("conditions") or ()):
            continue  # shares of what has no scale cannot be had
        pods = [each for each in state.all("pods", namespace(budget)) if podlib.active(each) and _selects(budget, each)]
        yield from _counts(budget, {"currentHealthy": sum(map(podlib.ready, pods))})
        left = int_of(found.get("currentHealthy")) - int_of(found.get("desiredHealthy"))
        allowed = max(0, left) if int_of(found.get("expectedPods")) else 0
        yield from _counts(budget, {"disruptionsAllowed": allowed})
        if found.get("disruptedPods"):
            yield f"budget {namespace(budget)}/{name(budget)} still waits for {found['disruptedPods']}"


def _nodes(state: State) -> Iterator[str]:
    for node in state.all("nodes"):
        if spec(node).get("taints") or not podlib.ready(node):
            yield f"{name(node)} has taints {spec(node).get('taints')}"


_CHECKS = (
    _nothing_is_on_its_way,
    _owners_exist,
    _pods_are_well,
    _orphans_are_adopted,
    _replica_sets,
    _deployments,
    _stateful_sets,
    _daemon_sets,
    _jobs,
    _cron_jobs,
    _slices,
    _quotas,
    _budgets,
    _nodes,
)
