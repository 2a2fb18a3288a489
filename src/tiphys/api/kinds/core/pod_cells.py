"""The one line that `kubectl get pods` has for a pod: how far it has come and why not further."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Object

Struct = Mapping[str, Any]

COLUMNS = (
    printing.NAME,
    Column("Ready", description="The aggregate readiness state of this pod for accepting traffic."),
    Column("Status", description="The aggregate status of the containers in this pod."),
    Column(
        "Restarts",
        description="The number of times the containers in this pod have been restarted"
        " and when the last container in this pod has restarted.",
    ),
    printing.AGE,
    Column("IP", description="@PodStatus.podIP", priority=1),
    Column("Node", description="@PodSpec.nodeName", priority=1),
    Column("Nominated Node", description="@PodStatus.nominatedNodeName", priority=1),
    Column("Readiness Gates", description="@PodSpec.readinessGates", priority=1),
)


@dataclass(slots=True)
class _Tally:
    reason: str
    ready: int = 0
    restarts: int = 0
    last_restart: str = ""

    def count(self, status: Struct) -> None:
        self.restarts += status.get("restartCount") or 0
        finished = ((status.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or ""
        self.last_restart = max(self.last_restart, finished)


def _is_true(status: Struct, kind: str) -> bool:
    return any(c.get("type") == kind and c.get("status") == "True" for c in status.get("conditions") or ())


def _ending(terminated: Struct, prefix: str = "") -> str:
    if terminated.get("reason"):
        return f"{prefix}{terminated['reason']}"
    if terminated.get("signal"):
        return f"{prefix}Signal:{terminated['signal']}"
    return f"{prefix}ExitCode:{terminated.get('exitCode', 0)}"


def _init_reason(status: Struct, i: int, count: int) -> str:
    state = status.get("state") or {}
    waiting = (state.get("waiting") or {}).get("reason", "")
    if terminated := state.get("terminated"):
        return _ending(terminated, "Init:")
    return f"Init:{waiting}" if waiting and waiting != "PodInitializing" else f"Init:{i}/{count}"


def _init_containers(pod: Object, tally: _Tally, sidecars: _Tally) -> bool:
    """Count the init containers; whether the pod is still busy with them."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    listed = spec.get("initContainers") or ()
    always = {c.get("name") for c in listed if c.get("restartPolicy") == "Always"}
    for i, container in enumerate(status.get("initContainerStatuses") or ()):
        tally.count(container)
        is_sidecar = container.get("name") in always
        if is_sidecar:
            sidecars.count(container)
        terminated = (container.get("state") or {}).get("terminated")
        if terminated is not None and not terminated.get("exitCode"):
            continue
        if is_sidecar and container.get("started"):
            tally.ready += bool(container.get("ready"))
            continue
        tally.reason = _init_reason(container, i, len(listed))
        return True
    return False


def _containers(pod: Object, tally: _Tally) -> None:
    status = pod.get("status") or {}
    running, failed = False, ""
    for container in reversed(status.get("containerStatuses") or ()):
        tally.count(container)
        state = container.get("state") or {}
        terminated = state.get("terminated")
        if waiting := (state.get("waiting") or {}).get("reason"):
            tally.reason = waiting
        elif terminated is not None:
            tally.reason = _ending(terminated)
            if terminated.get("exitCode"):
                failed = tally.reason
        elif container.get("ready") and state.get("running") is not None:
            running = True
            tally.ready += 1
    if tally.reason == "Completed":
        if running and _is_true(status, "Ready"):
            tally.reason = "Running"
        elif failed or running:
            tally.reason = failed or "NotReady"


def _summary(pod: Object) -> _Tally:
    status = pod.get("status") or {}
    phase = status.get("phase", "")
    tally = _Tally(status.get("reason") or phase)
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "SchedulingGated":
            tally.reason = "SchedulingGated"
    sidecars = _Tally("")
    if not _init_containers(pod, tally, sidecars) or _is_true(status, "Initialized"):
        tally.restarts, tally.last_restart = sidecars.restarts, sidecars.last_restart
        _containers(pod, tally)
    if (pod.get("metadata") or {}).get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            tally.reason = "Unknown"
        elif phase not in ("Failed", "Succeeded"):
            tally.reason = "Terminating"
    return tally


def _gates(pod: Object) -> str:
    gates = (pod.get("spec") or {}).get("readinessGates") or ()
    status = pod.get("status") or {}
    met = sum(_is_true(status, gate.get("conditionType", "")) for gate in gates)
    return f"{met}/{len(gates)}" if gates else printing.NONE


def cells(pod: Object, now: float) -> list[Any]:
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    tally = _summary(pod)
    sidecars = sum(c.get("restartPolicy") == "Always" for c in spec.get("initContainers") or ())
    restarts = str(tally.restarts)
    if tally.restarts and tally.last_restart:
        restarts += f" ({printing.since(tally.last_restart, now)} ago)"
    addresses: Sequence[Struct] = status.get("podIPs") or ({},)
    return [
        printing.name(pod),
        f"{tally.ready}/{len(spec.get('containers') or ()) + sidecars}",
        tally.reason,
        restarts,
        printing.age(pod, now),
        addresses[0].get("ip") or printing.NONE,
        spec.get("nodeName") or printing.NONE,
        status.get("nominatedNodeName") or printing.NONE,
        _gates(pod),
    ]
