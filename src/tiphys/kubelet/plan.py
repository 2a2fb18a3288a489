"""What a pod's containers need next, worked out afresh from the spec and what runs. Pure.

The rules are those of the pod lifecycle (Pod Lifecycle, Init Containers and Sidecar Containers in the
documentation): init containers one after the other, sidecars started before what follows them, main
containers once all is initialized, restarts by policy.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from tiphys.kubelet.labels import Record, container_hash
from tiphys.kubelet.podspec import (
    Object,
    ephemeral_containers,
    grace_seconds,
    init_containers,
    is_deleted,
    is_sidecar,
    main_containers,
    restarts_killed,
    should_restart,
)
from tiphys.kubelet.resizing import needs_restart
from tiphys.runtime.types import State

Verdicts = Mapping[tuple[str, str], bool]
"""(container ID, probe kind) -> healthy; absent: not known yet."""


@dataclass(frozen=True, slots=True)
class Kill:
    """A running container to stop, with the text of its Killing event."""

    id: str
    container: str
    message: str
    grace: float
    restart: bool = False
    """Whether it is started again, whatever it ends with."""


@dataclass(slots=True)
class Plan:
    """What to do next. `start` is in the order of starting."""

    start: list[str] = field(default_factory=list)
    kill: list[Kill] = field(default_factory=list)
    complete: bool = False
    """Nothing runs that should go on and nothing is to be started: the pod is over."""


@dataclass(frozen=True, slots=True)
class View:
    """What a plan is made from."""

    pod: Object
    records: Mapping[str, list[Record]]
    """By container name, newest first."""
    verdicts: Verdicts
    sandbox: str = ""
    """ID of the sandbox that runs; "" for none."""
    killed: Collection[str] = ()
    """IDs of containers that were killed to be started again."""

    def latest(self, container: Object) -> Record | None:
        found = self.records.get(container["name"])
        return found[0] if found else None

    def here(self, container: Object) -> Record | None:
        """The newest record in the present sandbox: init containers run again in a new one."""
        found = self.latest(container)
        return found if found is not None and found.sandbox == self.sandbox else None

    def healthy(self, record: Record, kind: str) -> bool | None:
        return self.verdicts.get((record.id, kind))

    def started(self, container: Object, record: Record | None) -> bool:
        """Whether it runs and has passed its startup probe, if it has one."""
        if record is None or not record.running:
            return False
        return not container.get("startupProbe") or self.healthy(record, "startup") is True


def by_name(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records by container name, newest first."""
    found: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: (record.attempt, record.created_at), reverse=True):
        found.setdefault(record.name, []).append(record)
    return found


def make_plan(view: View) -> Plan:
    """The plan for a pod that is to run."""
    plan = Plan()
    for container in ephemeral_containers(view.pod):
        if view.sandbox and view.latest(container) is None:
            plan.start.append(container["name"])
    ready = _plan_init(view, plan)
    if plan.complete or not ready:
        return plan
    kept = False
    for container in main_containers(view.pod):
        kept = _plan_main(view, plan, container) or kept
    if not kept and not any(_is_main(view.pod, name) for name in plan.start):
        plan.complete = True
        plan.start = []
    return plan


def _is_main(pod: Object, name: str) -> bool:
    return any(container["name"] == name for container in main_containers(pod))


def was_initialized(view: View) -> bool:
    """Whether a main container was created in this sandbox: then all init containers have done their work."""
    return any(view.here(container) is not None for container in main_containers(view.pod))


def _plan_init(view: View, plan: Plan) -> bool:
    """Init containers and sidecars; returns whether main containers may start.

    From the last to the first, as upstream: what comes after a container has begun shows that it has done its work,
    and a sidecar that died does not hold up what follows it."""
    containers = init_containers(view.pod)
    initialized = begun = was_initialized(view)
    starts: list[str] = []
    for index in reversed(range(len(containers))):
        container, record = containers[index], view.here(containers[index])
        if record is None:
            starts += [container["name"]] if begun and is_sidecar(container) else []
            continue
        if begun and not is_sidecar(container):
            continue
        done = _plan_one(view, plan, container, record, starts)
        if plan.complete:
            return False
        if done and index == len(containers) - 1:
            initialized = True
        elif done and not begun:
            starts.append(containers[index + 1]["name"])
        begun = True
    if containers and not begun:
        starts.append(containers[0]["name"])
    plan.start += reversed(starts)
    return initialized or not containers


def _plan_one(view: View, plan: Plan, container: Object, record: Record, starts: list[str]) -> bool:
    """One init container that was created; returns whether what follows it may start."""
    if is_sidecar(container):
        return _plan_sidecar(view, plan, container, record, starts)
    if record.state is State.CREATED:
        starts.append(container["name"])
        return False
    if record.running or record.exit_code == 0:
        return not record.running
    if should_restart(view.pod, container, record.exit_code):
        starts.append(container["name"])
    else:
        plan.complete = True
        plan.start = []
    return False


def _plan_sidecar(view: View, plan: Plan, container: Object, record: Record, starts: list[str]) -> bool:
    """One restartable init container; returns whether what follows it may start."""
    if not record.running:
        starts.append(container["name"])
        return False
    starting = bool(container.get("startupProbe")) and view.healthy(record, "startup") is None
    reason = None if starting else _why_kill(view, container, record, "Init container")
    if reason is not None:
        plan.kill.append(reason)
    return view.started(container, record)


def _plan_main(view: View, plan: Plan, container: Object) -> bool:
    """One main container; returns whether it runs and goes on."""
    record = view.latest(container)
    if record is None or record.state is State.CREATED:
        plan.start.append(container["name"])
        return False
    changed = record.hash != container_hash(container)
    if not record.running:
        if changed or record.id in view.killed or should_restart(view.pod, container, record.exit_code):
            plan.start.append(container["name"])
        return False
    reason = _why_kill(view, container, record, "Container")
    if reason is None:
        return True
    plan.kill.append(reason)
    return True


def _why_kill(view: View, container: Object, record: Record, noun: str) -> Kill | None:
    """Why a running container must not go on, or None."""
    name = container["name"]
    restarts = restarts_killed(view.pod, container)
    if record.hash != container_hash(container):
        message, probe, restarts = f"{noun} {name} definition changed", None, True
    elif view.healthy(record, "liveness") is False:
        message, probe = f"{noun} {name} failed liveness probe", container.get("livenessProbe")
    elif view.healthy(record, "startup") is False:
        message, probe = f"{noun} {name} failed startup probe", container.get("startupProbe")
    elif needs_restart(view.pod, container, record):
        return Kill(record.id, name, f"Container {name} resize requires restart", grace_seconds(view.pod), True)
    else:
        return None
    if restarts and noun == "Container":
        message += ", will be restarted"
    return Kill(record.id, name, message, _probe_grace(view.pod, probe), restarts)


def _probe_grace(pod: Object, probe: Object | None) -> float:
    own = (probe or {}).get("terminationGracePeriodSeconds")
    return grace_seconds(pod) if own is None or is_deleted(pod) else float(own)


def stops_after(pod: Object, record: Record, running: Iterable[Record]) -> tuple[str, ...]:
    """IDs of those of `running` that get their stop signal before `record` does: a sidecar waits for the main
    containers and for the sidecars that were started after it (KEP-753)."""
    order = [container["name"] for container in init_containers(pod) if is_sidecar(container)]
    if record.name not in order:
        return ()
    mains = {container["name"] for container in main_containers(pod)}
    earlier = mains | set(order[order.index(record.name) + 1 :])
    return tuple(one.id for one in running if one.name in earlier)
