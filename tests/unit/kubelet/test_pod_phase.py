"""The phase of a pod by the states of its containers, as tables.

R runs, S succeeded, F failed (exit code 1), K failed with 42, W waits and never ran, T waits after it failed,
X waits because the whole pod restarts; for sidecars also N: runs, but has not started yet.
"""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.kubelet.status import pod_phase


def entry(name: str, letter: str) -> dict[str, Any]:
    def ended(code: int, reason: str = "") -> dict[str, Any]:
        return {"terminated": {"exitCode": code, "reason": reason or ("Error" if code else "Completed")}}

    waiting: dict[str, Any] = {"waiting": {"reason": "x"}}
    states = {
        "R": ({"running": {}}, {}),
        "N": ({"running": {}}, {}),
        "S": (ended(0), {}),
        "F": (ended(1), {}),
        "K": (ended(42), {}),
        "W": (waiting, {}),
        "T": (waiting, ended(1)),
        "X": (waiting, ended(137, "RestartingAllContainers")),
    }
    state, last = states[letter]
    return {"name": name, "state": state, "lastState": last, "started": letter == "R", "ready": letter == "R"}


def phase(
    policy: str, inits: str, sides: str, mains: str, *, over: bool = False, begun: bool = False, **main: Any
) -> str:
    init = [{"name": f"i{n}"} for n in range(len(inits))]
    side = [{"name": f"s{n}", "restartPolicy": "Always"} for n in range(len(sides))]
    names = [f"m{n}" for n in range(len(mains))]
    spec = {
        "restartPolicy": policy,
        "initContainers": [*init, *side],
        "containers": [{"name": name, **main} for name in names],
    }
    status = {
        "initContainerStatuses": [entry(one["name"], letter) for one, letter in zip(init, inits, strict=True)]
        + [entry(one["name"], letter) for one, letter in zip(side, sides, strict=True)],
        "containerStatuses": [entry(name, letter) for name, letter in zip(names, mains, strict=True)],
    }
    return pod_phase({"spec": spec}, status, over, begun)


@pytest.mark.parametrize(
    ("mains", "always", "on_failure", "never"),
    [
        ("WW", "Pending", "Pending", "Pending"),
        ("RW", "Pending", "Pending", "Pending"),
        ("RR", "Running", "Running", "Running"),
        ("RS", "Running", "Running", "Running"),
        ("RF", "Running", "Running", "Running"),
        ("SS", "Running", "Succeeded", "Succeeded"),
        ("FF", "Running", "Running", "Failed"),
        ("SF", "Running", "Running", "Failed"),
        ("TT", "Running", "Running", "Failed"),
        ("RT", "Running", "Running", "Running"),
        ("ST", "Running", "Running", "Failed"),
        ("XX", "Running", "Running", "Running"),
    ],
)
def test_by_main_containers(mains: str, always: str, on_failure: str, never: str) -> None:
    found = [phase(policy, "", "", mains) for policy in ("Always", "OnFailure", "Never")]
    assert found == [always, on_failure, never]


@pytest.mark.parametrize(
    ("inits", "mains", "always", "never"),
    [
        ("W", "W", "Pending", "Pending"),
        ("R", "W", "Pending", "Pending"),
        ("SW", "W", "Pending", "Pending"),
        ("S", "W", "Pending", "Pending"),
        ("S", "R", "Running", "Running"),
        ("F", "W", "Pending", "Failed"),
        ("T", "W", "Pending", "Failed"),
        ("X", "X", "Running", "Running"),
        ("R", "X", "Pending", "Pending"),
    ],
)
def test_by_init_containers(inits: str, mains: str, always: str, never: str) -> None:
    assert [phase(policy, inits, "", mains) for policy in ("Always", "Never")] == [always, never]


@pytest.mark.parametrize(
    ("sides", "mains", "begun", "never"),
    [
        ("W", "W", False, "Pending"),
        ("N", "W", False, "Pending"),
        ("R", "W", False, "Pending"),
        ("N", "R", False, "Pending"),
        ("N", "R", True, "Running"),
        ("R", "R", True, "Running"),
        ("T", "R", True, "Running"),
        ("R", "S", True, "Running"),
        ("S", "S", True, "Succeeded"),
        ("F", "S", True, "Succeeded"),
        ("F", "F", True, "Failed"),
    ],
)
def test_by_sidecars(sides: str, mains: str, begun: bool, never: str) -> None:
    assert phase("Never", "", sides, mains, begun=begun) == never


def test_a_pod_that_is_over_is_judged_by_its_exit_codes_whatever_its_policy() -> None:
    for policy in ("Always", "OnFailure", "Never"):
        assert phase(policy, "", "", "SS", over=True) == "Succeeded"
        assert phase(policy, "", "", "SF", over=True) == "Failed"


def test_rules_of_containers_keep_a_pod_running() -> None:
    rules = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
    own: dict[str, Any] = {"restartPolicy": "Never", "restartPolicyRules": rules}
    assert phase("Never", "", "", "K", **own) == "Running"
    assert phase("Never", "", "", "F", **own) == "Failed"
    assert phase("Always", "", "", "F", restartPolicy="Never") == "Failed"
    assert phase("Never", "", "", "F", restartPolicy="OnFailure") == "Running"
