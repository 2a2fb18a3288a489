"""Restarts: rules of containers, the whole pod in place, init containers beside sidecars, kills by probes, back-off."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pod_machine import Machine, container, make_pod
from tiphys.kubelet import events as ev
from tiphys.kubelet.podspec import should_restart


def rule(operator: str, *values: int, action: str = "Restart") -> dict[str, Any]:
    return {"action": action, "exitCodes": {"operator": operator, "values": list(values)}}


@pytest.mark.parametrize(
    ("own", "rules", "code", "again"),
    [
        (None, [], 1, False),
        (None, [rule("In", 1)], 1, False),
        ("Never", [rule("In", 42)], 42, True),
        ("Never", [rule("In", 42)], 1, False),
        ("Never", [rule("NotIn", 0)], 3, True),
        ("Never", [rule("NotIn", 42)], 42, False),
        ("OnFailure", [rule("In", 0)], 0, True),
        ("Always", [], 0, True),
        ("Never", [rule("In", 7, action="RestartAllContainers")], 7, True),
        ("Never", [{"action": "Restart"}], 7, False),
    ],
)
def test_rules_come_before_the_containers_policy_and_that_before_the_pods(
    own: str | None, rules: list[Any], code: int, again: bool
) -> None:
    spec = container("main", restartPolicyRules=rules) | ({"restartPolicy": own} if own else {})
    assert should_restart(make_pod(restartPolicy="Never"), spec, code) is again


def all_pod() -> dict[str, Any]:
    source = container(
        "source", restartPolicy="Never", restartPolicyRules=[rule("In", 42, action="RestartAllContainers")]
    )
    inits = [container("setup"), container("side", restartPolicy="Always")]
    return make_pod(restartPolicy="Never", initContainers=inits, containers=[source, container("other")])


def running_all_pod() -> Machine:
    machine = Machine(all_pod()).begin()
    machine.exit("setup")
    assert machine.running() == ["other", "side", "source"]
    machine.log.clear()
    return machine


def test_a_rule_may_restart_the_whole_pod_in_its_sandbox() -> None:
    machine = running_all_pod()
    assert machine.condition("AllContainersRestarting")["status"] == "False"
    machine.exit("source", 42)
    assert machine.log == [
        *("stop other 0", "remove other", "remove setup", "stop side 0", "remove side", "remove source"),
        "start setup",
    ]
    machine.exit("setup")
    assert machine.running() == ["other", "side", "source"]
    assert [machine.status(name)["restartCount"] for name in ("setup", "side", "source", "other")] == [1, 1, 1, 1]
    assert ("Killing", "killing") in machine.events


def test_the_status_tells_that_the_whole_pod_restarts() -> None:
    machine = running_all_pod()
    machine.held = {"other"}
    machine.exit("source", 42)
    condition = machine.condition("AllContainersRestarting")
    assert (condition["status"], condition["reason"]) == ("True", "RestartAllContainersStarted")
    assert condition["message"] == "container exited with restart policy rule"
    machine.exit("other", 137)
    assert machine.condition("AllContainersRestarting")["status"] == "False"
    gone = machine.status("other")
    assert gone["state"] == {"waiting": {"reason": "PodInitializing"}}
    text = "The container is removed because RestartAllContainers in place"
    assert gone["lastState"]["terminated"] == {"reason": "RestartingAllContainers", "message": text, "exitCode": 137}
    assert machine.condition("Initialized")["status"] == "True"


def test_a_restart_of_the_whole_pod_goes_on_where_a_killed_kubelet_left_it() -> None:
    machine = running_all_pod()
    machine.held = {"other"}
    machine.exit("source", 42)
    pod = {**machine.pod, "status": machine.status()}
    records = tuple(machine.state.records.values())
    sandbox = machine.state.sandbox
    assert sandbox is not None
    again = Machine(pod).begin(*records, sandboxes=(sandbox,))
    assert again.log[0] == "stop other 0"
    assert again.log[-1] == "start setup"
    assert again.latest("setup").attempt == 1


def test_containers_that_were_removed_for_a_restart_keep_their_count_over_a_killed_kubelet() -> None:
    machine = running_all_pod()
    machine.exit("source", 42)
    records = tuple(machine.state.records.values())
    sandbox = machine.state.sandbox
    assert sandbox is not None
    again = Machine({**machine.pod, "status": machine.status()}).begin(*records, sandboxes=(sandbox,))
    again.exit("setup")
    assert again.running() == ["other", "side", "source"]
    assert again.latest("source").attempt == 1


def test_a_pod_without_such_a_rule_has_no_such_condition() -> None:
    assert Machine(make_pod()).begin().condition("AllContainersRestarting") == {}


def test_a_sidecar_that_died_does_not_hold_up_init_containers_that_follow() -> None:
    inits = [container("side", restartPolicy="Always"), container("one"), container("two")]
    machine = Machine(make_pod(initContainers=inits)).begin()
    assert machine.running() == ["one", "side"]
    machine.exit("side", 1)
    machine.exit("side", 1)
    assert "side" not in machine.running()
    machine.exit("one")
    assert machine.running() == ["two"]
    machine.exit("two")
    assert "main" in machine.running()


def test_the_next_init_container_waits_for_a_sidecars_startup_probe() -> None:
    inits = [container("side", restartPolicy="Always", startupProbe={"exec": {}}), container("one")]
    machine = Machine(make_pod(initContainers=inits)).begin()
    assert machine.running() == ["side"]
    machine.probe("side", "startup", healthy=True)
    assert machine.running() == ["one", "side"]


def test_a_sidecar_that_fails_its_startup_probe_is_restarted() -> None:
    inits = [container("side", restartPolicy="Always", startupProbe={"exec": {}})]
    machine = Machine(make_pod(initContainers=inits)).begin()
    machine.probe("side", "startup", healthy=False)
    assert ("Killing", "Init container side failed startup probe") in machine.events
    assert machine.latest("side").attempt == 1
    assert machine.running() == ["side"]


def test_what_a_probe_killed_is_restarted_whatever_it_ends_with() -> None:
    main = container("main", livenessProbe={"exec": {}})
    machine = Machine(make_pod(restartPolicy="OnFailure", containers=[main])).begin()
    machine.held = {"main"}
    machine.probe("main", "liveness", healthy=False)
    assert ("Killing", "Container main failed liveness probe, will be restarted") in machine.events
    machine.exit("main", 0)
    assert machine.running() == ["main"]
    assert machine.status()["phase"] == "Running"


def test_what_a_probe_killed_is_restarted_at_once_while_the_run_before_it_is_long_over() -> None:
    main = container("main", livenessProbe={"exec": {}})
    machine = Machine(make_pod(containers=[main])).begin()
    for attempt in range(1, 4):
        machine.advance(30)
        machine.probe("main", "liveness", healthy=False)
        assert machine.latest("main").attempt == attempt
    assert machine.latest("main").backoff == 20
    machine.advance(10)
    machine.probe("main", "liveness", healthy=False)
    waiting = machine.status("main")["state"]["waiting"]
    assert waiting["reason"] == "CrashLoopBackOff"
    assert waiting["message"] == "back-off 20s restarting failed container=main pod=web_default(u1)"


def test_a_container_that_may_not_restart_ends_the_pod_when_a_probe_kills_it() -> None:
    main = container("main", livenessProbe={"exec": {}})
    machine = Machine(make_pod(restartPolicy="Never", containers=[main])).begin()
    machine.probe("main", "liveness", healthy=False)
    assert ("Killing", "Container main failed liveness probe") in machine.events
    assert machine.status()["phase"] == "Failed"


def test_back_off_ends_where_the_configuration_says() -> None:
    machine = Machine(make_pod(), max_backoff=2.0).begin()
    for _ in range(4):
        machine.exit("main", 1)
        machine.advance(2)
    assert machine.latest("main").attempt == 4
    assert machine.latest("main").backoff == 2


def test_a_changed_image_restarts_a_container_even_under_never() -> None:
    machine = Machine(make_pod(restartPolicy="Never")).begin()
    changed = {**machine.pod, "spec": {**machine.pod["spec"], "containers": [{"name": "main", "image": "other"}]}}
    machine.pod = changed
    machine.post(ev.PodChanged(changed))
    assert ("Killing", "Container main definition changed, will be restarted") in machine.events
    assert machine.running() == ["main"]


def deleted(machine: Machine) -> dict[str, Any]:
    meta = {**machine.pod["metadata"], "deletionTimestamp": "2027-01-15T08:00:30Z", "deletionGracePeriodSeconds": 30}
    return {**machine.pod, "metadata": meta}


def test_only_readiness_is_probed_while_a_pod_ends() -> None:
    probe: dict[str, Any] = {"exec": {}}
    main = container("main", livenessProbe=probe, readinessProbe=probe)
    machine = Machine(make_pod(containers=[main])).begin()
    machine.probe("main", "readiness", healthy=True)
    assert machine.probes == {"main": ("liveness", "readiness")}
    machine.held = {"main"}
    machine.post(ev.PodChanged(deleted(machine)))
    assert machine.probes == {"main": ("readiness",)}
    assert machine.condition("Ready")["status"] == "True"
    machine.probe("main", "readiness", healthy=False)
    assert machine.condition("Ready")["status"] == "False"
    machine.exit("main", 0)
    assert machine.probes == {}


def test_what_has_not_started_is_not_probed_any_more_when_its_pod_ends() -> None:
    probe: dict[str, Any] = {"exec": {}}
    machine = Machine(make_pod(containers=[container("main", startupProbe=probe, readinessProbe=probe)])).begin()
    machine.held = {"main"}
    machine.post(ev.PodChanged(deleted(machine)))
    assert machine.probes == {}


def test_the_end_of_what_a_probe_killed_is_not_told_as_final() -> None:
    main = container("main", livenessProbe={"exec": {}})
    machine = Machine(make_pod(restartPolicy="OnFailure", containers=[main])).begin()
    machine.held = {"main"}
    machine.probe("main", "liveness", healthy=False)
    told = len(machine.statuses)
    machine.exit("main", 0)
    states = [set(status["containerStatuses"][0]["state"]) for status in machine.statuses[told:]]
    assert {"terminated"} not in states
    assert states[-1] == {"running"}
    assert machine.status("main")["lastState"]["terminated"]["exitCode"] == 0


def test_a_pod_past_its_deadline_is_not_ready_while_it_ends() -> None:
    machine = Machine(make_pod(activeDeadlineSeconds=5)).begin()
    machine.held = {"main"}
    machine.advance(6)
    assert machine.status()["phase"] == "Running"
    assert machine.condition("Ready")["reason"] == "PodFailed"
    machine.exit("main", 137)
    status = machine.status()
    assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")


def test_a_rejected_pod_keeps_nothing_but_the_reason() -> None:
    pod = make_pod()
    pod["status"] = {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "example.com/other", "status": "True"}],
    }
    machine = Machine(pod)
    machine.post(ev.Rejected("OutOfcpu", "Node didn't have enough resource: cpu"))
    machine.begin()
    status = machine.status()
    assert (status["phase"], status["reason"]) == ("Failed", "OutOfcpu")
    assert status["message"] == "Pod was rejected: Node didn't have enough resource: cpu"
    assert [one["type"] for one in status["conditions"]] == ["example.com/other"]
    assert "containerStatuses" not in status


def test_main_containers_of_a_pod_that_was_never_initialized_are_not_lost() -> None:
    machine = Machine(make_pod(initContainers=[container("setup")])).begin()
    machine.exit("setup", 1)
    machine.post(ev.PodChanged(deleted(machine)))
    assert set(machine.status("setup")["state"]) == {"terminated"}
    assert machine.status("main")["state"] == {"waiting": {"reason": "PodInitializing"}}
    assert machine.status()["phase"] == "Failed"


def test_a_sidecar_is_left_alone_until_its_startup_probe_has_spoken() -> None:
    side = container("side", restartPolicy="Always", startupProbe={"exec": {}})
    machine = Machine(make_pod(initContainers=[side])).begin()
    changed = {**machine.pod, "spec": {**machine.pod["spec"], "initContainers": [{**side, "image": "other"}]}}
    machine.pod = changed
    machine.post(ev.PodChanged(changed))
    assert machine.latest("side").attempt == 0
    machine.probe("side", "startup", healthy=True)
    assert ("Killing", "Init container side definition changed") in machine.events
    assert machine.latest("side").attempt == 1


def test_a_finished_init_container_is_not_run_again_for_a_new_image() -> None:
    machine = Machine(make_pod(initContainers=[container("setup")])).begin()
    machine.exit("setup")
    changed = {**machine.pod, "spec": {**machine.pod["spec"], "initContainers": [{"name": "setup", "image": "other"}]}}
    machine.pod = changed
    machine.post(ev.PodChanged(changed))
    assert machine.log.count("start setup") == 1
    assert machine.running() == ["main"]


def test_init_containers_run_again_in_a_new_sandbox() -> None:
    machine = Machine(make_pod(initContainers=[container("setup")])).begin()
    machine.exit("setup")
    sandbox = machine.state.sandbox
    assert sandbox is not None
    machine.log.clear()
    machine.post(ev.SandboxChanged(replace(sandbox, running=False)))
    assert machine.log == ["stop main 30", "sandbox", "start setup"]
    assert machine.events.count(("SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")) == 1
    assert machine.status()["phase"] == "Pending"
    machine.exit("setup")
    assert machine.running() == ["main"]
    assert machine.status("main")["restartCount"] == 1


def test_a_container_whose_hook_failed_never_counts_as_running() -> None:
    machine = Machine(make_pod(containers=[container("main", lifecycle={"postStart": {"exec": {}}})]))
    machine.held, machine.hook_errors = {"main"}, {"main": "it went wrong"}
    machine.begin()
    assert machine.status("main")["state"] == {"waiting": {"reason": "PostStartHookError", "message": "it went wrong"}}
    assert not machine.status("main")["ready"]
    assert all("running" not in status["containerStatuses"][0]["state"] for status in machine.statuses)
    assert ("Killing", "FailedPostStartHook") in machine.events
    machine.hook_errors = {}
    machine.exit("main", 137)
    assert machine.status("main")["restartCount"] == 1
    assert set(machine.status("main")["state"]) == {"running"}


@pytest.mark.parametrize(("policy", "told"), [("Always", 1), ("Never", 0)])
def test_a_lost_sandbox_is_told_of_when_there_will_be_another(policy: str, told: int) -> None:
    machine = Machine(make_pod(restartPolicy=policy)).begin()
    sandbox = machine.state.sandbox
    assert sandbox is not None
    for _ in range(2 if policy == "Always" else 1):
        machine.exit("main", 0)
    machine.post(ev.SandboxChanged(replace(sandbox, running=False)))
    machine.advance(20)
    assert [reason for reason, _ in machine.events].count("SandboxChanged") == told
