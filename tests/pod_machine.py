"""A pod's state machine with hands that do at once what it asks for: tests end containers and look at what follows."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

from tiphys.kubelet import events as ev
from tiphys.kubelet import instructions as do
from tiphys.kubelet.labels import Record, SandboxRecord, container_hash, container_id
from tiphys.kubelet.podspec import find_container
from tiphys.kubelet.state import PodState
from tiphys.runtime.types import State

NOW = 1_800_000_000.0


def make_pod(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "web", "namespace": "default", "uid": "u1", "generation": 1},
        "spec": {"restartPolicy": "Always", "containers": [{"name": "main", "image": "busybox"}], **spec},
        "status": {"phase": "Pending"},
    }


def container(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "busybox", **more}


class Machine:
    """Drives a PodState; `log` tells in words what was done. Containers run until `exit`."""

    def __init__(self, pod: dict[str, Any], **state: Any) -> None:
        self.pod = pod
        self.now = NOW
        self.state = PodState(pod, ("10.0.0.1",), **state)
        self.log: list[str] = []
        self.events: list[tuple[str, str]] = []
        self.statuses: list[Any] = []
        self.held: set[str] = set()
        """Names of containers that do not end when they are stopped."""
        self.hook_errors: dict[str, str] = {}
        self.timers: dict[str, float] = {}
        self._inbox: deque[ev.Event] = deque()
        self._busy = False
        self.probes: dict[str, tuple[str, ...]] = {}
        """By container name: what it is probed for."""

    def begin(self, *records: Record, sandboxes: tuple[SandboxRecord, ...] = ()) -> Machine:
        self.post(ev.Observed(sandboxes, records))
        return self

    def post(self, event: ev.Event) -> None:
        """Handle an event, now or, from within the handling of another, right after it."""
        self._inbox.append(event)
        while self._inbox and not self._busy:
            self._busy = True
            for wanted in self.state.handle(self._inbox.popleft(), self.now):
                self._do(wanted)
            self._busy = False

    def advance(self, seconds: float) -> None:
        """Let time pass; timers fire in their order."""
        end = self.now + seconds
        while due := sorted((at, name) for name, at in self.timers.items() if at <= end):
            at, name = due[0]
            del self.timers[name]
            self.now = max(self.now, at)
            self.post(ev.TimerFired(name))
        self.now = end

    def latest(self, name: str) -> Record:
        return self.state.view().records[name][0]

    def running(self) -> list[str]:
        return sorted(record.name for record in self.state.running())

    def exit(self, name: str, code: int = 0, **more: Any) -> None:
        self.post(
            ev.ContainerChanged(
                replace(self.latest(name), state=State.EXITED, exit_code=code, finished_at=self.now, **more)
            )
        )

    def probe(self, name: str, kind: str, healthy: bool) -> None:
        self.post(ev.Probed(self.latest(name).id, name, kind, healthy))

    def status(self, name: str = "") -> dict[str, Any]:
        status = dict(self.state.status)
        kinds = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
        if not name:
            return status
        return next(one for kind in kinds for one in status.get(kind) or () if one["name"] == name)

    def condition(self, kind: str) -> dict[str, Any]:
        return next((dict(one) for one in self.state.status["conditions"] if one["type"] == kind), {})

    def _do(self, wanted: do.Instruction) -> None:
        match wanted:
            case do.EnsureVolumes():
                self.post(ev.VolumesReady())
            case do.CreateSandbox(attempt):
                self.log.append("sandbox")
                self.post(ev.SandboxChanged(SandboxRecord(f"box{attempt}", attempt, True, ("10.0.0.2",))))
            case do.PullImage(name):
                self.post(ev.ImageReady(name, "sha256:1"))
            case do.StartContainer(name, attempt, _, backoff):
                self._start(name, attempt, backoff)
            case do.RunHook(id, name):
                self.post(ev.HookFinished(id, name, self.hook_errors.get(name, "")))
            case do.StopContainer(id, name, grace):
                self.log.append(f"stop {name} {grace:g}")
                if name not in self.held:
                    self.exit(name, 137)
                    self.post(ev.StopFinished(id))
            case do.RemoveContainer(id):
                self.log.append(f"remove {self.state.records[id].name}")
                self.post(ev.ContainerRemoved(id))
            case do.RemoveSandbox(id):
                self.post(ev.SandboxRemoved(id))
            case do.SaveStatus(status, version):
                self.statuses.append(status)
                self.post(ev.StatusSaved(version))
            case do.StartProbes(_, name, _, kinds):
                self.probes[name] = kinds
            case do.StopProbes(id):
                self.probes = {name: kinds for name, kinds in self.probes.items() if container_id("u1", name, 0) != id}
            case do.RecordEvent():
                self.events.append((wanted.reason, wanted.message))
            case do.SetTimer(name, at):
                self.timers[name] = at
            case _:
                pass

    def _start(self, name: str, attempt: int, backoff: float) -> None:
        self.log.append(f"start {name}")
        spec = find_container(self.pod, name) or {}
        sandbox = self.state.sandbox
        assert sandbox is not None
        made = Record(
            container_id("u1", name, attempt),
            name,
            attempt,
            State.RUNNING,
            sandbox.id,
            backoff=backoff,
            hash=container_hash(spec),
            created_at=self.now,
            started_at=self.now,
        )
        self.post(ev.ContainerStarted(made))
