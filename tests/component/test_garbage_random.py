"""Random graphs of owners, random deletions, a random bad network: what is left is what an oracle says.

The oracle knows nothing of events or queues: it takes away what was deleted, then, until nothing changes, all that has
references but none to an object that is there under that name.
"""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from flaky_client import FlakyCluster
from tiphys.base.errors import NotFound
from tiphys.client.resources import CONFIG_MAPS, NAMESPACES, SECRETS
from tiphys.client.types import MERGE_PATCH, Object
from tiphys.testing.clock import VirtualClock

KINDS = {"ConfigMap": CONFIG_MAPS, "Secret": SECRETS}
SPACES = ("default", "other")
GARBAGE = "garbage-collector-controller"
HELD = "example.com/held"
NOWHERE = {"apiVersion": "v1", "kind": "ConfigMap", "name": "never", "uid": "8d3b4c8e-7d5c-4f4e-8d5e-0d6a3c2b1a00"}

Key = tuple[str, str, str]
"""Kind, namespace and name."""


class Graph:
    """A random graph in a cluster, and what should be left of it."""

    def __init__(self, cluster: FlakyCluster, random: Random) -> None:
        self.cluster, self.random = cluster, random
        self.uids: dict[Key, str] = {}
        self.references: dict[Key, list[dict[str, Any]]] = {}

    async def grow(self, size: int) -> None:
        """Objects whose owners are among earlier ones; some later ones own earlier ones, in circles."""
        for number in range(size):
            key = (self.random.choice([*KINDS]), self.random.choice(SPACES), f"o{number}")
            references = [self._reference(key) for _ in range(self.random.choice([0, 0, 1, 1, 1, 2, 3]))]
            meta: dict[str, Any] = {"name": key[2], "namespace": key[1], "ownerReferences": _once(references)}
            if self.random.random() < 0.1:
                meta["finalizers"] = [HELD]
            made = await self.cluster.client.create(
                KINDS[key[0]], {"apiVersion": "v1", "kind": key[0], "metadata": meta}
            )
            self.uids[key] = made["metadata"]["uid"]
            self.references[key] = meta["ownerReferences"]
        for key in self.random.sample([*self.uids], size // 6):
            references = _once([*self.references[key], self._reference(key)])
            if await self._patch(key, {"ownerReferences": references}):
                self.references[key] = references

    def _reference(self, mine: Key) -> dict[str, Any]:
        fate = self.random.random()
        near = [key for key in self.uids if key[1] == mine[1] and key != mine]
        if not self.uids or fate < 0.08:
            return NOWHERE
        key = self.random.choice([*self.uids] if fate < 0.15 or not near else near)
        name = "wrong" if fate > 0.95 else key[2]
        blocks = {"blockOwnerDeletion": True} if self.random.random() < 0.5 else {}
        return {"apiVersion": "v1", "kind": key[0], "name": name, "uid": self.uids[key], **blocks}

    async def _patch(self, key: Key, meta: dict[str, Any]) -> bool:
        """Whether it was still there, and not on its way out."""
        kind, namespace, name = key
        try:
            held = await self.cluster.client.patch(KINDS[kind], name, {"metadata": meta}, namespace, type=MERGE_PATCH)
        except NotFound:
            return False
        return "deletionTimestamp" not in held["metadata"]

    async def delete(self, keys: list[Key], propagations: list[str]) -> None:
        for kind, namespace, name in keys:
            how = self.random.choice(propagations)
            try:
                await self.cluster.client.delete(KINDS[kind], name, namespace, propagation=how)
            except NotFound:
                continue

    async def release(self) -> None:
        for key in self.uids:
            await self._patch(key, {"finalizers": None})

    async def found(self) -> dict[Key, Object]:
        held = {}
        for kind, resource in KINDS.items():
            for obj in (await self.cluster.client.list(resource)).items:
                meta = obj["metadata"]
                if (kind, meta["namespace"], meta["name"]) in self.uids:
                    held[kind, meta["namespace"], meta["name"]] = obj
        return held

    def expected(self, deleted: set[Key]) -> dict[Key, list[str]]:
        """What is left, with the uids of its owners."""
        left = {key: self.references[key] for key in self.uids if key not in deleted}
        while True:
            valid = {
                key: [each["uid"] for each in references if self._exists(key, each, left)]
                for key, references in left.items()
            }
            gone = [key for key, references in left.items() if references and not valid[key]]
            if not gone:
                return valid
            for key in gone:
                del left[key]

    def _exists(self, mine: Key, reference: dict[str, Any], left: dict[Key, Any]) -> bool:
        key = (reference["kind"], mine[1], reference["name"])
        return key in left and self.uids[key] == reference["uid"]


def _once(references: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*{each["uid"]: each for each in references}.values()]


@pytest.mark.parametrize("seed", range(12))
def test_what_is_left_is_what_has_an_owner_left(seed: int) -> None:
    clock, random = VirtualClock(), Random(seed)

    async def main() -> None:
        async with FlakyCluster(clock, seed, nodes=0, controllers=GARBAGE if seed % 2 else "") as cluster:
            await cluster.client.create(NAMESPACES, {"kind": "Namespace", "metadata": {"name": "other"}})
            cluster.flaky[0] = random.choice([0.0, 0.05, 0.3])
            graph = Graph(cluster, random)
            await graph.grow(60)
            if not seed % 2:
                async with cluster.managing(GARBAGE):
                    await clock.sleep(random.choice([0.0, 0.5, 5.0]))
            roots = [key for key in await graph.found() if random.random() < 0.3]
            await graph.delete(roots, ["Background", "Foreground"])
            if not seed % 2:
                async with cluster.managing(GARBAGE):
                    await _settle(graph, cluster, set(roots))
            else:
                await _settle(graph, cluster, set(roots))

    clock.run(main())
    clock.close()


async def _settle(graph: Graph, cluster: FlakyCluster, deleted: set[Key]) -> None:
    await cluster.clock.sleep(60)
    await graph.release()
    await cluster.clock.sleep(600)
    cluster.flaky[0] = 0.0
    await cluster.clock.sleep(1500)
    found = await graph.found()
    owners = {key: [each["uid"] for each in obj["metadata"].get("ownerReferences") or ()] for key, obj in found.items()}
    expected = graph.expected(deleted)
    keys = owners.keys() | expected.keys()
    assert {key: (owners.get(key), expected.get(key)) for key in keys if owners.get(key) != expected.get(key)} == {}


@pytest.mark.parametrize("seed", range(4))
def test_what_is_set_free_stays_without_its_owner(seed: int) -> None:
    clock, random = VirtualClock(), Random(seed + 100)

    async def main() -> None:
        async with FlakyCluster(clock, seed, nodes=0, controllers=GARBAGE) as cluster:
            cluster.flaky[0] = 0.1
            made: list[dict[str, Any]] = []
            for number in range(40):
                kind = random.choice([*KINDS])
                references = [] if number < 5 else random.sample(made[:5], 2)
                meta = {"name": f"o{number}", "namespace": "default", "ownerReferences": references}
                obj = await cluster.client.create(KINDS[kind], {"apiVersion": "v1", "kind": kind, "metadata": meta})
                made.append({"apiVersion": "v1", "kind": kind, "name": f"o{number}", "uid": obj["metadata"]["uid"]})
            await clock.sleep(30)
            going = random.sample(made[:5], 3)
            for each in going:
                await cluster.client.delete(KINDS[each["kind"]], each["name"], "default", propagation="Orphan")
            await clock.sleep(600)
            gone = {each["uid"] for each in going}
            for resource in KINDS.values():
                for obj in (await cluster.client.list(resource, "default")).items:
                    owners = {each["uid"] for each in obj["metadata"].get("ownerReferences") or ()}
                    assert not owners & gone
                    assert obj["metadata"]["uid"] not in gone
            names = {
                obj["metadata"]["name"] for kind in KINDS.values() for obj in (await cluster.client.list(kind)).items
            }
            assert {each["name"] for each in made} - names == {each["name"] for each in going}

    clock.run(main())
    clock.close()
