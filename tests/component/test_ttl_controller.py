"""The TTL annotation of nodes follows the size of the cluster."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tiphys.client.resources import NODES
from tiphys.client.types import MERGE_PATCH
from tiphys.controllers.ttl import ANNOTATION, STEPS, step_for
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster


def play(scenario: Callable[[Cluster], Coroutine[Any, Any, None]]) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, nodes=1, controllers="ttl-controller") as cluster:
            await scenario(cluster)

    try:
        clock.run(main())
    finally:
        clock.close()


async def ttl(cluster: Cluster, name: str) -> str | None:
    annotations = (await cluster.client.get(NODES, name))["metadata"].get("annotations") or {}
    return annotations.get(ANNOTATION)


@pytest.mark.parametrize(
    ("step", "nodes", "seconds"),
    [(0, 100, 0), (0, 101, 15), (1, 90, 15), (1, 89, 0), (1, 501, 30), (2, 449, 15), (3, 2001, 300), (4, 1799, 60)],
)
def test_steps_overlap(step: int, nodes: int, seconds: int) -> None:
    assert STEPS[step_for(step, nodes)][2] == seconds


def test_nodes_of_a_small_cluster_are_told_to_ask_each_time() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.clock.sleep(1)
        assert await ttl(cluster, "node-1") == "0"
        for value in ("7", "soon", None):
            patch = {"metadata": {"annotations": {ANNOTATION: value}}}
            await cluster.client.patch(NODES, "node-1", patch, type=MERGE_PATCH)
            await cluster.clock.sleep(1)
            assert await ttl(cluster, "node-1") == "0"

    play(scenario)


def test_a_larger_cluster_gets_a_longer_time_as_its_nodes_report() -> None:
    async def scenario(cluster: Cluster) -> None:
        for number in range(100):
            meta = {"name": f"more-{number}"}
            await cluster.client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": meta})
        await cluster.clock.sleep(1)
        assert await ttl(cluster, "more-99") == "15"
        assert await ttl(cluster, "more-1") == "0"
        await cluster.client.patch(NODES, "more-1", {"metadata": {"labels": {"a": "b"}}}, type=MERGE_PATCH)
        await cluster.clock.sleep(1)
        assert await ttl(cluster, "more-1") == "15"

    play(scenario)
