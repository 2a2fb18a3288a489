"""Claims on the node, with a driver that speaks real gRPC over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from device_plugin import ManualClock
from dra_driver import FakeDriver
from tiphys.base.errors import NotFound
from tiphys.base.metrics import Registry
from tiphys.client.types import Client, Listing
from tiphys.kubelet.dra.claims import ClaimError
from tiphys.kubelet.dra.drivers import choose
from tiphys.kubelet.dra.manager import ClaimManager
from tiphys.kubelet.plugins.watcher import PluginWatcher

GPU = "gpu.example.com"


class Api:
    """ResourceClaims and ResourceSlices in dicts."""

    def __init__(self) -> None:
        self.claims: dict[str, Any] = {}
        self.slices: dict[str, Any] = {}

    async def get(self, resource: Any, name: str, namespace: str = "") -> Any:
        try:
            return self.claims[name]
        except KeyError:
            raise NotFound(f'resourceclaims.resource.k8s.io "{name}" not found') from None

    async def list(self, resource: Any, namespace: str = "", *, fields: str = "") -> Listing:
        assert fields == f"spec.driver={GPU},spec.nodeName=n"
        return Listing(tuple(self.slices.values()), "1")

    async def delete(self, resource: Any, name: str) -> None:
        del self.slices[name]


class Node:
    def __init__(self, root: Path) -> None:
        self.root, self.clock, self.api = root, ManualClock(), Api()
        self.told: list[set[str]] = []
        self.manager = ClaimManager(root, "n", cast(Client, self.api), self.clock, self.told.append, Registry())
        handlers = {"DRAPlugin": self.manager.drivers}
        self.watcher = PluginWatcher(root / "plugins_registry", self.clock, handlers)

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not done():
                await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0.002)

    async def registered(self) -> None:
        await self.until(lambda: self.manager.drivers.has(GPU))


def run(root: Path, work: Callable[[Node], Awaitable[None]]) -> None:
    async def main() -> None:
        node = Node(root)
        async with asyncio.TaskGroup() as group:
            node.manager.start(group)
            task = group.create_task(node.watcher.run())
            await node.until((root / "plugins_registry").exists)
            await work(node)
            task.cancel()
            node.manager.drivers.close()

    asyncio.run(asyncio.wait_for(main(), 20))


def claim(name: str, *pods: str, driver: str = GPU, owner: str = "") -> dict[str, Any]:
    meta: dict[str, Any] = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    if owner:
        meta["ownerReferences"] = [{"uid": owner, "controller": True}]
    results = [{"driver": driver, "pool": "p", "device": "d", "request": "r"}]
    status = {"reservedFor": [{"uid": uid} for uid in pods], "allocation": {"devices": {"results": results}}}
    return {"metadata": meta, "status": status}


def pod(uid: str, *claims: str, request: str = "") -> dict[str, Any]:
    asked = [{"name": name, **({"request": request} if request else {})} for name in claims]
    return {
        "metadata": {"name": uid, "namespace": "default", "uid": uid},
        "spec": {
            "resourceClaims": [{"name": name, "resourceClaimName": name} for name in claims],
            "containers": [{"name": "c", "resources": {"claims": asked}}],
        },
    }


def device(name: str, *requests: str) -> dict[str, Any]:
    cdi = f"example.com/gpu={name}"
    return {"request_names": list(requests), "pool_name": "p", "device_name": name, "cdi_device_ids": [cdi]}


def container(pod: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pod["spec"]["containers"][0]
    return found


def test_a_claim_is_prepared_and_undone_and_its_devices_reach_the_container(tmp_path: Path) -> None:
    async def work(node: Node) -> None:
        driver = FakeDriver(tmp_path)
        driver.answers["a"] = [device("one", "r"), device("two", "other")]
        node.api.claims["a"] = claim("a", "p")
        async with driver.serving():
            await node.registered()
            await node.until(lambda: driver.statuses == [(True, "")])
            asking = pod("p", "a")
            await node.manager.prepare(asking)
            await node.manager.prepare(asking)
            assert node.manager.cdi_devices(asking, container(asking)) == ["example.com/gpu=one", "example.com/gpu=two"]
            only = pod("p", "a", request="r/sub")
            assert node.manager.cdi_devices(only, container(only)) == ["example.com/gpu=one"]
            [told] = node.manager.messages(asking, container(asking))
            assert told["claim_name"] == "a"
            assert told["claim_resources"][0]["cdi_devices"] == [{"name": "example.com/gpu=one"}]
            await node.manager.unprepare("p")
            await node.manager.unprepare("p")
            assert driver.calls == [("prepare", ["a"]), ("unprepare", ["a"])]
            assert not list((tmp_path / "dra").iterdir())

    run(tmp_path, work)


def test_a_shared_claim_is_undone_with_its_last_pod(tmp_path: Path) -> None:
    async def work(node: Node) -> None:
        driver = FakeDriver(tmp_path)
        node.api.claims["a"] = claim("a", "p", "q")
        async with driver.serving():
            await node.registered()
            await node.manager.prepare(pod("p", "a"))
            await node.manager.prepare(pod("q", "a"))
            await node.manager.unprepare("p")
            assert [kind for kind, _ in driver.calls] == ["prepare"]
            await node.manager.unprepare("q")
            assert [kind for kind, _ in driver.calls] == ["prepare", "unprepare"]

    run(tmp_path, work)


def test_what_stands_in_the_way_is_said_in_upstreams_words(tmp_path: Path) -> None:
    async def work(node: Node) -> None:
        node.api.claims |= {
            "foreign": claim("foreign", "q"),
            "free": {**claim("free"), "status": {"reservedFor": [{"uid": "p"}]}},
            "ok": claim("ok", "p"),
            "made": claim("made", "p", owner="somebody"),
        }
        waiting = pod("p")
        waiting["spec"]["resourceClaims"] = [{"name": "x", "resourceClaimTemplateName": "t"}]
        made = {**waiting, "status": {"resourceClaimStatuses": [{"name": "x", "resourceClaimName": "made"}]}}
        for asking, text in (
            (pod("p", "none"), 'fetch ResourceClaim none: resourceclaims.resource.k8s.io "none" not found'),
            (pod("p", "foreign"), r"pod p \(p\) is not allowed to use ResourceClaim foreign \(uid-foreign\)"),
            (pod("p", "free"), "ResourceClaim free: not allocated"),
            (pod("p", "ok"), f"DRA driver {GPU} is not registered"),
            (waiting, 'pod "default/p": ResourceClaim not created yet'),
            (made, "ResourceClaim default/made was not created for pod default/p"),
        ):
            with pytest.raises(ClaimError, match=f"prepare dynamic resources: {text}"):
                await node.manager.prepare(asking)

    run(tmp_path, work)


def test_a_driver_that_refuses_is_asked_again(tmp_path: Path) -> None:
    async def work(node: Node) -> None:
        driver = FakeDriver(tmp_path)
        driver.refuse = "no power"
        node.api.claims["a"] = claim("a", "p")
        async with driver.serving():
            await node.registered()
            with pytest.raises(ClaimError, match="NodePrepareResources failed for ResourceClaim a: no power"):
                await node.manager.prepare(pod("p", "a"))
            with pytest.raises(ClaimError, match="NodeUnprepareResources failed for ResourceClaim a: no power"):
                await node.manager.unprepare("p")
            driver.refuse = ""
            await node.manager.prepare(pod("p", "a"))

    run(tmp_path, work)


def test_a_new_kubelet_knows_its_claims_and_a_new_claim_of_the_same_name_waits(tmp_path: Path) -> None:
    driver = FakeDriver(tmp_path)
    driver.answers["a"] = [device("one")]

    async def first(node: Node) -> None:
        node.api.claims["a"] = claim("a", "p")
        async with driver.serving():
            await node.registered()
            await node.manager.prepare(pod("p", "a"))

    async def second(node: Node) -> None:
        asking = pod("p", "a")
        assert node.manager.cdi_devices(asking, container(asking)) == ["example.com/gpu=one"]
        assert node.manager.ledger.pods() == {"p"}
        with pytest.raises(ClaimError, match=f"DRA driver {GPU} is not registered"):
            await node.manager.unprepare("p")
        node.api.claims["a"] = claim("a", "q")
        node.api.claims["a"]["metadata"]["uid"] = "uid-another"
        async with driver.serving():
            await node.registered()
            with pytest.raises(ClaimError, match="same name a and different UID uid-a still exists"):
                await node.manager.prepare(pod("q", "a"))
            await node.manager.unprepare("p")
            await node.manager.prepare(pod("q", "a"))

    run(tmp_path, first)
    run(tmp_path, second)


def test_health_of_devices_is_shown_and_forgotten_when_it_is_old(tmp_path: Path) -> None:
    async def work(node: Node) -> None:
        driver = FakeDriver(tmp_path)
        driver.answers["a"] = [device("one")]
        node.api.claims["a"] = claim("a", "p")
        asking = pod("p", "a")
        async with driver.serving():
            await node.registered()
            await node.manager.prepare(asking)
            seen = {"device": {"pool_name": "p", "device_name": "one"}, "health": 2, "message": "too hot"}
            driver.health.put_nowait([seen])
            await node.until(lambda: {"p"} in node.told)
            entry = {"resourceID": "example.com/gpu=one", "health": "Unhealthy", "message": "too hot"}
            assert node.manager.health(asking, container(asking)) == [{"name": "claim:a", "resources": [entry]}]
            await node.clock.advance(31)
            [status] = node.manager.health(asking, container(asking))
            assert status["resources"] == [{"resourceID": "example.com/gpu=one", "health": "Unknown"}]

    run(tmp_path, work)


def test_slices_of_a_driver_that_is_gone_are_removed_after_a_while(tmp_path: Path) -> None:
    async def work(node: Node) -> None:
        node.api.slices["s"] = {"metadata": {"name": "s"}}
        async with FakeDriver(tmp_path).serving():
            await node.registered()
        await node.until(lambda: not node.manager.drivers.has(GPU))
        await node.clock.advance(29)
        assert node.api.slices
        await node.clock.advance(2)
        await node.until(lambda: not node.api.slices)

    run(tmp_path, work)


def test_plugins_that_cannot_be_used_are_told_why(tmp_path: Path) -> None:
    async def work(node: Node) -> None:
        stranger = FakeDriver(tmp_path, "x.example.com", kind="Toaster")
        old = FakeDriver(tmp_path, "y.example.com")
        old.versions = ["v1alpha4.Node"]
        async with stranger.serving(), old.serving():
            await node.until(lambda: bool(stranger.statuses and old.statuses))
        where = f"at socket {stranger.registration}"
        assert stranger.statuses == [
            (False, f"RegisterPlugin error -- no handler registered for plugin type: Toaster {where}")
        ]
        assert 'none of services supported by the plugin (["v1alpha4.Node"])' in old.statuses[0][1]

    run(tmp_path, work)


def test_a_driver_may_speak_the_version_before() -> None:
    assert choose(["v1beta1.DRAPlugin"]) == "v1beta1.DRAPlugin"
    with pytest.raises(ClaimError, match="empty list"):
        choose([])


def test_v1beta1_is_spoken_with_who_knows_no_better(tmp_path: Path) -> None:
    async def work(node: Node) -> None:
        driver = FakeDriver(tmp_path)
        driver.versions = ["v1beta1.DRAPlugin"]
        node.api.claims["a"] = claim("a", "p")
        async with driver.serving():
            await node.registered()
            await node.manager.prepare(pod("p", "a"))
            assert driver.calls == [("prepare", ["a"])]

    run(tmp_path, work)
