"""Claims and volumes under random treatment: nothing is ever bound twice, and what can be bound is."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest

from tiphys.base.errors import ApiError, Conflict
from tiphys.client.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES
from tiphys.client.types import MERGE_PATCH, Client, Object, Resource
from tiphys.controllers import manager
from tiphys.controllers.volume_matching import FreeVolumes, best_match, misfit
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import MANAGER, Cluster, background
from volume_world import CONTROLLERS, NS, claim, storage_class, volume

STEPS = 150
MODES = (("ReadWriteOnce",), ("ReadWriteOnce", "ReadOnlyMany"), ("ReadWriteMany",))
CLASSES = ("", "", "fast", "late")
SIZES = ("1Gi", "2Gi", "3Gi")


class Witness:
    """Sees every version of claims and volumes, in order."""

    def __init__(self, cluster: Cluster) -> None:
        self._client = cluster.client
        self._owner: dict[str, str] = {}
        """The claim (uid) for which each volume (uid) holds data, until somebody takes the reference away."""
        self._home: dict[str, str] = {}
        """The volume of each claim (uid) that is bound."""
        self.bound = 0

    async def claims(self) -> None:
        async for event in self._client.watch(PERSISTENT_VOLUME_CLAIMS):
            if event.type in ("ADDED", "MODIFIED"):
                self._claim(event.object)

    async def volumes(self) -> None:
        async for event in self._client.watch(PERSISTENT_VOLUMES):
            if event.type in ("ADDED", "MODIFIED"):
                self._volume(event.object)

    def _claim(self, obj: Object) -> None:
        uid, named = obj["metadata"]["uid"], obj["spec"].get("volumeName")
        if named:
            self.bound += uid not in self._home
            assert self._home.setdefault(uid, named) == named, "a claim has moved to another volume"

    def _volume(self, obj: Object) -> None:
        uid, ref = obj["metadata"]["uid"], obj["spec"].get("claimRef") or {}
        if not ref.get("uid"):
            self._owner.pop(uid, None)
        else:
            assert self._owner.setdefault(uid, ref["uid"]) == ref["uid"], "a volume has gone from claim to claim"


class Faulty:
    """A client whose writes fail now and then: before they happen, or after."""

    def __init__(self, client: Client, chance: random.Random) -> None:
        self._client = client
        self._chance = chance

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def update(self, resource: Resource, obj: Object, namespace: str = "", **more: Any) -> Object:
        fate = self._chance.random()
        if fate < 0.05:
            raise Conflict("by chance")
        if fate < 0.08:
            raise ConnectionError("by chance, before")
        answer = await self._client.update(resource, obj, namespace, **more)
        if fate < 0.11:
            raise ConnectionError("by chance, after")
        return answer


class Managers:
    """The controllers' process, which may die at any time, and for a while may run twice."""

    def __init__(self, cluster: Cluster, chance: random.Random) -> None:
        self._cluster = cluster
        self._chance = chance
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        await self._stack.enter_async_context(background(self._run))

    async def restart(self) -> None:
        await self._stack.aclose()
        await self.start()

    async def stop(self) -> None:
        await self._stack.aclose()

    @asynccontextmanager
    async def doubled(self) -> AsyncIterator[None]:
        async with background(self._run):
            yield

    async def _run(self) -> None:
        cluster = self._cluster
        config = manager.ManagerConfig(connect=lambda user: Faulty(cluster.connect(user), self._chance))
        await manager.run(cluster.connect(MANAGER), cluster.clock, CONTROLLERS, config)


class Chaos:
    """What users do, by a seed."""

    def __init__(self, cluster: Cluster, managers: Managers, chance: random.Random) -> None:
        self._cluster = cluster
        self._client = cluster.client
        self._managers = managers
        self._chance = chance
        self._number = 0

    async def step(self) -> None:
        act = self._chance.choice([
            self._new_claim, self._new_claim, self._new_volume, self._new_volume, self._new_pair, self._delete_claim,
            self._delete_volume, self._free_volume, self._take_over, self._meddle, self._choose, self._restart,
            self._twice, self.burst,
        ])  # fmt: skip
        with suppress(ApiError):  # what it aimed at had changed
            await act()
        await self._cluster.clock.sleep(self._chance.choice([0, 0, 0.002, 0.01, 0.1, 1, 20]))

    async def all(self, resource: Resource) -> list[Object]:
        return list((await self._client.list(resource)).items)

    async def _any(self, resource: Resource) -> Object:
        found = await self.all(resource)
        return self._chance.choice(found) if found else {"metadata": {"name": "none"}, "spec": {}}

    def _name(self) -> str:
        self._number += 1
        return self._chance.choice([f"n{self._number}", "same"])

    def _shape(self) -> dict[str, Any]:
        return {"size": self._chance.choice(SIZES), "storageClassName": self._chance.choice(CLASSES)}

    async def _new_claim(self) -> None:
        body = claim(self._name(), modes=self._chance.choice(MODES), **self._shape())
        await self._client.create(PERSISTENT_VOLUME_CLAIMS, body)

    async def _new_volume(self) -> None:
        policy = self._chance.choice(["Retain", "Delete"])
        shape = self._shape()
        body = volume(self._name(), modes=self._chance.choice(MODES), persistentVolumeReclaimPolicy=policy, **shape)
        await self._client.create(PERSISTENT_VOLUMES, body)

    async def _new_pair(self) -> None:
        """A volume that is kept for a claim, or a claim that names a volume."""
        name, other = self._name(), (await self._any(PERSISTENT_VOLUMES))["metadata"]["name"]
        if self._chance.random() < 0.5:
            await self._client.create(PERSISTENT_VOLUMES, volume(name, claimRef={"namespace": NS, "name": name}))
            await self._client.create(PERSISTENT_VOLUME_CLAIMS, claim(name))
        else:
            await self._client.create(PERSISTENT_VOLUME_CLAIMS, claim(name, volumeName=other))

    async def _delete_claim(self) -> None:
        victim = await self._any(PERSISTENT_VOLUME_CLAIMS)
        await self._client.delete(PERSISTENT_VOLUME_CLAIMS, victim["metadata"]["name"], NS)

    async def _delete_volume(self) -> None:
        victim = (await self._any(PERSISTENT_VOLUMES))["metadata"]["name"]
        await self._client.delete(PERSISTENT_VOLUMES, victim)
        if self._chance.random() < 0.3:
            await self._patch(victim, {"metadata": {"finalizers": None}})

    async def _free_volume(self) -> None:
        """What an administrator does with a volume that was released."""
        for each in await self.all(PERSISTENT_VOLUMES):
            if (each.get("status") or {}).get("phase") in ("Released", "Failed"):
                await self._patch(each["metadata"]["name"], {"spec": {"claimRef": None}})

    async def _take_over(self) -> None:
        """Another binder gives a free volume to a claim that waits."""
        free = [each for each in await self.all(PERSISTENT_VOLUMES) if not each["spec"].get("claimRef")]
        waiting = [each for each in await self.all(PERSISTENT_VOLUME_CLAIMS) if not each["spec"].get("volumeName")]
        if free and waiting:
            one, two = self._chance.choice(free), self._chance.choice(waiting)
            ref = {"namespace": NS, "name": two["metadata"]["name"], "uid": two["metadata"]["uid"]}
            meta = {**one["metadata"], "annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}}
            await self._client.update(
                PERSISTENT_VOLUMES, {**one, "metadata": meta, "spec": {**one["spec"], "claimRef": ref}}
            )

    async def _meddle(self) -> None:
        one = await self._any(PERSISTENT_VOLUMES)
        await self._patch(one["metadata"]["name"], {"metadata": {"labels": {"touched": str(self._number)}}})

    async def _choose(self) -> None:
        """A scheduler chooses a node for a claim that waits."""
        one = (await self._any(PERSISTENT_VOLUME_CLAIMS))["metadata"]["name"]
        patch = {"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "node"}}}
        await self._client.patch(PERSISTENT_VOLUME_CLAIMS, one, patch, NS, type=MERGE_PATCH)

    async def _restart(self) -> None:
        await self._managers.restart()

    async def _twice(self) -> None:
        async with self._managers.doubled():
            for act in (self._new_claim, self._new_volume):
                with suppress(ApiError):
                    await act()
            await self._cluster.clock.sleep(0.05)

    async def burst(self) -> None:
        """Many claims that wait, and then as many volumes, or the other way round."""
        numbers = range(self._number, self._number + 8)
        self._number += 8
        both = [[claim(f"many{n}") for n in numbers], [volume(f"many{n}") for n in numbers]]
        self._chance.shuffle(both)
        for each in (*both[0], *both[1]):
            resource = PERSISTENT_VOLUMES if each["kind"] == "PersistentVolume" else PERSISTENT_VOLUME_CLAIMS
            await self._client.create(resource, each)

    async def _patch(self, name: str, patch: Mapping[str, Any]) -> None:
        await self._client.patch(PERSISTENT_VOLUMES, name, patch, type=MERGE_PATCH)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_nothing_is_bound_twice_and_what_fits_is_bound(seed: int) -> None:
    clock = VirtualClock()
    chance = random.Random(seed)

    async def scenario() -> None:
        async with Cluster(clock, nodes=0, controllers="") as cluster:
            witness, managers = Witness(cluster), Managers(cluster, chance)
            async with background(witness.claims), background(witness.volumes):
                await managers.start()
                await cluster.client.create(STORAGE_CLASSES, storage_class("fast"))
                await cluster.client.create(STORAGE_CLASSES, storage_class("late", mode="WaitForFirstConsumer"))
                chaos = Chaos(cluster, managers, chance)
                for _ in range(STEPS):
                    await chaos.step()
                for _ in range(3):
                    await chaos.burst()
                await clock.sleep(3000)
                await at_rest(cluster, chaos)
                assert witness.bound > STEPS / 40
                await managers.stop()

    try:
        clock.run(scenario())
    finally:
        clock.close()


async def at_rest(cluster: Cluster, chaos: Chaos) -> None:
    claims, volumes = await chaos.all(PERSISTENT_VOLUME_CLAIMS), await chaos.all(PERSISTENT_VOLUMES)
    by_name = {each["metadata"]["name"]: each for each in volumes}
    for each in claims:
        check_claim(each, by_name)
    held = [each["spec"]["volumeName"] for each in claims if each["status"]["phase"] == "Bound"]
    assert len(held) == len(set(held)), "two claims are bound to one volume"
    for each in volumes:
        check_volume(each, claims)
    await cluster.clock.sleep(1500)
    assert claims == await chaos.all(PERSISTENT_VOLUME_CLAIMS), "it writes though at rest"
    assert volumes == await chaos.all(PERSISTENT_VOLUMES), "it writes though at rest"


def check_claim(obj: Object, volumes: Mapping[str, Object]) -> None:
    named, phase = volumes.get(obj["spec"].get("volumeName") or ""), obj["status"]["phase"]
    if phase == "Bound":
        assert named is not None, "bound to nothing"
        assert named["spec"]["claimRef"]["uid"] == obj["metadata"]["uid"]
        assert named["status"]["phase"] == "Bound"
        assert obj["status"]["capacity"]
    elif phase == "Pending" and not obj["spec"].get("volumeName"):
        free = [each for each in volumes.values() if not each["spec"].get("claimRef")]
        late = obj["spec"].get("storageClassName") == "late"
        assert best_match(obj, (), FreeVolumes(() if late else free)) is None, (
            "it waits though there is a volume for it"
        )
    elif phase == "Pending":
        mine = named is not None and not named["spec"].get("claimRef") and misfit(named, obj) is None
        assert not mine, "it waits though its volume is free"
    elif phase == "Lost":
        assert named is None or (named["spec"].get("claimRef") or {}).get("uid") != obj["metadata"]["uid"]


def check_volume(obj: Object, claims: list[Object]) -> None:
    ref, phase = obj["spec"].get("claimRef") or {}, obj["status"]["phase"]
    if obj["metadata"].get("deletionTimestamp"):
        assert phase == "Bound", "a volume that nobody uses is not deleted"
    if not ref.get("uid"):
        assert phase == "Available"
        return
    owner = next((each for each in claims if each["metadata"]["uid"] == ref["uid"]), None)
    if owner is None:
        assert phase in ("Released", "Failed")
    elif owner["spec"].get("volumeName") == obj["metadata"]["name"]:
        assert phase == "Bound"
    else:
        assert best_match(owner, (obj,), FreeVolumes()) is None, "it was given to a claim that does not take it"
