"""The quick way of deciding gives the answers of the thorough one."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tiphys.scheduler import plugins
from tiphys.scheduler.decide import Decider, decide
from tiphys.scheduler.snapshot import PodInfo, Snapshot

PLUGINS = plugins.default()


def node(number: int, random: random.Random) -> dict[str, Any]:
    name = f"n{number}"
    labels = {"kubernetes.io/hostname": name, "zone": f"z{number % 3}"}
    taints = [{"key": "gpu", "effect": "NoSchedule"}] if random.random() < 0.1 else []
    spec = {"taints": taints, "unschedulable": random.random() < 0.1}
    room = {"cpu": str(random.choice((2, 4))), "memory": f"{random.choice((4, 8))}Gi", "pods": "12"}
    images = [{"names": ["web:1"], "sizeBytes": 500_000_000}] if random.random() < 0.3 else []
    meta = {"name": name, "labels": labels}
    return {"metadata": meta, "spec": spec, "status": {"allocatable": room, "images": images}}


def pod(number: int, random: random.Random) -> PodInfo:
    spec: dict[str, Any] = random.choice(
        [
            {},
            {"tolerations": [{"key": "gpu", "operator": "Exists"}]},
            {"nodeSelector": {"zone": "z1"}},
            {"nodeSelector": {"zone": "nowhere"}},
        ]
    )
    requests = random.choice([{}, {"cpu": "200m", "memory": "64Mi"}, {"cpu": "100m"}, {"cpu": "3"}])
    ports = [{"containerPort": 80, "hostPort": 80}] if random.random() < 0.1 else []
    image = random.choice(["web:1", "db:2"])
    container = {"name": "c", "image": image, "resources": {"requests": requests}, "ports": ports}
    meta = {"name": f"p{number}", "namespace": "default", "uid": f"p{number}"}
    return PodInfo({"metadata": meta, "spec": {"containers": [container], **spec}})


def best_nodes(info: PodInfo, snapshot: Snapshot) -> set[str]:
    return {decide(info, snapshot, PLUGINS, turn).node for turn in range(len(snapshot))}


@pytest.mark.parametrize("seed", range(3))
def test_it_picks_one_of_the_best_nodes_while_nodes_and_pods_come_and_go(seed: int) -> None:
    chance = random.Random(seed)
    snapshot = Snapshot()
    for number in range(40):
        snapshot.node_changed(None, node(number, chance))
    decider = Decider(snapshot, PLUGINS)
    placed: list[PodInfo] = []
    for number in range(250):
        info = pod(number, chance)
        decision = decider.decide(info)
        assert decision.node in best_nodes(info, snapshot)
        if decision.node:
            snapshot.place(info, decision.node)
            placed.append(info)
        else:
            assert decision.message == decide(info, snapshot, PLUGINS).message
        if placed and chance.random() < 0.3:
            snapshot.remove(placed.pop(chance.randrange(len(placed))).key)
        if chance.random() < 0.1:
            changed = node(chance.randrange(45), chance)
            snapshot.node_changed(None, changed)
        if chance.random() < 0.05 and (gone := snapshot.node(f"n{chance.randrange(45)}")):
            snapshot.node_changed(gone.node, None)


def test_equally_good_nodes_are_taken_in_turn() -> None:
    chance = random.Random(1)
    snapshot = Snapshot()
    for number in range(40):
        snapshot.node_changed(
            None,
            {"metadata": {"name": f"n{number}"}, "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "9"}}},
        )
    decider = Decider(snapshot, PLUGINS)
    info = pod(0, chance)
    nodes = []
    for number in range(80):
        one = PodInfo({**info.pod, "metadata": {**info.pod["metadata"], "uid": f"u{number}"}})
        nodes.append(decider.decide(one).node)
        snapshot.place(one, nodes[-1])
    assert len(set(nodes[:40])) == len(set(nodes[40:])) == 40
