"""Resizing pods in place: what is granted, what waits, what runs on and what is restarted, also over kill -9."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tiphys.client.types import Resource
from tiphys.kubelet.server.own_metrics import own_metrics
from tiphys.runtime.measures import Usage
from tiphys.runtime.types import Resources

PODS = Resource("", "v1", "pods")
MIB = 1 << 20


def sized(cpu: str, memory: str, cpu_limit: str = "", memory_limit: str = "") -> dict[str, Any]:
    limits = {name: value for name, value in (("cpu", cpu_limit), ("memory", memory_limit)) if value}
    return {"requests": {"cpu": cpu, "memory": memory}} | ({"limits": limits} if limits else {})


async def resize(node: Any, name: str = "web", **containers: Mapping[str, Any]) -> None:
    found = node.pod(name)
    spec = dict(found["spec"])
    for kind in ("containers", "initContainers"):
        spec[kind] = [{**one, "resources": containers.get(one["name"], one.get("resources"))} for one in spec[kind]]
    meta = {**found["metadata"], "generation": found["metadata"]["generation"] + 1}
    await node.api.update(PODS, {**found, "metadata": meta, "spec": spec})


def condition(node: Any, kind: str, name: str = "web") -> dict[str, Any]:
    return next((one for one in node.status(name)["conditions"] if one["type"] == kind), {})


def pod_cgroup(node: Any) -> Resources:
    found: Resources = next(value for path, value in node.runtime.cgroups.limits.items() if path.endswith("web-uid"))
    return found


def test_a_container_is_resized_as_it_runs(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod(containers=[{"resources": sized("100m", "64Mi", "200m", "128Mi")}]))
            await node.until(node.is_phase("Running"))
            new = sized("200m", "96Mi", "400m", "256Mi")
            await resize(node, main=new)
            await node.until(lambda: node.events("ResizeCompleted"))
            run = node.runtime.by_name("main").spec.resources
            assert (run.cpu_shares, run.cpu_quota, run.memory_limit) == (204, 40_000, 256 * MIB)
            whole = pod_cgroup(node)
            assert (whole.cpu_shares, whole.cpu_quota, whole.memory_limit) == (204, 40_000, 256 * MIB)
            await node.until(lambda: node.status(container="main")["resources"] == new)
            assert node.status(container="main")["allocatedResources"] == new["requests"]
            assert node.status()["resources"] == new
            assert node.status()["allocatedResources"] == new["requests"]
            assert node.status(container="main")["restartCount"] == 0
            assert not condition(node, "PodResizeInProgress")
            listed = {"name": "main", "resources": {"limits": new["limits"], "requests": new["requests"]}}
            told = json.dumps({"containers": [listed], "generation": 2}, separators=(",", ":"))
            assert node.events("ResizeStarted") == [f"Pod resize started: {told}"]
            assert node.events("ResizeCompleted") == [f"Pod resize completed: {told}"]

    node.clock.run(scenario())


def test_growing_comes_from_the_pod_down_and_shrinking_from_the_containers_up(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            sizes = {"resources": sized("100m", "64Mi", "100m", "64Mi")}
            await node.create(pod(containers=[{**sizes, "name": "a"}, {**sizes, "name": "b"}]))
            await node.until(node.is_phase("Running"))
            order: list[str] = []
            node.runtime.cgroups.writes.clear()
            node.runtime.log = order
            grown = sized("300m", "256Mi", "300m", "256Mi")
            await resize(node, a=sized("50m", "32Mi", "50m", "32Mi"), b=grown)
            await node.until(lambda: node.events("ResizeCompleted"))
            assert order[:4] == ["update a", "update b", "update a", "update b"], "who shrinks makes room first"
            written = [value for _, value in node.runtime.cgroups.writes]
            grows = [value.memory_limit or value.cpu_quota or value.cpu_shares for value in written]
            assert grows == [288 * MIB, 35_000, 358]

    node.clock.run(scenario())


def test_what_wants_a_restart_is_restarted_with_its_new_size(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
            main = {"resources": sized("100m", "64Mi"), "resizePolicy": policy}
            await node.create(pod(containers=[main, {"name": "other", "resources": sized("100m", "64Mi")}]))
            await node.until(node.is_phase("Running"))
            await resize(node, main=sized("200m", "64Mi"))
            await node.until(lambda: node.runtime.by_name("main").spec.resources.cpu_shares == 204)
            assert "stop main 30" not in node.runtime.log, "CPU is changed as it runs"
            await resize(node, main=sized("200m", "128Mi"))
            await node.until(lambda: node.status(container="main")["restartCount"] == 1)
            await node.until(lambda: len(node.events("ResizeCompleted")) == 2)
            assert "Container main resize requires restart" in node.events("Killing")
            assert node.status(container="main")["resources"]["requests"]["memory"] == "128Mi"
            assert node.status(container="other")["restartCount"] == 0

    node.clock.run(scenario())


def test_a_resize_without_room_waits_for_it(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod("first", containers=[{"name": "big", "resources": sized("3", "64Mi")}]))
            await node.create(pod(containers=[{"resources": sized("500m", "64Mi")}]))
            await node.until(lambda: node.is_phase("Running")() and node.is_phase("Running", "first")())
            await resize(node, main=sized("2", "64Mi"))
            await node.until(lambda: condition(node, "PodResizePending"))
            pending = condition(node, "PodResizePending")
            text = "Node didn't have enough resource: cpu, requested: 2000, used: 3000, capacity: 4000"
            assert (pending["reason"], pending["message"]) == ("Deferred", text)
            assert (pending["status"], pending["observedGeneration"]) == ("True", 2)
            [told] = node.events("ResizeDeferred")
            assert told.startswith("Pod resize OutOfcpu: {")
            assert f'"error":"{text}"' in told
            assert node.status(container="main")["allocatedResources"] == {"cpu": "500m", "memory": "64Mi"}
            assert node.runtime.by_name("main").spec.resources.cpu_shares == 512
            await resize(node, "first", big=sized("1", "64Mi"))
            await node.until(lambda: node.runtime.by_name("main").spec.resources.cpu_shares == 2048)
            await node.until(lambda: node.status()["allocatedResources"]["cpu"] == "2")
            assert not condition(node, "PodResizePending")

    node.clock.run(scenario())


def test_a_resize_that_is_taken_back_waits_no_more(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod(containers=[{"resources": sized("500m", "64Mi")}]))
            await node.until(node.is_phase("Running"))
            await resize(node, main=sized("20", "64Mi"))
            await node.until(lambda: condition(node, "PodResizePending"))
            await resize(node, main=sized("0.5", "64Mi"))
            await node.until(lambda: not condition(node, "PodResizePending"))
            assert "update main" not in node.runtime.log
            assert not node.events("ResizeStarted")

    node.clock.run(scenario())


def test_memory_is_not_limited_below_what_is_in_use(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod(containers=[{"resources": sized("100m", "64Mi", "100m", "64Mi")}]))
            await node.until(node.is_phase("Running"))
            node.runtime.used = Usage(0, 40 * MIB, 0)
            path = next(path for path in node.runtime.cgroups.limits if path.endswith("web-uid"))
            node.runtime.cgroups.usages[path] = Usage(0, 41 * MIB, 0)
            await resize(node, main=sized("100m", "32Mi", "100m", "32Mi"))
            await node.until(lambda: condition(node, "PodResizeInProgress").get("reason") == "Error")
            limits = (
                f"attempting to set pod memory limit ({32 * MIB}) below current usage ({41 * MIB}), "
                f'attempting to set container "main" memory limit ({32 * MIB}) below current usage ({41 * MIB})'
            )
            assert condition(node, "PodResizeInProgress")["message"] == f"cannot decrease memory limits: [{limits}]"
            await node.until(lambda: len(node.events("ResizeError")) == 1)
            assert node.status(container="main")["resources"]["limits"]["memory"] == "64Mi"
            node.runtime.used = Usage(0, 20 * MIB, 0)
            node.runtime.cgroups.usages[path] = Usage(0, 20 * MIB, 0)
            assert await node.until(lambda: node.events("ResizeCompleted")) <= 11
            assert node.runtime.by_name("main").spec.resources.memory_limit == 32 * MIB
            assert len(node.events("ResizeError")) == 1

    node.clock.run(scenario())


def test_a_killed_kubelet_keeps_to_what_it_granted(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod(containers=[{"resources": sized("500m", "64Mi")}]))
            await node.until(node.is_phase("Running"))
            await resize(node, main=sized("20", "64Mi"))
            await node.until(lambda: condition(node, "PodResizePending"))
        log = list(node.runtime.log)
        async with node.running():
            await node.clock.sleep(5)
            assert node.runtime.log == log
            assert condition(node, "PodResizePending")["reason"] == "Deferred"
            assert len(node.events("ResizeDeferred")) == 1
            assert node.status(container="main")["allocatedResources"]["cpu"] == "500m"
        await resize(node, main=sized("1", "64Mi"))
        async with node.running():
            await node.until(lambda: node.runtime.by_name("main").spec.resources.cpu_shares == 1024)
            await node.until(lambda: not condition(node, "PodResizePending"))

    node.clock.run(scenario())


def test_a_resize_goes_on_where_a_killed_kubelet_left_it(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod(containers=[{"resources": sized("500m", "64Mi")}]))
            await node.until(node.is_phase("Running"))
            path = next(path for path in node.runtime.cgroups.limits if path.endswith("web-uid"))
            node.runtime.cgroups.refused.add(path)
            await resize(node, main=sized("250m", "64Mi"))
            await node.until(lambda: node.events("ResizeError"))
            assert node.runtime.by_name("main").spec.resources.cpu_shares == 256
        for one in node.status()["conditions"][:]:
            if one["type"] == "PodResizeInProgress":  # the status was not written any more
                node.status()["conditions"].remove(one)
        node.runtime.cgroups.refused.clear()
        async with node.running():
            await node.until(lambda: pod_cgroup(node).cpu_shares == 256)
            await node.until(lambda: node.events("ResizeCompleted"))

    node.clock.run(scenario())


def test_sidecars_and_init_containers_are_resized_too(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            sizes = {"resources": sized("100m", "64Mi")}
            side = {**sizes, "name": "side", "restartPolicy": "Always"}
            step = {**sizes, "name": "step"}
            await node.create(pod(initContainers=[side, step], containers=[sizes]))
            await node.until(lambda: "start step" in node.runtime.log)
            await resize(node, side=sized("200m", "64Mi"), step=sized("300m", "64Mi"))
            await node.until(lambda: node.events("ResizeCompleted"))
            assert node.runtime.by_name("side").spec.resources.cpu_shares == 204
            assert node.runtime.by_name("step").spec.resources.cpu_shares == 307
            node.runtime.exit("step")
            await node.until(node.is_phase("Running"))
            assert node.status(container="step")["allocatedResources"]["cpu"] == "300m"

    node.clock.run(scenario())


def test_a_pod_that_has_ended_makes_room_before_its_object_is_gone(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod("first", containers=[{"name": "big", "resources": sized("3", "64Mi")}]))
            await node.until(node.is_phase("Running", "first"))
            await node.api.delete(PODS, "first", "default")
            await node.until(lambda: "exit big 0" in node.runtime.log)
            await node.create(pod(containers=[{"resources": sized("3", "64Mi")}]))
            await node.until(node.is_phase("Running"))
            assert not node.events("OutOfcpu")

    node.clock.run(scenario())


def test_resizes_are_counted(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running() as kubelet:
            await node.create(pod(containers=[{"resources": sized("500m", "64Mi")}]))
            await node.until(node.is_phase("Running"))
            await resize(node, main=sized("20", "32Mi"))
            await node.until(lambda: condition(node, "PodResizePending"))
            page = own_metrics(kubelet, (), "v1.36.0").decode()
            assert 'kubelet_pod_pending_resizes{reason="deferred"} 1' in page
            assert _requested("cpu", "increase") in page
            assert _requested("memory", "decrease") in page
            await resize(node, main=sized("1", "32Mi"))
            await node.until(lambda: node.events("ResizeCompleted"))
            page = own_metrics(kubelet, (), "v1.36.0").decode()
            assert "kubelet_pod_in_progress_resizes 0" in page
            assert 'kubelet_pod_resize_duration_milliseconds_count{success="true"} 1' in page
            assert 'kubelet_pod_deferred_accepted_resizes_total{retry_trigger="pod_updated"} 1' in page

    node.clock.run(scenario())


def _requested(resource: str, operation: str) -> str:
    labels = f'resource="{resource}",requirement="requests",operation="{operation}"'
    return f"kubelet_container_requested_resizes_total{{{labels}}} 1"


def test_a_node_whose_share_shrinks_holds_its_pods_to_it_with_the_next_heartbeat(node: Any) -> None:
    share = {"cpu": "4", "memory": "8Gi"}
    node.config = replace(node.config, capacity=share)

    def limit() -> int:
        found: Resources = node.runtime.cgroups.limits[f"{node.config.cgroup_root}/kubepods"]
        return found.memory_limit

    async def scenario() -> None:
        async with node.running():
            await node.until(lambda: limit() == 8 << 30)
            share["memory"] = "4Gi"
            assert await node.until(lambda: limit() == 4 << 30) < 15

    node.clock.run(scenario())
