"""Informers, queues and workers on a network that fails at random: no update is lost, none is told twice or amiss."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from flaky_client import FlakyCluster
from tiphys.base.errors import NotFound
from tiphys.base.identity import User
from tiphys.client.informer import Informer, key_of, split_key
from tiphys.client.reconcile import Result, run_workers
from tiphys.client.resources import CONFIG_MAPS
from tiphys.client.types import MERGE_PATCH, Object
from tiphys.client.workqueue import WorkQueue
from tiphys.testing.clock import VirtualClock

WORKER = User("system:serviceaccount:kube-system:worker", groups=("system:masters", "system:authenticated"))
NAMES = [f"map-{number}" for number in range(12)]


def config_map(name: str, number: int) -> dict[str, Any]:
    meta = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"number": str(number)}}


async def disturb(cluster: FlakyCluster, random: Random, steps: int) -> None:
    """Create, change and delete objects at random, as somebody whose calls do not fail."""
    for number in range(steps):
        name = random.choice(NAMES)
        try:
            if random.random() < 0.3:
                await cluster.client.delete(CONFIG_MAPS, name, "default")
            else:
                await cluster.client.patch(
                    CONFIG_MAPS, name, {"data": {"number": str(number)}}, "default", type=MERGE_PATCH
                )
        except NotFound:
            await cluster.client.create(CONFIG_MAPS, config_map(name, number))
        await cluster.clock.sleep(random.choice([0.0, 0.0, 0.01, 1.0, 20.0]))


class Told:
    """What a subscriber believes there is, by what it was told alone."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}

    def __call__(self, old: Object | None, new: Object | None) -> None:
        key = key_of(new or old or {})
        known = self.objects.get(key)
        assert (known is None) == (old is None), f"{key} was told out of order"
        if new is None:
            assert known is not None
            assert (old or {})["metadata"]["uid"] == known["metadata"]["uid"]
            del self.objects[key]
            return
        if known is not None:
            assert known["metadata"]["uid"] == new["metadata"]["uid"]
            assert known["metadata"]["resourceVersion"] != new["metadata"]["resourceVersion"]
        self.objects[key] = new


@pytest.mark.parametrize("seed", range(6))
def test_a_cache_is_what_the_server_has_and_what_was_told(seed: int) -> None:
    clock, random = VirtualClock(), Random(seed)

    async def main() -> None:
        async with FlakyCluster(clock, seed, nodes=0, controllers="") as cluster:
            cluster.flaky[0] = random.choice([0.05, 0.2, 0.5])
            informer, told = Informer(cluster.connect(WORKER), CONFIG_MAPS, clock, namespace="default"), Told()
            faults: list[BaseException] = []

            def changed(old: Object | None, new: Object | None) -> None:
                try:
                    told(old, new)
                except AssertionError as error:
                    faults.append(error)

            informer.subscribe(changed)
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(informer.run())
                await disturb(cluster, random, 300)
                cluster.flaky[0] = 0.0
                await clock.sleep(700)
                task.cancel()
            there = {key_of(each): each for each in (await cluster.client.list(CONFIG_MAPS, "default")).items}
            assert not faults
            assert {key_of(each): each for each in informer.list()} == there
            assert told.objects == there

    clock.run(main())
    clock.close()


@pytest.mark.parametrize("seed", range(6))
def test_every_change_is_worked_on_in_the_end_and_no_key_by_two_at_a_time(seed: int) -> None:
    clock, random = VirtualClock(), Random(seed + 50)
    busy: set[str] = set()

    async def main() -> None:
        async with FlakyCluster(clock, seed, nodes=0, controllers="") as cluster:
            cluster.flaky[0] = random.choice([0.05, 0.2, 0.4])
            client = cluster.connect(WORKER)
            informer = Informer(client, CONFIG_MAPS, clock, namespace="default")
            queue: WorkQueue[str] = WorkQueue()
            informer.subscribe(lambda old, new: queue.add(key_of(new or old or {})))

            async def reconcile(key: str) -> Result | None:
                assert key not in busy
                busy.add(key)
                try:
                    await copy(key)
                finally:
                    busy.discard(key)
                return None

            async def copy(key: str) -> None:
                """Note the number as an annotation, at the revision that was read."""
                held = informer.by_key(key)
                if held is None:
                    return
                wanted = held["data"]["number"]
                if random.random() < 0.05:
                    raise RuntimeError("a fault of the worker's own")
                if (held["metadata"].get("annotations") or {}).get("copy") != wanted:
                    meta = {**held["metadata"], "annotations": {"copy": wanted}}
                    _, name = split_key(key)
                    assert name == meta["name"]
                    await client.update(CONFIG_MAPS, {**held, "metadata": meta})

            async with asyncio.TaskGroup() as tasks:
                background = [
                    tasks.create_task(informer.run()),
                    tasks.create_task(run_workers("copier", queue, reconcile, 4)),
                ]
                await disturb(cluster, random, 200)
                cluster.flaky[0] = 0.0
                await clock.sleep(2500)
                for task in background:
                    task.cancel()
            for each in (await cluster.client.list(CONFIG_MAPS, "default")).items:
                assert each["metadata"]["annotations"]["copy"] == each["data"]["number"]

    clock.run(main())
    clock.close()
