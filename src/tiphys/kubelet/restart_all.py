"""Restarting a whole pod in place: rule action RestartAllContainers (KEP-5532). Pure.

A container that ends with an exit code of such a rule makes the pod's condition AllContainersRestarting true.
While it is, all init and main containers are killed and removed one after the other, those that asked for it
last; then the pod begins anew in its sandbox, with its volumes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tiphys.kubelet.labels import Record
from tiphys.kubelet.podspec import Object, init_containers, main_containers, matching_rule
from tiphys.runtime.types import State

CONDITION = "AllContainersRestarting"
ACTION = "RestartAllContainers"
REASON = "RestartingAllContainers"
"""Of a container that was removed for it."""
MESSAGE = "The container is removed because RestartAllContainers in place"
KILL_MESSAGE = "killing"

Records = Mapping[str, list[Record]]
"""By container name, newest first."""


def may_restart_all(pod: Object) -> bool:
    """Whether some rule of the pod has this action: only then it has the condition."""
    return any(rule.get("action") == ACTION for one in _containers(pod) for rule in one.get("restartPolicyRules") or ())


def is_restarting(pod: Object, records: Records, status: Mapping[str, Any]) -> bool:
    """Whether the pod is to begin anew: its status says so, or a container ended with such a code."""
    if not may_restart_all(pod):
        return False
    if any(one["type"] == CONDITION and one["status"] == "True" for one in status.get("conditions") or ()):
        return True
    return any(_asks(container, record) for container, record in _latest(pod, records))


def left_to_reset(pod: Object, records: Records) -> list[Record]:
    """What is still to be killed and removed, in this order."""
    victims: list[Record] = []
    sources: list[Record] = []
    for containers in (main_containers(pod), init_containers(pod)):
        for container in containers:
            for record in records.get(container["name"]) or ():
                (sources if _asks(container, record) else victims).append(record)
    return victims + sources


def _asks(container: Object, record: Record) -> bool:
    if record.state is not State.EXITED:
        return False
    rule = matching_rule(container, record.exit_code)
    return rule is not None and rule.get("action") == ACTION


def _containers(pod: Object) -> Iterable[Object]:
    return (*init_containers(pod), *main_containers(pod))


def _latest(pod: Object, records: Records) -> Iterator[tuple[Object, Record]]:
    for container in _containers(pod):
        if found := records.get(container["name"]):
            yield container, found[0]


def reset_end() -> dict[str, Any]:
    """The last state of a container that was removed."""
    return {"reason": REASON, "message": MESSAGE, "exitCode": 137}
