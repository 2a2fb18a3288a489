"""status.containerStatuses: what the runtime knows of each container, in the API's words. Pure.

Fields and reasons are those of the core/v1 API reference (ContainerStatus, ContainerState).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.base.clock import rfc3339
from tiphys.kubelet import restart_all
from tiphys.kubelet.labels import Record
from tiphys.kubelet.plan import View
from tiphys.kubelet.podspec import (
    Object,
    all_containers,
    ephemeral_containers,
    init_containers,
    is_deleted,
    is_sidecar,
    main_containers,
    should_restart,
)
from tiphys.kubelet.resource_status import shown_resources
from tiphys.runtime.types import State

UNKNOWN = "ContainerStatusUnknown"
MESSAGE_LIMIT = 12 * 1024
"""Bytes of termination messages in one pod's status, shared by its containers."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a container does not run."""

    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What statuses are made from, besides the containers themselves."""

    view: View
    waiting: Mapping[str, Waiting]
    """Start failures and back-offs by container name."""
    hooking: str = ""
    """Name of the container whose postStart hook runs: it counts as being created until that has ended."""
    initialized: bool = False
    restarting: bool = False
    """Whether the whole pod is being restarted in place: what is gone was removed for that."""


def container_statuses(facts: Facts, containers: list[Object], old: Mapping[str, Any], kind: str) -> list[Any]:
    """The list for one of the pod's container lists; `old` is the status so far, `kind` its field."""
    before = {entry["name"]: entry for entry in old.get(kind) or ()}
    found = [_status(facts, container, before.get(container["name"]), kind) for container in containers]
    if kind != "initContainerStatuses":
        found.sort(key=lambda status: str(status["name"]))
    return found


def _status(facts: Facts, container: Object, old: Object | None, kind: str) -> dict[str, Any]:
    records = facts.view.records.get(container["name"]) or []
    status = _of_record(facts, container, records, old) if records else _without_record(facts, container, old)
    if not status.get("lastState") and old is not None:
        status["lastState"] = _kept_last_state(status, old)
    _apply_waiting(facts, container, records, status, kind)
    if mounts := _volume_mounts(container):
        status["volumeMounts"] = mounts
    return status


def _without_record(facts: Facts, container: Object, old: Object | None) -> dict[str, Any]:
    """Nothing in the runtime: it has not run yet, or its record was removed and the old status is what is left."""
    if facts.restarting and old is not None and "waiting" not in old["state"] and not _is_ephemeral(facts, container):
        return _reset(facts, container, old)
    if old is not None and ("terminated" in old["state"] or (facts.restarting and _is_reset(old))):
        return dict(old)
    status = _empty(facts, container, old)
    if old is not None and "running" in old["state"] and not old.get("lastState"):
        status["lastState"] = {"terminated": _lost("deleted.  The container used to be Running")}
        if not is_deleted(facts.view.pod):
            status["restartCount"] += 1
    return status


def _is_ephemeral(facts: Facts, container: Object) -> bool:
    return any(one["name"] == container["name"] for one in ephemeral_containers(facts.view.pod))


def _is_reset(old: Object) -> bool:
    return bool((old["state"].get("waiting") or {}).get("reason") == restart_all.REASON)


def _reset(facts: Facts, container: Object, old: Object) -> dict[str, Any]:
    """Removed because the whole pod restarts."""
    status = _empty(facts, container, old)
    status["state"] = {"waiting": {"reason": restart_all.REASON, "message": restart_all.MESSAGE}}
    status["lastState"] = {"terminated": restart_all.reset_end()}
    status["restartCount"] += 1
    return status


def _empty(facts: Facts, container: Object, old: Object | None) -> dict[str, Any]:
    return {
        "name": container["name"],
        "state": {"waiting": {"reason": _waiting_reason(facts)}},
        "lastState": dict((old or {}).get("lastState") or {}),
        "ready": False,
        "restartCount": int((old or {}).get("restartCount") or 0),
        "image": container.get("image", ""),
        "imageID": "",
        "started": False,
    }


def _waiting_reason(facts: Facts) -> str:
    return "PodInitializing" if init_containers(facts.view.pod) else "ContainerCreating"


def _lost(when: str) -> dict[str, Any]:
    return {
        "reason": UNKNOWN,
        "message": f"The container could not be located when the pod was {when}",
        "exitCode": 137,
    }


def _kept_last_state(status: Mapping[str, Any], old: Object) -> dict[str, Any]:
    """The last state when the runtime no longer has the container before this one."""
    if old.get("containerID") == status.get("containerID"):
        return dict(old.get("lastState") or {})
    terminated = old["state"].get("terminated")
    return {"terminated": terminated} if terminated else dict(old.get("lastState") or {})


def _of_record(facts: Facts, container: Object, records: list[Record], old: Object | None) -> dict[str, Any]:
    latest = records[0]
    status: dict[str, Any] = {
        "name": container["name"],
        "state": _state(facts, latest),
        "lastState": {},
        "ready": False,
        "restartCount": max(latest.attempt, int((old or {}).get("restartCount") or 0)),
        "image": latest.image or container.get("image", ""),
        "imageID": latest.image_ref,
        "containerID": latest.full_id,
        "started": False,
    }
    if len(records) > 1 and records[1].exited:
        status["lastState"] = {"terminated": _terminated(facts, records[1])}
    status["resources"] = shown_resources(container, latest)
    if requests := (container.get("resources") or {}).get("requests"):
        status["allocatedResources"] = dict(requests)
    if latest.user is not None and not latest.error:
        uid, gid, groups = latest.user
        status["user"] = {"linux": {"uid": uid, "gid": gid, "supplementalGroups": list(groups)}}
    return status


def _state(facts: Facts, record: Record) -> dict[str, Any]:
    if record.running and facts.hooking != record.name:
        return {"running": {"startedAt": rfc3339(record.started_at)}}
    if record.exited:
        return {"terminated": _terminated(facts, record)}
    reason = "PodInitializing" if init_containers(facts.view.pod) else "ContainerCreating"
    return {"waiting": {"reason": reason}}


def _terminated(facts: Facts, record: Record) -> dict[str, Any]:
    count = len(list(all_containers(facts.view.pod)))
    text = ": ".join(part for part in (record.error, record.message) if part)
    message = text.encode()[: MESSAGE_LIMIT // max(1, count)].decode(errors="ignore")
    state: dict[str, Any] = {
        "exitCode": record.exit_code,
        "reason": exit_reason(record),
        "startedAt": rfc3339(record.started_at),
        "finishedAt": rfc3339(record.finished_at),
        "containerID": record.full_id,
    }
    if message:
        state["message"] = message
    return state


def exit_reason(record: Record) -> str:
    """Completed, Error, OOMKilled, StartError, or ContainerStatusUnknown."""
    if record.error and not record.started_at:
        return "StartError"
    if record.state is State.UNKNOWN:
        return UNKNOWN
    if record.oom_killed:
        return "OOMKilled"
    return "Completed" if record.exit_code == 0 else "Error"


def _apply_waiting(facts: Facts, container: Object, records: list[Record], status: dict[str, Any], kind: str) -> None:
    """A container that is to be started again is waiting, and its end becomes its last state."""
    why = facts.waiting.get(container["name"])
    latest = records[0] if records else None
    init = kind == "initContainerStatuses" and not is_sidecar(container)
    if init and latest is None and facts.initialized and not facts.restarting and "waiting" in status["state"]:
        status["state"] = {"terminated": _inferred_completion()}
        return
    again = latest is None or _restarts(facts.view.pod, container, latest)
    if not again and latest is not None and latest.exited and latest.id in facts.view.killed:
        again, why = True, why or Waiting(_waiting_reason(facts))  # its end is not final, as the API would take it
    if why is None or (latest is not None and latest.running and facts.hooking != latest.name):
        return
    if latest is not None and latest.exited:
        if init and latest.exit_code == 0:
            return
        if not again:
            return
        status["lastState"] = {"terminated": status["state"]["terminated"]}
    elif "terminated" in status["state"]:
        return
    waiting = {"reason": why.reason}
    if why.message:
        waiting["message"] = why.message
    status["state"] = {"waiting": waiting}


def _restarts(pod: Object, container: Object, record: Record) -> bool:
    return is_sidecar(container) or should_restart(pod, container, record.exit_code)


def _inferred_completion() -> dict[str, Any]:
    return {
        "reason": "Completed",
        "message": "Unable to get init container status from container runtime and pod has been initialized, "
        "treat it as exited normally",
        "exitCode": 0,
    }


def _volume_mounts(container: Object) -> list[dict[str, Any]]:
    mounts = []
    for mount in container.get("volumeMounts") or ():
        entry = {"name": mount["name"], "mountPath": mount["mountPath"]}
        if mount.get("readOnly"):
            recursive = mount.get("recursiveReadOnly") in ("Enabled", "IfPossible")
            entry |= {"readOnly": True, "recursiveReadOnly": "Enabled" if recursive else "Disabled"}
        mounts.append(entry)
    return mounts


def set_readiness(facts: Facts, pod: Object, status: dict[str, Any]) -> None:
    """Fill in `started` and `ready` from what the probes found."""
    for container in main_containers(pod):
        _set_ready(facts, container, _named(status, "containerStatuses", container["name"]))
    for container in init_containers(pod):
        entry = _named(status, "initContainerStatuses", container["name"])
        if is_sidecar(container):
            _set_ready(facts, container, entry)
            continue
        ended = entry["state"].get("terminated")
        entry["ready"] = ended is not None and ended["exitCode"] == 0
        entry["started"] = "running" in entry["state"]


def _named(status: Mapping[str, Any], kind: str, name: str) -> dict[str, Any]:
    return next(entry for entry in status[kind] if entry["name"] == name)


def _set_ready(facts: Facts, container: Object, entry: dict[str, Any]) -> None:
    record = facts.view.latest(container)
    if "running" not in entry["state"] or record is None:
        entry["started"] = entry["ready"] = False
        return
    entry["started"] = facts.view.started(container, record)
    probed = not container.get("readinessProbe") or facts.view.healthy(record, "readiness") is True
    entry["ready"] = entry["started"] and probed


def mark_lost(status: dict[str, Any], pod: Object) -> None:
    """A pod is over: what is not known to have ended is recorded as lost, once the pod was initialized."""
    inits = status.get("initContainerStatuses") or []
    begun = [index for index, entry in enumerate(inits) if "waiting" not in entry["state"] or entry["lastState"]]
    for entry in inits[: (begun[-1] + 1 if begun else min(1, len(inits)))]:
        if "terminated" not in entry["state"]:
            entry["state"] = {"terminated": _lost("terminated")}
    if _was_initialized(pod, status):
        for entry in status.get("containerStatuses") or []:
            if "terminated" not in entry["state"]:
                entry["state"] = {"terminated": _lost("terminated")}


def _was_initialized(pod: Object, status: Mapping[str, Any]) -> bool:
    """Whether a main container ever began, or the last init container did its work."""
    inits = init_containers(pod)
    if not inits:
        return True
    mains = status.get("containerStatuses") or ()
    if any("waiting" not in entry["state"] or entry.get("lastState") for entry in mains):
        return True
    last = _named(status, "initContainerStatuses", inits[-1]["name"])
    ends = [entry["terminated"] for entry in (last["state"], last.get("lastState") or {}) if "terminated" in entry]
    if is_sidecar(inits[-1]):
        return any(ended["reason"] != UNKNOWN for ended in ends)
    return any(ended["exitCode"] == 0 for ended in ends)
