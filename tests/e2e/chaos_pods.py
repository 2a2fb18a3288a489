"""The pods of the chaos test: each leaves marks by which its whole life can be told afterwards.

Every run of a container appends a line to FACTS/POD.runs, a file of the host. What its log must hold, what its exit
code must be and how often it ran follow from that file and from the pod's name.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

IMAGE = "busybox"
LABEL = "chaos"
RUN = 'echo run >> "/facts/$POD.runs"; n=$(wc -l < "/facts/$POD.runs")'
COUNT = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done"
CRASH = f"{RUN}; echo line $n; sleep 0.2; exit $((n % 5 + 1))"
PROBED = f'rm -f "/facts/$POD.dead"; {RUN}; while :; do sleep 0.2; done'


def brief_script(lines: int, code: int) -> str:
    return f"{RUN}; i=0; while [ $i -lt {lines} ]; do i=$((i+1)); echo line $i; sleep 0.02; done; exit {code}"


def pod(name: str, script: str, facts: Path, *, restart: str = "Always", **container: Any) -> dict[str, Any]:
    own = [{"name": "facts", "mountPath": "/facts"}, {"name": "scratch", "mountPath": "/scratch"}]
    main = {
        "name": "c",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
        "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "volumeMounts": own,
        **container,
    }
    volumes = [{"name": "facts", "hostPath": {"path": str(facts)}}, {"name": "scratch", "emptyDir": {}}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {LABEL: name.split("-", maxsplit=1)[0]}},
        "spec": {
            "restartPolicy": restart,
            "terminationGracePeriodSeconds": 1,
            "containers": [main],
            "volumes": volumes,
        },
    }


def probed(name: str, facts: Path) -> dict[str, Any]:
    """Ready while FACTS/NAME.ready is there; killed, and started again, when FACTS/NAME.dead comes."""
    often = {"periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 5}
    ready = {"exec": {"command": ["test", "-e", f"/facts/{name}.ready"]}, **often}
    alive = {"exec": {"command": ["test", "!", "-e", f"/facts/{name}.dead"]}, **often}
    return pod(name, PROBED, facts, readinessProbe=ready, livenessProbe=alive)


def runs(facts: Path, name: str) -> int:
    """How often the pod's container has run."""
    path = facts / f"{name}.runs"
    return len(path.read_text().splitlines()) if path.exists() else 0


def log_lines(path: Path) -> list[str]:
    """The text of each entry of a log in the CRI format."""
    return [line.split(" ", 3)[3] for line in path.read_text().splitlines()]


def check_counter(name: str, found: dict[str, Any], log: list[str], before: str) -> list[str]:
    """A container that counts for ever: the same container as at the start, no line lost or twice."""
    status = found["status"]["containerStatuses"][0]
    problems = []
    if (status["restartCount"], status["containerID"]) != (0, before):
        problems.append(f"{name}: restarted: {status}")
    wanted = [f"line {number + 1}" for number in range(len(log))]
    if log != wanted:
        at = next(number for number, pair in enumerate(zip(log, wanted, strict=True)) if pair[0] != pair[1])
        problems.append(f"{name}: the log is wrong at {at}: {log[max(at - 2, 0) : at + 3]}")
    return problems


def check_brief(name: str, found: dict[str, Any], log: list[str], count: int) -> list[str]:
    """A container that ran once to its end; its name tells its lines and its exit code."""
    match = re.fullmatch(r"brief-\d+-(\d+)-(\d+)", name)
    assert match is not None
    lines, code = int(match[1]), int(match[2])
    status = found["status"]["containerStatuses"][0]
    ended = status["state"].get("terminated") or {}
    problems = []
    if found["status"]["phase"] != ("Failed" if code else "Succeeded"):
        problems.append(f"{name}: phase {found['status']['phase']}: {found['status']}")
    if (ended.get("exitCode"), ended.get("reason")) != (code, "Error" if code else "Completed"):
        problems.append(f"{name}: ended with {ended}")
    if count != 1 or status["restartCount"]:
        problems.append(f"{name}: ran {count} times, {status['restartCount']} restarts")
    if log != [f"line {number + 1}" for number in range(lines)]:
        problems.append(f"{name}: of {lines} lines the log has {len(log)}: {log[-3:]}")
    return problems


def check_restarts(name: str, found: dict[str, Any], count: int) -> list[str]:
    """A container that ends again and again: each of its runs is counted, the last code is known."""
    status = found["status"]["containerStatuses"][0]
    last = (status.get("lastState") or {}).get("terminated") or {}
    ended = status["state"].get("terminated")
    problems = []
    if status["restartCount"] != count - 1:
        problems.append(f"{name}: ran {count} times, {status['restartCount']} restarts are told: {status}")
    if name.startswith("crash"):
        expected = [code(count - 1)] if status["state"].get("running") else [code(count), code(count - 1)]
        shown = (ended or last).get("exitCode")
        if shown is not None and shown not in expected:
            problems.append(f"{name}: exit code {shown} after run {count}: {status}")
    return problems


def code(run: int) -> int:
    """With what the `run`th run of a crashing pod ends."""
    return run % 5 + 1
