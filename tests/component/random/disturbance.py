"""Who meddled: changes that a workload's controllers did not make, and whose reckoning they upset.

Not a rule that can be broken, but what other rules need to know before they blame a controller.
"""

from __future__ import annotations

from collections.abc import Iterator

from component.random.state import Change, State, owners
from tiphys.controllers import pods as podlib
from tiphys.controllers.objects import controller_of, labels, namespace, spec, uid

_WORKLOADS = (
    "replicaset-controller", "replication-controller", "deployment-controller", "daemon-set-controller",
    "statefulset-controller", "job-controller",
)  # fmt: skip
_OWNERS = ("deployments", "replicasets", "replicationcontrollers", "statefulsets", "daemonsets", "jobs")


class Disturbances:
    """Notes them in the state."""

    def check(self, change: Change, state: State) -> Iterator[str]:
        if change.plural == "pods" and _upsets(change):
            for obj in (change.old, change.new):
                for owner in owners(obj) if obj is not None else ():
                    state.disturb(owner, change.at)
            state.disturb(f"namespace {namespace(change.obj)}", change.at)
        elif change.plural == "nodes" and _node_upsets(change):
            for each in state.all("daemonsets"):
                state.disturb(uid(each), change.at)
            state.disturb("nodes", change.at)
        elif change.plural in _OWNERS and _moved(change):
            for obj in (change.old, change.new):
                if obj is not None:
                    state.disturb(uid(obj), change.at)
                    state.disturb(str((controller_of(obj) or {}).get("uid", "")), change.at)
        yield from ()


def _upsets(change: Change) -> bool:
    """A pod came, went, failed or changed hands by others than its controller; or it changed its owner at all."""
    old, new = change.old, change.new
    if old is None or new is None:
        return change.controller not in _WORKLOADS and not (old is not None and podlib.terminating(old))
    if owners(old) != owners(new) or labels(old) != labels(new):
        return True
    if change.doomed:
        return change.controller not in _WORKLOADS
    return (podlib.active(old) and podlib.terminal(new)) or (podlib.ready(old) and not podlib.ready(new))


def _node_upsets(change: Change) -> bool:
    if change.old is None or change.new is None:
        return True
    return _fitness(change.old) != _fitness(change.new)


def _fitness(node: object) -> object:
    assert isinstance(node, dict)
    return spec(node), labels(node)


def _moved(change: Change) -> bool:
    """A workload was adopted, orphaned or has begun to go."""
    if change.old is None or change.new is None:
        return change.new is None
    return owners(change.old) != owners(change.new) or change.doomed
