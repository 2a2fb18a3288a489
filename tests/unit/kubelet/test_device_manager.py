"""The device manager with a plugin that speaks real gRPC over a real socket."""

from __future__ import annotations

import asyncio
import copy
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from device_plugin import FakePlugin, ManualClock
from tiphys.base.grpc.client import Channel
from tiphys.base.grpc.types import Code, RpcError
from tiphys.base.metrics import Registry
from tiphys.kubelet.devices.grants import ANNOTATIONS
from tiphys.kubelet.devices.manager import DeviceManager, is_extended
from tiphys.kubelet.devices.pool import AllocationError
from tiphys.kubelet.podresources import protocol
from tiphys.kubelet.podresources.limit import TokenBucket
from tiphys.kubelet.podresources.server import NoExclusive, PodResources
from tiphys.runtime.types import ContainerSpec, Device, Mount

GPU = "example.com/gpu"


class Node:
    """A manager of `root`, what it told, and the pods that it takes for active."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = ManualClock()
        self.active: set[str] = set()
        self.told: list[set[str]] = []
        self.manager = DeviceManager(root, self.clock, lambda: self.active, self.told.append)
        self.directory = root / "device-plugins"

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not done():
                await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0.002)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.manager.run())
            await self.until((self.directory / "kubelet.sock").exists)
            try:
                yield
            finally:
                task.cancel()

    @asynccontextmanager
    async def plugin(self, **ids: tuple[int, ...]) -> AsyncIterator[FakePlugin]:
        made = FakePlugin(self.directory, GPU, ids)
        async with made.serving():
            await made.register()
            await self.until(lambda: self.manager.capacity().get(GPU) == (len(ids), len(ids)))
            yield made


def pod(uid: str, *counts: int, inits: tuple[int, ...] = (), sidecars: tuple[int, ...] = ()) -> dict[str, Any]:
    def container(name: str, count: int) -> dict[str, Any]:
        return {"name": name, "resources": {"limits": {GPU: str(count), "cpu": "1"}}}

    first = [container(f"init{at}", count) for at, count in enumerate(inits)]
    first += [{**container(f"side{at}", count), "restartPolicy": "Always"} for at, count in enumerate(sidecars)]
    main = [container(f"c{at}", count) for at, count in enumerate(counts)]
    meta = {"name": uid, "namespace": "default", "uid": uid}
    return {"metadata": meta, "spec": {"initContainers": first, "containers": main}}


def run(root: Path, work: Callable[[Node], Awaitable[None]]) -> None:
    async def main() -> None:
        node = Node(root)
        async with node.running():
            await work(node)

    asyncio.run(main())


def held(node: Node, uid: str, container: str) -> list[str]:
    return [id for one in node.manager.ledger.of(uid, container).values() for id in one.devices]


def test_a_container_gets_what_the_plugin_answers(tmp_path: Path) -> None:
    async def work(node: Node) -> None:
        async with node.plugin(a=(), b=()):
            asking = pod("p", 2)
            node.active.add("p")
            await node.manager.allocate(asking)
            grants = await node.manager.grants(asking, asking["spec"]["containers"][0])
            assert grants.env == {"DEVICES": "a,b", "MODE": "plugin"}
            spec = grants.apply(ContainerSpec("i", "s", "sha256:0", ("x",)))
            assert spec.devices == (Device("/dev/null", "/dev/fake0", "rw"),)
            assert spec.mounts == (Mount("/opt/lib", "/usr/lib", readonly=True),)
            assert spec.labels[ANNOTATIONS] == '{"vendor.example/ids": "a,b"}'

    run(tmp_path, work)


def test_registration_is_refused_in_upstreams_words(tmp_path: Path) -> None:
    async def work(node: Node) -> None:
        plugin = FakePlugin(node.directory, GPU, {})
        for other, text in (
            (
                {"version": "v1alpha1"},
                'version "v1alpha1" is not supported by kubelet. Supported version is ["v1beta1"]',
            ),
            ({"resource_name": "cpu"}, 'the ResourceName "cpu" is invalid'),
            ({}, "failed to get device plugin options"),
        ):
            with pytest.raises(RpcError) as caught:
                await plugin.register(**other)
            assert text in caught.value.message
        assert node.manager.capacity() == {}

    run(tmp_path, work)


def test_extended_names_are_told_from_others() -> None:
    good = ("example.com/gpu", "a/b", "vendor.io/x_y.z")
    bad = ("cpu", "kubernetes.io/x", "x.kubernetes.io/y", "requests.a/b", "a/b/c", "-a/b", "a/-b")
    assert [name for name in (*good, *bad) if is_extended(name)] == list(good)


def test_unhealthy_devices_count_in_the_capacity_only_and_their_pods_are_told(tmp_path: Path) -> None:
    async def work(node: Node) -> None:
        async with node.plugin(a=(), b=()) as plugin:
            node.active.add("p")
            await node.manager.allocate(pod("p", 1))
            node.told.clear()
            plugin.set_health("a", False)
            await node.until(lambda: node.manager.capacity()[GPU] == (2, 1))
            assert {"p"} in node.told
            expected = [{"name": GPU, "resources": [{"resourceID": "a", "health": "Unhealthy"}]}]
            assert node.manager.health("p") == {"c0": expected}

    run(tmp_path, work)


def test_a_resource_outlives_its_plugin_by_five_minutes(tmp_path: Path) -> None:
    async def work(node: Node) -> None:
        async with node.plugin(a=(), b=()):
            pass
        await node.until(lambda: node.manager.capacity()[GPU] == (2, 0))
        with pytest.raises(AllocationError, match="no healthy devices present; cannot allocate unhealthy devices"):
            await node.manager.allocate(pod("p", 1))
        await node.clock.advance(299)
        assert node.manager.capacity()[GPU] == (2, 0)
        await node.clock.advance(2)
        assert node.manager.capacity()[GPU] == (0, 0)
        assert not node.manager.wants(pod("p", 1))
        async with node.plugin(a=()):
            assert node.manager.capacity()[GPU] == (1, 1)

    run(tmp_path, work)


def test_a_plugin_that_comes_back_in_time_takes_over(tmp_path: Path) -> None:
    async def work(node: Node) -> None:
        async with node.plugin(a=(), b=()):
            node.active.add("p")
            await node.manager.allocate(pod("p", 1))
        async with node.plugin(a=(), b=()):
            await node.clock.advance(400)
            assert node.manager.capacity()[GPU] == (2, 2)
            node.active.add("q")
            await node.manager.allocate(pod("q", 1))
            assert held(node, "q", "c0") == ["b"]

    run(tmp_path, work)


def test_init_containers_pass_their_devices_on_and_sidecars_keep_theirs(tmp_path: Path) -> None:
    async def work(node: Node) -> None:
        async with node.plugin(a=(), b=(), c=()):
            node.active.add("p")
            await node.manager.allocate(pod("p", 1, 1, inits=(2,), sidecars=(1,)))
            first, side = set(held(node, "p", "init0")), set(held(node, "p", "side0"))
            mains = set(held(node, "p", "c0") + held(node, "p", "c1"))
            assert len(first) == 2
            assert side < first
            assert len(mains) == 2
            assert not side & mains

    run(tmp_path, work)


def test_a_plugin_prefers_and_prepares(tmp_path: Path) -> None:
    async def work(node: Node) -> None:
        async with node.plugin(a=(), b=(), c=()) as plugin:
            plugin.options = {"pre_start_required": True, "get_preferred_allocation_available": True}
            plugin.preferred = ["c"]
            await plugin.register()
            node.active.add("p")
            asking = pod("p", 1)
            await node.manager.allocate(asking)
            assert held(node, "p", "c0") == ["c"]
            await node.manager.grants(asking, asking["spec"]["containers"][0])
            request = plugin.calls[0][1]
            assert (request["available_deviceIDs"], request["allocation_size"]) == (["a", "b", "c"], 1)
            assert plugin.calls[1:] == [("Allocate", ["c"]), ("PreStartContainer", ["c"])]

    run(tmp_path, work)


def test_a_refused_allocation_holds_nothing(tmp_path: Path) -> None:
    async def work(node: Node) -> None:
        async with node.plugin(a=()) as plugin:
            plugin.refuse = "out of luck"
            node.active.add("p")
            with pytest.raises(AllocationError, match="rpc error: code = Unknown desc = out of luck"):
                await node.manager.allocate(pod("p", 1))
            plugin.refuse = ""
            node.active.add("q")
            await node.manager.allocate(pod("q", 1))

    run(tmp_path, work)


def test_devices_of_pods_that_have_ended_are_free(tmp_path: Path) -> None:
    async def work(node: Node) -> None:
        async with node.plugin(a=()):
            node.active = {"p"}
            await node.manager.allocate(pod("p", 1))
            with pytest.raises(AllocationError, match="Requested: 1, Available: 0"):
                await node.manager.allocate(pod("q", 1))
            node.active = {"q"}
            await node.manager.allocate(pod("q", 1))
            assert node.manager.ledger.pods() == ["q"]

    run(tmp_path, work)


def test_a_new_kubelet_knows_what_is_held_and_has_plugins_register_again(tmp_path: Path) -> None:
    async def first(node: Node) -> None:
        async with node.plugin(a=(), b=()):
            node.active.add("p")
            await node.manager.allocate(pod("p", 1))
            (node.directory / "stale").write_text("no socket")
            shutil.copy2(node.directory / "stale", node.directory / "other")

    async def second(node: Node) -> None:
        assert sorted(path.name for path in node.directory.iterdir() if path.is_socket()) == ["kubelet.sock"]
        assert node.manager.capacity() == {GPU: (0, 0)}
        node.active.add("p")
        assert node.manager.allocated() == {GPU: 1}
        asking = pod("p", 1)
        grants = await node.manager.grants(asking, asking["spec"]["containers"][0])
        assert grants.env["DEVICES"] == "a"
        with pytest.raises(AllocationError, match="no healthy devices present"):
            await node.manager.allocate(copy.deepcopy(asking))
        async with node.plugin(a=(), b=()):
            node.active.add("q")
            await node.manager.allocate(pod("q", 1))
            assert held(node, "q", "c0") == ["b"]

    run(tmp_path, first)
    run(tmp_path, second)


def test_a_ledger_that_is_garbage_is_passed_over(tmp_path: Path) -> None:
    for name, text in (("a", "{"), ("b", "[]"), ("c", '{"x": {"y": {}}}')):
        (tmp_path / "pods" / name).mkdir(parents=True)
        (tmp_path / "pods" / name / "devices.json").write_text(text)
    assert Node(tmp_path).manager.ledger.pods() == []


def test_the_pod_resources_api_tells_who_has_what(tmp_path: Path) -> None:
    class Cores(NoExclusive):
        def cpus(self, uid: str, container: str) -> tuple[int, ...]:
            return (2, 3)

        def memory(self, uid: str, container: str) -> tuple[tuple[str, int, tuple[int, ...]], ...]:
            return (("memory", 2**30, (0,)),)

    async def work(node: Node) -> None:
        asking = pod("p", 1)
        server = PodResources(tmp_path, node.clock, node.manager, lambda: [asking], lambda *_: [], Cores(), Registry())
        async with node.plugin(a=(0, 1), b=()), asyncio.TaskGroup() as group:
            task = group.create_task(server.run())
            path = tmp_path / "pod-resources" / "kubelet.sock"
            await node.until(path.exists)
            node.active.add("p")
            await node.manager.allocate(asking)
            channel = Channel(str(path))
            [listed] = (await channel.call(protocol.LIST, {}))["pod_resources"]
            assert listed["containers"][0]["cpu_ids"] == [2, 3]
            assert listed["containers"][0]["memory"][0]["size"] == 2**30
            entries = listed["containers"][0]["devices"]
            assert [(one["device_ids"], one["topology"]["nodes"][0]["ID"]) for one in entries] == [
                (["a"], 0),
                (["a"], 1),
            ]
            request = {"pod_name": "p", "pod_namespace": "default"}
            assert (await channel.call(protocol.GET, request))["pod_resources"] == listed
            with pytest.raises(RpcError, match="pod q in namespace default not found"):
                await channel.call(protocol.GET, {**request, "pod_name": "q"})
            found = await channel.call(protocol.ALLOCATABLE, {})
            assert [one["device_ids"] for one in found["devices"]] == [["a"], ["a"], ["b"]]
            old = (await channel.call(protocol.LIST_ALPHA, {}))["pod_resources"][0]
            assert old["containers"][0]["devices"][0] == {"resource_name": GPU, "device_ids": ["a"]}
            with pytest.raises(RpcError, match="rejected by rate limit") as caught:
                await asyncio.gather(*(channel.call(protocol.LIST, {}) for _ in range(12)))
            assert caught.value.code is Code.RESOURCE_EXHAUSTED
            channel.close()
            task.cancel()

    run(tmp_path, work)


def test_a_bucket_fills_with_time() -> None:
    bucket = TokenBucket(10, 2)
    assert [bucket.allow(0), bucket.allow(0), bucket.allow(0)] == [True, True, False]
    assert [bucket.allow(0.05), bucket.allow(0.1), bucket.allow(0.15)] == [False, True, False]
