"""Nodes that fall silent, come back, are deleted and made again at random: rates and taints always hold."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from itertools import pairwise
from random import Random

import pytest

from tiphys.base.errors import ApiError
from tiphys.client.resources import NODES
from tiphys.client.streams import closing
from tiphys.client.types import Object
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

CONTROLLERS = "namespace,serviceaccount,node-lifecycle-controller"
ZONE = "topology.kubernetes.io/zone"
EVICTING = ("node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready")
RATE = 10.0
"""Seconds from one node of a zone that is given up to the next, at least."""


def ready(node: Object) -> str:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return next((each["status"] for each in conditions if each["type"] == "Ready"), "")


def given_up(node: Object) -> bool:
    return any(each["key"] in EVICTING and each["effect"] == "NoExecute" for each in node["spec"].get("taints") or ())


class Watcher:
    """Notes when nodes of a zone are given up."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._given_up: set[str] = set()
        self.times: dict[str, list[float]] = defaultdict(list)

    async def run(self) -> None:
        async with closing(self._cluster.client.watch(NODES)) as events:
            async for event in events:
                if event.type != "BOOKMARK":
                    self._see(event.object, gone=event.type == "DELETED")

    def _see(self, node: Object, *, gone: bool) -> None:
        name = node["metadata"]["name"]
        if gone or not given_up(node):
            self._given_up.discard(name)
        elif name not in self._given_up:
            self._given_up.add(name)
            self.times[node["metadata"]["labels"][ZONE]].append(self._cluster.clock.monotonic())


async def step(cluster: Cluster, random: Random, silent: set[str], present: dict[str, str]) -> None:
    """Something happens to some nodes."""
    action = random.choice(("silence", "silence", "revive", "revive", "remove", "add", "zone"))
    speaking = sorted(set(present) - silent)
    if action == "silence" and speaking:
        for name in random.sample(speaking, random.randint(1, min(3, len(speaking)))):
            cluster.nodes.silence(name)
            silent.add(name)
    elif action == "revive" and silent:
        name = random.choice(sorted(silent))
        silent.discard(name)
        await cluster.nodes.revive(name)
    elif action == "remove" and len(present) > 4 and silent:
        name = random.choice(sorted(silent))  # the deletion of the last ready node is no loss
        await cluster.nodes.remove(name)
        silent.discard(name)
        cluster.nodes._silent.discard(name)
        del present[name]
    elif action == "add":
        name, zone = f"extra-{random.randint(0, 10**6)}", random.choice("ab")
        await cluster.nodes.add(name, labels={ZONE: zone})
        present[name] = zone
    elif action == "zone" and speaking:
        for name in [each for each in speaking if present[each] == "a"]:
            cluster.nodes.silence(name)
            silent.add(name)


def check(nodes: tuple[Object, ...]) -> None:
    """What holds whenever the controller had a moment."""
    for node in nodes:
        assert not (ready(node) == "True" and given_up(node)), node["metadata"]["name"]
    if nodes and all(ready(node) != "True" for node in nodes):
        assert not any(given_up(node) for node in nodes)


@pytest.mark.parametrize("seed", range(6))
def test_rates_and_taints_hold_whatever_happens(seed: int) -> None:
    clock, random = VirtualClock(), Random(seed)

    async def main() -> None:
        async with Cluster(clock, nodes=0, controllers=CONTROLLERS) as cluster:
            present = {f"node-{number}": random.choice("ab") for number in range(8)}
            silent: set[str] = set()
            for name, zone in present.items():
                await cluster.nodes.add(name, labels={ZONE: zone})
            watcher = Watcher(cluster)
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(watcher.run())
                for _ in range(60):
                    try:
                        await step(cluster, random, silent, present)
                    except ApiError:
                        continue
                    await clock.sleep(random.choice((3.0, 20.0, 75.0)))
                    check((await cluster.client.list(NODES)).items)
                watching.cancel()
            for times in watcher.times.values():
                assert all(later - earlier >= RATE - 0.5 for earlier, later in pairwise(times))
            for name in silent:
                await cluster.nodes.revive(name)
            await clock.sleep(30)
            for node in (await cluster.client.list(NODES)).items:
                assert (ready(node), node["spec"].get("taints")) == ("True", None)

    try:
        clock.run(main())
    finally:
        clock.close()
