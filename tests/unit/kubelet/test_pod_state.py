"""The pod state machine, fed by hand: events in, instructions out."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.kubelet import events as ev
from tiphys.kubelet import instructions as do
from tiphys.kubelet.labels import Record, SandboxRecord, container_hash, container_id
from tiphys.kubelet.state import InvalidTransition, PodState
from tiphys.runtime.types import State

NOW = 1_800_000_000.0


def make_pod(**spec: Any) -> dict[str, Any]:
    containers = [{"name": "main", "image": "busybox"}]
    return {
        "metadata": {"name": "web", "namespace": "default", "uid": "u1", "generation": 1},
        "spec": {"restartPolicy": "Always", "containers": containers, **spec},
        "status": {"phase": "Pending"},
    }


def record(pod: Any, name: str = "main", attempt: int = 0, state: State = State.RUNNING, **more: Any) -> Record:
    container = next(
        one for one in (*pod["spec"]["containers"], *pod["spec"].get("initContainers", ())) if one["name"] == name
    )
    facts = {"created_at": NOW, "started_at": NOW, "hash": container_hash(container), "sandbox": "box", **more}
    return Record(container_id("u1", name, attempt), name, attempt, state, **facts)


BOX = SandboxRecord("box", 0, running=True, ips=("10.0.0.2",))


def kinds(instructions: list[do.Instruction]) -> list[str]:
    return [type(one).__name__ for one in instructions]


def started(pod: Any) -> PodState:
    """A state whose one container runs."""
    state = PodState(pod, ("10.0.0.1",))
    for event in (
        ev.Observed((), ()),
        ev.VolumesReady(),
        ev.SandboxChanged(BOX),
        ev.ImageReady("main", "sha256:1"),
        ev.ContainerStarted(record(pod)),
    ):
        state.handle(event, NOW)
    return state


def test_nothing_is_decided_before_it_is_known_what_runs() -> None:
    state = PodState(make_pod())
    assert state.handle(ev.PodChanged(make_pod()), NOW) == []


def test_the_way_to_a_running_container() -> None:
    pod = make_pod()
    state = PodState(pod)
    assert kinds(state.handle(ev.Observed((), ()), NOW)) == ["EnsureVolumes", "SaveStatus"]
    assert state.handle(ev.VolumesReady(), NOW) == [do.CreateSandbox(0)]
    assert do.PullImage("main") in state.handle(ev.SandboxChanged(BOX), NOW)
    assert state.handle(ev.ImageReady("main", "sha256:1"), NOW) == [do.StartContainer("main", 0, "sha256:1", 0.0)]
    [save] = state.handle(ev.ContainerStarted(record(pod)), NOW)
    assert isinstance(save, do.SaveStatus)
    assert save.status["phase"] == "Running"


def test_a_restarted_kubelet_changes_nothing_about_what_runs() -> None:
    before = started(make_pod())
    pod = {**make_pod(), "status": before.status}
    state = PodState(pod, ("10.0.0.1",))
    assert kinds(state.handle(ev.Observed((BOX,), (record(pod),)), NOW)) == ["EnsureVolumes"]
    assert state.handle(ev.VolumesReady(), NOW) == []


def test_an_observation_from_the_past_does_not_bring_a_container_back() -> None:
    pod = make_pod(restartPolicy="Never")
    state = started(pod)
    state.handle(ev.ContainerChanged(record(pod, state=State.EXITED, exit_code=1, finished_at=NOW)), NOW)
    state.handle(ev.ContainerChanged(record(pod)), NOW)
    assert not state.running()
    assert state.complete


def test_terminal_containers_are_kept_until_the_status_is_saved() -> None:
    pod = make_pod(restartPolicy="Never")
    state = started(pod)
    out = state.handle(ev.ContainerChanged(record(pod, state=State.EXITED, finished_at=NOW)), NOW)
    assert kinds(out) == ["SaveStatus"]
    assert state.status["phase"] == "Succeeded"
    assert kinds(state.handle(ev.StatusSaved(state.version), NOW)) == ["RemoveContainer", "RemoveSandbox"]


def test_a_deletion_during_a_pull_gives_up_the_pull() -> None:
    pod = make_pod()
    state = PodState(pod)
    for event in (ev.Observed((), ()), ev.VolumesReady(), ev.SandboxChanged(BOX)):
        state.handle(event, NOW)
    deleted = {**pod, "metadata": {**pod["metadata"], "deletionTimestamp": "2027-01-15T08:00:00Z"}}
    out = state.handle(ev.PodChanged(deleted), NOW)
    assert do.CancelStart("main") in out
    assert state.status["phase"] == "Failed"


def test_a_deletion_during_a_start_waits_for_it_and_then_stops() -> None:
    pod = make_pod()
    state = PodState(pod)
    for event in (ev.Observed((), ()), ev.VolumesReady(), ev.SandboxChanged(BOX), ev.ImageReady("main", "sha256:1")):
        state.handle(event, NOW)
    deleted = {**pod, "metadata": {**pod["metadata"], "deletionTimestamp": "2027-01-15T08:00:00Z"}}
    assert not any(isinstance(one, do.CancelStart) for one in state.handle(ev.PodChanged(deleted), NOW))
    out = state.handle(ev.ContainerStarted(record(pod)), NOW)
    assert any(isinstance(one, do.StopContainer) and one.grace == 30 for one in out)


def test_all_containers_are_told_to_stop_at_once_but_sidecars_wait_for_their_turn() -> None:
    sides = [{"name": name, "image": "x", "restartPolicy": "Always"} for name in ("one", "two")]
    pod = make_pod(initContainers=sides)
    pod["metadata"]["deletionTimestamp"] = "2027-01-15T08:00:00Z"
    state = PodState(pod)
    names = ("one", "two", "main")
    out = state.handle(ev.Observed((BOX,), tuple(record(pod, name) for name in names)), NOW)
    ids = {name: record(pod, name).id for name in names}
    after = {one.container: one.after for one in out if isinstance(one, do.StopContainer)}
    assert after == {"main": (), "two": (ids["main"],), "one": (ids["two"], ids["main"])}


def test_a_probe_may_have_a_grace_of_its_own() -> None:
    probe = {"exec": {"command": ["x"]}, "terminationGracePeriodSeconds": 3}
    pod = make_pod(containers=[{"name": "main", "image": "busybox", "livenessProbe": probe}])
    state = started(pod)
    out = state.handle(ev.Probed(record(pod).id, "main", "liveness", healthy=False), NOW)
    assert [one.grace for one in out if isinstance(one, do.StopContainer)] == [3]


def test_conditions_of_others_are_kept_and_readiness_gates_count() -> None:
    pod = make_pod(readinessGates=[{"conditionType": "example.com/gate"}])
    state = started(pod)
    ready = {one["type"]: one for one in state.status["conditions"]}["Ready"]
    assert ready["reason"] == "ReadinessGatesNotReady"
    gate = {"type": "example.com/gate", "status": "True"}
    state.handle(ev.PodChanged({**pod, "status": {"conditions": [gate]}}), NOW + 1)
    found = {one["type"]: one["status"] for one in state.status["conditions"]}
    assert found["Ready"] == "True"
    assert found["example.com/gate"] == "True"


def test_an_impossible_answer_tells_the_pods_story() -> None:
    state = started(make_pod())
    with pytest.raises(InvalidTransition, match=r"ImageReady for 'main'.*(?s:.)*SandboxChanged"):
        state.handle(ev.ImageReady("main", "sha256:1"), NOW)


@pytest.mark.parametrize(
    ("policy", "code", "phase"),
    [
        ("Never", 0, "Succeeded"),
        ("Never", 1, "Failed"),
        ("OnFailure", 0, "Succeeded"),
        ("OnFailure", 1, "Running"),
        ("Always", 0, "Running"),
    ],
)
def test_the_phase_after_an_exit(policy: str, code: int, phase: str) -> None:
    pod = make_pod(restartPolicy=policy)
    state = started(pod)
    end = record(pod, state=State.EXITED, exit_code=code, finished_at=NOW)
    state.handle(ev.ContainerChanged(end), NOW)
    assert state.status["phase"] == phase


def test_a_failed_init_container_that_may_not_restart_fails_the_pod() -> None:
    pod = make_pod(restartPolicy="Never", initContainers=[{"name": "setup", "image": "x"}])
    state = PodState(pod)
    end = record(pod, "setup", state=State.EXITED, exit_code=1, finished_at=NOW)
    state.handle(ev.Observed((BOX,), (end,)), NOW)
    assert state.status["phase"] == "Failed"
    initialized = {one["type"]: one for one in state.status["conditions"]}["Initialized"]
    assert initialized["message"] == "containers with incomplete status: [setup]"


def test_an_ephemeral_container_is_started_beside_the_others() -> None:
    pod = make_pod()
    state = started(pod)
    debug = {"name": "debug", "image": "busybox"}
    changed = {**pod, "spec": {**pod["spec"], "ephemeralContainers": [debug]}}
    assert do.PullImage("debug") in state.handle(ev.PodChanged(changed), NOW)
    assert state.handle(ev.ImageReady("debug", "sha256:1"), NOW) == [do.StartContainer("debug", 0, "sha256:1", 0.0)]
