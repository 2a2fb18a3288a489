"""Random lives of random pods: whatever happens, in whatever order, some things never do.

The hands of this test are slow and unreliable: what the machine asks for is done later, in any order, and may fail.
Containers end, sandboxes die, probes say this and that, the pod is deleted, and the kubelet is killed and starts
again from what the API and the runtime have.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from pod_machine import NOW, container, make_pod
from tiphys.api.kinds.core.pod_status import pod_status
from tiphys.api.validation.errors import Errors
from tiphys.kubelet import events as ev
from tiphys.kubelet import instructions as do
from tiphys.kubelet.labels import Record, SandboxRecord, container_hash, container_id
from tiphys.kubelet.podspec import find_container, is_deleted
from tiphys.kubelet.state import PodState
from tiphys.runtime.types import State

CODES = (0, 0, 1, 42, 137)


class World:
    """An API object, a runtime and a state machine between them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = NOW
        self.pod = self._make_pod()
        self.runs: dict[str, Record] = {}
        self.boxes: dict[str, SandboxRecord] = {}
        self.ever: set[str] = set()
        self.asked: list[do.Instruction] = []
        self.timers: dict[str, float] = {}
        self.saved: dict[str, Any] = {"phase": "Pending", "qosClass": "BestEffort"}
        self.finished = self.deleted = False
        self.story: list[str] = []
        self.start_kubelet()

    def _make_pod(self) -> dict[str, Any]:
        chance = self.random
        mains = [self._make_container(f"main{i}") for i in range(chance.randint(1, 3))]
        inits = [self._make_container(f"init{i}", init=True) for i in range(chance.randint(0, 3))]
        return make_pod(
            restartPolicy=chance.choice(("Always", "OnFailure", "Never")),
            initContainers=inits,
            containers=mains,
            terminationGracePeriodSeconds=chance.choice((0, 1, 30)),
        )

    def _make_container(self, name: str, init: bool = False) -> dict[str, Any]:
        chance, made = self.random, container(name)
        if init and chance.random() < 0.5:
            made["restartPolicy"] = "Always"
        elif chance.random() < 0.4:
            made["restartPolicy"] = chance.choice(
                ("Always", "OnFailure", "Never") if not init else ("OnFailure", "Never")
            )
            action = chance.choice(("Restart", "RestartAllContainers"))
            made["restartPolicyRules"] = [{"action": action, "exitCodes": {"operator": "In", "values": [42]}}]
        for kind in ("startup", "liveness", "readiness"):
            if chance.random() < 0.3 and (not init or made.get("restartPolicy") == "Always"):
                made[f"{kind}Probe"] = {"exec": {}}
        if chance.random() < 0.2:
            made["lifecycle"] = {"postStart": {"exec": {}}}
        return made

    # --- the kubelet

    def start_kubelet(self) -> None:
        """It knows what the API has and what the runtime has."""
        self.asked, self.timers = [], {}
        self.state = PodState({**self.pod, "status": self.saved}, ("10.0.0.1",))
        self.post(ev.Observed(tuple(self.boxes.values()), tuple(self.runs.values())))

    def post(self, event: ev.Event) -> None:
        self.story.append(repr(event)[:200])
        for wanted in self.state.handle(event, self.now):
            self._ask(wanted)

    def _ask(self, wanted: do.Instruction) -> None:
        match wanted:
            case do.SetTimer(name, at):
                self.timers[name] = at
            case do.CancelStart():
                self.asked = [
                    one for one in self.asked if not isinstance(one, do.PullImage | do.StartContainer | do.RunHook)
                ]
            case do.StopContainer(id):
                self.asked = [one for one in self.asked if not (isinstance(one, do.StopContainer) and one.id == id)]
                self.asked.append(wanted)
            case do.SaveStatus():
                self.asked = [one for one in self.asked if not isinstance(one, do.SaveStatus)] + [wanted]
            case do.RecordEvent() | do.StartProbes() | do.StopProbes():
                pass
            case _:
                self.asked.append(wanted)

    # --- what happens

    def step(self) -> None:
        chance = self.random.random()
        if self.asked and chance < 0.6:
            self.carry_out(self.asked.pop(self.random.randrange(len(self.asked))), self.random.random() < 0.15)
        elif chance < 0.72:
            self._end_something()
        elif chance < 0.82:
            self._probe_something()
        elif chance < 0.94:
            self.advance(self.random.choice((0.1, 3, 15, 400)))
        elif chance < 0.96:
            self._lose_sandbox()
        elif chance < 0.98:
            self.start_kubelet()
        elif not is_deleted(self.pod) and self.random.random() < 0.3:
            self.delete()

    def delete(self) -> None:
        meta = {**self.pod["metadata"], "deletionTimestamp": "2027-01-15T08:00:30Z", "deletionGracePeriodSeconds": 5}
        self.pod = {**self.pod, "metadata": meta}
        self.post(ev.PodChanged({**self.pod, "status": self.saved}))

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for name in [name for name, at in self.timers.items() if at <= self.now]:
            del self.timers[name]
            self.post(ev.TimerFired(name))

    def _running(self) -> list[Record]:
        return [run for run in self.runs.values() if run.running]

    def _end_something(self) -> None:
        if running := self._running():
            self._end(self.random.choice(running), self.random.choice(CODES))

    def _end(self, run: Record, code: int) -> None:
        self.runs[run.id] = replace(run, state=State.EXITED, exit_code=code, finished_at=self.now)
        self.post(ev.ContainerChanged(self.runs[run.id]))

    def _probe_something(self) -> None:
        if running := self._running():
            run = self.random.choice(running)
            kinds = self.state.probing.get(run.id)
            if kinds:
                kind = "startup" if "startup" in kinds else self.random.choice(kinds)
                self.post(ev.Probed(run.id, run.name, kind, self.random.random() < 0.6))

    def _lose_sandbox(self) -> None:
        for id, box in self.boxes.items():
            if box.running:
                self.boxes[id] = replace(box, running=False)
                for run in self._running():
                    self.runs[run.id] = replace(run, state=State.EXITED, exit_code=137, finished_at=self.now)
                if self.state.sandbox is not None and self.state.sandbox.id == id:
                    self.post(ev.SandboxChanged(self.boxes[id]))
                for run in list(self.runs.values()):
                    self.post(ev.ContainerChanged(run))

    def carry_out(self, wanted: do.Instruction, fails: bool) -> None:
        match wanted:
            case do.EnsureVolumes():
                late = ev.VolumesFailed(("no",), self.now + 1)
                self.post(late if fails else ev.VolumesReady())
            case do.CreateSandbox(attempt):
                self._create_sandbox(attempt, fails)
            case do.PullImage(name):
                self.post(ev.StartFailed(name, "ErrImagePull", "no") if fails else ev.ImageReady(name, "sha256:1"))
            case do.StartContainer():
                self._start(wanted, fails)
            case do.RunHook(id, name):
                self.post(ev.HookFinished(id, name, "no" if fails else ""))
            case do.StopContainer(id):
                if (run := self.runs.get(id)) is not None and run.running:
                    self._end(run, self.random.choice((0, 137)))
                self.post(ev.StopFinished(id))
            case do.RemoveContainer(id):
                self.runs.pop(id, None)
                self.post(ev.ContainerRemoved(id))
            case do.RemoveSandbox(id):
                self.boxes.pop(id, None)
                self.post(ev.SandboxRemoved(id))
            case do.SaveStatus(status, version):
                self._save(dict(status), version)
            case do.CleanUp():
                self.post(ev.CleanedUp())
            case do.DeletePod():
                self.deleted = True
                self.post(ev.PodRemoved({**self.pod, "status": self.saved}))
            case do.Finish():
                self.finished = True

    def _create_sandbox(self, attempt: int, fails: bool) -> None:
        if fails:
            self.post(ev.SandboxFailed("no"))
            return
        box = SandboxRecord(f"box{attempt}", attempt, True, ("10.0.0.2",))
        assert not any(one.running for one in self.boxes.values()), "two sandboxes"
        self.boxes[box.id] = box
        self.ever.add(box.id)
        self.post(ev.SandboxChanged(box))

    def _start(self, wanted: do.StartContainer, fails: bool) -> None:
        name = wanted.container
        if fails:
            self.post(ev.StartFailed(name, "RunContainerError", "no"))
            return
        assert not any(run.name == name for run in self._running()), f"{name} runs twice"
        box = self.state.sandbox
        assert box is not None
        id = container_id("u1", name, wanted.attempt)
        assert id not in self.runs or self.runs[id].state is State.CREATED, f"{name} {wanted.attempt} was run before"
        alive = self.boxes.get(box.id, box).running
        run = Record(
            id,
            name,
            wanted.attempt,
            State.RUNNING if alive else State.EXITED,
            box.id,
            backoff=wanted.backoff,
            hash=container_hash(find_container(self.pod, name) or {}),
            created_at=self.now,
            started_at=self.now,
            finished_at=0 if alive else self.now,
            exit_code=0 if alive else 137,
        )
        self.runs[id] = run
        self.post(ev.ContainerStarted(run))

    def _save(self, status: dict[str, Any], version: int) -> None:
        """As the API takes it."""
        errors = Errors()
        pod_status(errors, {**self.pod, "status": status}, {**self.pod, "status": self.saved})
        if all("initContainerStatuses" in error.field for error in errors) and list(errors) and len(self.ever) > 1:
            self.asked.append(do.SaveStatus(status, version))  # init containers run again in another sandbox: later
            return
        assert not list(errors), [str(error) for error in errors]
        former = self.saved.get("phase")
        assert former not in ("Succeeded", "Failed") or status["phase"] == former
        self._check_counts(status)
        self.saved = status
        self.post(ev.PodChanged({**self.pod, "status": status}))
        self.post(ev.StatusSaved(version))

    def _check_counts(self, status: dict[str, Any]) -> None:
        """Restarts are never forgotten."""
        for kind in ("containerStatuses", "initContainerStatuses"):
            before = {entry["name"]: entry["restartCount"] for entry in self.saved.get(kind) or ()}
            for entry in status.get(kind) or ():
                assert entry["restartCount"] >= before.get(entry["name"], 0), entry

    def wind_up(self) -> None:
        """Delete the pod, let everything be done, and see that nothing is left."""
        if not is_deleted(self.pod):
            self.delete()
        for _ in range(500):
            if self.finished:
                break
            if self.asked:
                self.carry_out(self.asked.pop(0), fails=False)
            else:
                self.advance(5)
        assert self.finished
        assert not self.runs
        assert not self.boxes


@pytest.mark.parametrize("seed", range(0, 400, 40))
def test_random_lives_break_no_rule_and_leave_nothing_behind(seed: int) -> None:
    for number in range(seed, seed + 40):
        world = World(number)
        try:
            for _ in range(world.random.randint(10, 120)):
                if not world.finished and not world.deleted:
                    world.step()
            world.wind_up()
        except Exception as error:
            error.add_note(f"seed {number}: {world.pod['spec']}\n" + "\n".join(world.story[-40:]))
            raise
