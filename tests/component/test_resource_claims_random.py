"""ResourceClaims under random treatment: writes fail, managers die; no claim is made twice, none is kept."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tiphys.base.errors import ApiError, NotFound, ServiceUnavailable
from tiphys.base.identity import User
from tiphys.client.calls import Call
from tiphys.client.local import LocalClient
from tiphys.client.resources import PODS, RESOURCE_CLAIM_TEMPLATES, RESOURCE_CLAIMS, SERVICE_ACCOUNTS
from tiphys.client.types import Client, Object
from tiphys.controllers.resource_claims import FINALIZER, POD_CLAIM
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

CONTROLLERS = "resourceclaim-controller,garbage-collector-controller"
REQUESTS = {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpus"}}]}}
STEPS = 200


class StormyCluster(Cluster):
    """Some writes of controllers fail before they reach the server."""

    rng: random.Random
    calm = False

    def connect(self, user: User) -> Client:
        return _Stormy(self, user) if "resource-claim" in user.name else super().connect(user)


class _Stormy(LocalClient):
    def __init__(self, cluster: StormyCluster, user: User) -> None:
        super().__init__(cluster.server.handler, user, agent="stormy")
        self._cluster = cluster

    async def exchange(self, call: Call) -> Any:
        if call.method != "GET" and not self._cluster.calm and self._cluster.rng.random() < 0.3:
            raise ServiceUnavailable("a storm")
        return await super().exchange(call)


class World:
    """What users, the scheduler and kubelets do."""

    def __init__(self, cluster: StormyCluster, rng: random.Random) -> None:
        self.cluster, self.rng = cluster, rng
        self._manager = AsyncExitStack()
        self._number = 0

    async def prepare(self) -> None:
        await self.cluster.wait(SERVICE_ACCOUNTS, "default", "default")
        meta = {"name": "template", "namespace": "default"}
        template = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate", "metadata": meta}
        await self.cluster.client.create(RESOURCE_CLAIM_TEMPLATES, {**template, "spec": {"spec": REQUESTS}})
        claim = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "spec": REQUESTS}
        await self.cluster.client.create(RESOURCE_CLAIMS, {**claim, "metadata": {**meta, "name": "own"}})
        await self.start()

    async def start(self) -> None:
        await self._manager.enter_async_context(self.cluster.managing(CONTROLLERS))

    async def stop(self) -> None:
        await self._manager.aclose()

    async def step(self) -> None:
        actions = [self.add] * 4 + [self.schedule] * 6 + [self.finish] * 3 + [self.remove] * 3 + [self.restart]
        try:
            await self.rng.choice([*actions, self.lose])()
        except ApiError:
            return  # somebody else was faster

    async def add(self) -> None:
        self._number += 1
        entries = [{"name": "a", "resourceClaimTemplateName": "template"}]
        if self.rng.random() < 0.5:
            entries.append({"name": "b", "resourceClaimTemplateName": "template"})
        if self.rng.random() < 0.5:
            entries.append({"name": "c", "resourceClaimName": "own"})
        claims = [{"name": each["name"]} for each in entries]
        containers = [{"name": "c", "image": "i", "resources": {"claims": claims}}]
        meta = {"name": f"pod-{self._number}", "namespace": "default"}
        spec = {"containers": containers, "resourceClaims": entries}
        await self.cluster.client.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})

    async def _pod(self) -> Object:
        pods = (await self.cluster.client.list(PODS, "default")).items
        if not pods:
            raise NotFound("no pods")
        return self.rng.choice(pods)

    async def schedule(self) -> None:
        """Allocate and reserve the claims of a pod, as the scheduler does."""
        pod = await self._pod()
        named = {each.get("resourceClaimName") for each in pod["spec"]["resourceClaims"]}
        for claim in (await self.cluster.client.list(RESOURCE_CLAIMS, "default")).items:
            owners = [each["uid"] for each in claim["metadata"].get("ownerReferences") or ()]
            if pod["metadata"]["uid"] in owners or claim["metadata"]["name"] in named:
                await self._reserve(pod, claim)

    async def _reserve(self, pod: Object, claim: Object) -> None:
        meta = {**claim["metadata"], "finalizers": [FINALIZER]}
        claim = await self.cluster.client.update(RESOURCE_CLAIMS, {**claim, "metadata": meta})
        status = claim.get("status") or {}
        result = {"request": "gpu", "driver": "gpus.example.com", "pool": "node-1", "device": "gpu-0"}
        consumer = {"resource": "pods", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
        if consumer in status.get("reservedFor", ()):
            return
        reserved = [*status.get("reservedFor", ()), consumer]
        allocated = {"allocation": {"devices": {"results": [result]}}, "reservedFor": reserved}
        await self.cluster.client.update(RESOURCE_CLAIMS, {**claim, "status": allocated}, subresource="status")

    async def finish(self) -> None:
        pod = await self._pod()
        phase = self.rng.choice(("Succeeded", "Failed"))
        ended = {**pod, "status": {**pod["status"], "phase": phase}}
        await self.cluster.client.update(PODS, ended, subresource="status")

    async def remove(self) -> None:
        await self.cluster.client.delete(PODS, (await self._pod())["metadata"]["name"], "default", grace_seconds=0)

    async def lose(self) -> None:
        """Somebody deletes a claim."""
        claims = (await self.cluster.client.list(RESOURCE_CLAIMS, "default")).items
        made = [each["metadata"]["name"] for each in claims if each["metadata"]["name"] != "own"]
        if made:
            await self.cluster.client.delete(RESOURCE_CLAIMS, self.rng.choice(made), "default")

    async def restart(self) -> None:
        await self.stop()
        await self.cluster.clock.sleep(self.rng.uniform(0, 5))
        await self.start()

    async def check(self) -> None:
        """Each pod that may run has its claims, once, and noted; nobody else has any."""
        pods = {each["metadata"]["uid"]: each for each in (await self.cluster.client.list(PODS, "default")).items}
        alive = {uid: pod for uid, pod in pods.items() if pod["status"].get("phase") not in ("Succeeded", "Failed")}
        made: dict[tuple[str, str], str] = {}
        for claim in (await self.cluster.client.list(RESOURCE_CLAIMS, "default")).items:
            meta, status = claim["metadata"], claim.get("status") or {}
            assert {each["uid"] for each in status.get("reservedFor", ())} <= set(alive)
            assert bool(status.get("allocation")) == bool(status.get("reservedFor"))
            if meta["name"] != "own":
                key = meta["ownerReferences"][0]["uid"], meta["annotations"][POD_CLAIM]
                assert key not in made
                made[key] = meta["name"]
        wanted = {
            (uid, entry["name"])
            for uid, pod in alive.items()
            for entry in pod["spec"]["resourceClaims"]
            if "resourceClaimTemplateName" in entry
        }
        assert set(made) == wanted
        for uid, pod in alive.items():
            noted = {each["name"]: each["resourceClaimName"] for each in pod["status"].get("resourceClaimStatuses", ())}
            assert noted == {entry: name for (owner, entry), name in made.items() if owner == uid}


@pytest.mark.parametrize("seed", range(5))
def test_every_pod_has_its_claims_once_and_nobody_else_any(seed: int) -> None:
    clock, rng = VirtualClock(), random.Random(seed)

    async def scenario() -> None:
        cluster = StormyCluster(clock, nodes=0, controllers="serviceaccount-controller")
        cluster.rng = rng
        async with cluster:
            world = World(cluster, rng)
            await world.prepare()
            for _ in range(STEPS):
                await world.step()
                await clock.sleep(rng.choice((0, 0.01, 0.1, 1, 5)))
            cluster.calm = True
            await clock.sleep(1200)
            await world.check()
            await world.stop()

    clock.run(scenario())
