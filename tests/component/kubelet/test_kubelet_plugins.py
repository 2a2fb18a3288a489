"""A whole kubelet with plugins on real sockets: devices and claims from admission to the pod's end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from device_plugin import FakePlugin
from dra_driver import FakeDriver
from tiphys.base.grpc.server import UnixServer
from tiphys.client.types import Resource
from tiphys.kubelet.plugins import cdi, watcher

GPU = "example.com/gpu"
CLAIMS, NODES, PODS = (
    Resource("resource.k8s.io", "v1", "resourceclaims"),
    Resource("", "v1", "nodes"),
    Resource("", "v1", "pods"),
)


@pytest.fixture
def plugin(node: Any) -> FakePlugin:
    return FakePlugin(node.config.root_dir / "device-plugins", GPU, {"a": (), "b": ()})


def asking(pod: Any, name: str = "web", count: int = 1, **more: Any) -> Any:
    return pod(name, containers=[{"resources": {"limits": {GPU: str(count)}}}], **more)


async def registered(node: Any, plugin: FakePlugin) -> None:
    await node.until((plugin.directory / "kubelet.sock").exists)
    await plugin.register()
    await node.until(lambda: allocatable(node) == "2")


def allocatable(node: Any) -> str:
    return str(node.api.objects["nodes", "", "node-1"]["status"]["allocatable"][GPU])


def test_devices_reach_the_container_and_its_status(node: Any, pod: Any, plugin: FakePlugin) -> None:
    async def scenario() -> None:
        async with node.running(), plugin.serving():
            await registered(node, plugin)
            await node.create(asking(pod))
            await node.until(node.is_phase("Running"))
            spec = node.runtime.by_name("main").spec
            assert [(one.source, one.target) for one in spec.devices] == [("/dev/null", "/dev/fake0")]
            assert dict(spec.env)["DEVICES"] == "a"
            held = [{"name": GPU, "resources": [{"resourceID": "a", "health": "Healthy"}]}]
            await node.until(lambda: node.status(container="main")["allocatedResourcesStatus"] == held)
            plugin.set_health("a", False)
            sick = [{"name": GPU, "resources": [{"resourceID": "a", "health": "Unhealthy"}]}]
            await node.until(lambda: node.status(container="main")["allocatedResourcesStatus"] == sick)
            await node.until(lambda: allocatable(node) == "1")

    node.clock.run(scenario())


def test_a_device_plugin_may_announce_itself_in_a_directory_below_the_registry(
    node: Any, pod: Any, plugin: FakePlugin
) -> None:
    told: list[Any] = []

    async def info(request: dict[str, Any]) -> dict[str, Any]:
        endpoint = str(plugin.directory / plugin.endpoint)
        return {"type": "DevicePlugin", "name": GPU, "endpoint": endpoint, "supported_versions": ["v1beta1"]}

    async def notify(request: dict[str, Any]) -> dict[str, Any]:
        told.append(request)
        return {}

    socket = node.config.root_dir / "plugins_registry" / "below" / "gpu.sock"
    registrar = UnixServer(socket, {watcher.GET_INFO: info, watcher.NOTIFY: notify})

    async def scenario() -> None:
        async with node.running(), plugin.serving(), asyncio.TaskGroup() as group:
            announcing = group.create_task(registrar.run())
            await node.until(lambda: allocatable(node) == "2")
            assert told == [{"plugin_registered": True, "error": ""}]
            announcing.cancel()
            await node.until(lambda: allocatable(node) == "0")

    node.clock.run(scenario())


def test_a_kubelet_whose_sockets_cannot_be_made_goes_on_without_plugins(node: Any, pod: Any) -> None:
    (node.config.root_dir / "device-plugins" / "kubelet.sock" / "in the way").mkdir(parents=True)
    (node.config.root_dir / "pod-resources" / "kubelet.sock" / "too").mkdir(parents=True)
    (node.config.root_dir / "plugins_registry").write_text("in the way")

    async def scenario() -> None:
        async with node.running():
            await node.create(pod())
            await node.until(node.is_phase("Running"))

    node.clock.run(scenario())


def test_a_pod_that_cannot_have_its_devices_fails_in_upstreams_words(node: Any, pod: Any, plugin: FakePlugin) -> None:
    async def scenario() -> None:
        async with node.running(), plugin.serving():
            await registered(node, plugin)
            await node.create(asking(pod, count=3))
            await node.until(node.is_phase("Failed"))
            status = node.status()
            text = f"requested number of devices unavailable for {GPU}. Requested: 3, Available: 2"
            assert status["reason"] == "UnexpectedAdmissionError"
            assert status["message"] == f"Pod was rejected: Allocate failed due to {text}, which is unexpected"
            await node.create(asking(pod, "next", count=2))
            await node.until(node.is_phase("Running", "next"))

    node.clock.run(scenario())


def test_a_new_kubelet_leaves_devices_where_they_are(node: Any, pod: Any, plugin: FakePlugin) -> None:
    async def scenario() -> None:
        async with node.running(), plugin.serving():
            await registered(node, plugin)
            await node.create(asking(pod))
            await node.until(node.is_phase("Running"))
        before = node.runtime.by_name("main").spec.id
        async with node.running():
            await node.until(lambda: allocatable(node) == "0")
            assert node.status()["phase"] == "Running"
            assert node.runtime.by_name("main").spec.id == before
            async with plugin.serving():
                await registered(node, plugin)
                await node.create(asking(pod, "second"))
                await node.until(node.is_phase("Running", "second"))
                assert plugin.calls[-1] == ("Allocate", ["b"])

    node.clock.run(scenario())


def test_a_new_pod_takes_nothing_from_pods_that_are_not_read_yet(node: Any, pod: Any, plugin: FakePlugin) -> None:
    async def scenario() -> None:
        async with node.running(), plugin.serving():
            await registered(node, plugin)
            await node.create(asking(pod))
            await node.until(node.is_phase("Running"))
        await node.create(pod("a-new-one"))
        node.api.objects = dict(sorted(node.api.objects.items()))
        async with node.running(), plugin.serving():
            await registered(node, plugin)
            await node.until(node.is_phase("Running", "a-new-one"))
            await node.create(asking(pod, "second"))
            await node.until(node.is_phase("Running", "second"))
            assert plugin.calls[-1] == ("Allocate", ["b"])

    node.clock.run(scenario())


def test_after_a_reboot_a_pod_without_its_plugin_fails(node: Any, pod: Any, plugin: FakePlugin) -> None:
    async def scenario() -> None:
        async with node.running(), plugin.serving():
            await registered(node, plugin)
            await node.create(asking(pod))
            await node.until(node.is_phase("Running"))
        node.runtime.boxes.clear()
        node.runtime.runs.clear()
        async with node.running():
            await node.until(node.is_phase("Failed"))
            text = f"no healthy devices present; cannot allocate unhealthy devices {GPU}"
            assert text in node.status()["message"]

    node.clock.run(scenario())


def test_resources_that_an_administrator_put_on_the_node_stay(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.until(lambda: ("nodes", "", "node-1") in node.api.objects)
            status = node.api.objects["nodes", "", "node-1"]["status"]
            patch = {"capacity": {**status["capacity"], "example.com/dongle": "4"}}
            await node.api.patch(NODES, "node-1", {"status": patch}, subresource="status")
            node.kubelet.agent.node = await node.api.get(NODES, "node-1")
            await node.kubelet.agent.report(force=True)
            status = node.api.objects["nodes", "", "node-1"]["status"]
            assert (status["capacity"]["example.com/dongle"], status["allocatable"]["example.com/dongle"]) == ("4", "4")

    node.clock.run(scenario())


def test_claims_are_prepared_before_the_pod_and_undone_after_it(
    node: Any, pod: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cdi, "DIRECTORIES", (tmp_path / "cdi",))
    monkeypatch.setattr(cdi.find, "__defaults__", ((tmp_path / "cdi",),))
    (tmp_path / "cdi").mkdir()
    edits = {"env": ["GPU=yes"]}
    content = {"kind": "example.com/gpu", "devices": [{"name": "one", "containerEdits": edits}]}
    (tmp_path / "cdi" / "gpu.json").write_text(json.dumps(content))
    driver = FakeDriver(node.config.root_dir)
    entry = {"request_names": [], "pool_name": "p", "device_name": "d", "cdi_device_ids": ["example.com/gpu=one"]}
    driver.answers["a"] = [entry]
    results = [{"driver": driver.name, "pool": "p", "device": "d", "request": "r"}]
    status = {"reservedFor": [{"uid": "web-uid"}], "allocation": {"devices": {"results": results}}}
    claim = {"metadata": {"name": "a", "namespace": "default", "uid": "claim"}, "status": status}
    wanting = pod(
        resourceClaims=[{"name": "c", "resourceClaimName": "a"}],
        containers=[{"resources": {"claims": [{"name": "c"}]}}],
    )

    async def scenario() -> None:
        async with node.running():
            await node.api.create(CLAIMS, claim, "default")
            await node.create(wanting)
            await node.until(lambda: node.events("FailedPrepareDynamicResources"))
            text = f"prepare dynamic resources: DRA driver {driver.name} is not registered"
            assert node.events("FailedPrepareDynamicResources")[0] == f"Failed to prepare dynamic resources: {text}"
            async with driver.serving():
                await node.until(node.is_phase("Running"))
                assert dict(node.runtime.by_name("main").spec.env)["GPU"] == "yes"
                [shown] = node.status(container="main")["allocatedResourcesStatus"]
                assert shown["name"] == "claim:c"
                await node.api.delete(PODS, "web", "default")
                await node.until(node.gone)
                assert driver.calls == [("prepare", ["a"]), ("unprepare", ["a"])]

    node.clock.run(scenario())
