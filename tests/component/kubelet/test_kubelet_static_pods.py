"""Static pods on a node: their mirrors in the API, their end, and what a kubelet that was killed finds again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tiphys.client.resources import PODS
from tiphys.testing.clock import VirtualClock

Node = Any

WEB = """apiVersion: v1
kind: Pod
metadata: {name: web, namespace: default}
spec:
  terminationGracePeriodSeconds: %d
  containers: [{name: main, image: %s, imagePullPolicy: IfNotPresent}]
"""


@pytest.fixture
def manifests(node: Node, tmp_path: Path) -> Path:
    directory = tmp_path / "manifests"
    directory.mkdir()
    node.config = replace(node.config, static_pod_path=directory)
    return directory


def write(manifests: Path, image: str = "busybox", grace: int = 30) -> None:
    (manifests / "web.yaml").write_text(WEB % (grace, image))


def run(node: Node, scenario: Callable[[], Any]) -> None:
    clock: VirtualClock = node.clock
    clock.run(scenario())


def mirror(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = node.pod("web-node-1")
    return found


def mirror_image(node: Node) -> str:
    return str(mirror(node)["spec"]["containers"][0]["image"])


def test_a_static_pod_runs_and_its_mirror_shows_it(node: Node, manifests: Path) -> None:
    write(manifests)

    async def scenario() -> None:
        async with node.running():
            await node.until(node.is_phase("Running", "web-node-1"))
            meta = mirror(node)["metadata"]
            uid = meta["annotations"]["kubernetes.io/config.mirror"]
            assert meta["uid"] != uid == meta["annotations"]["kubernetes.io/config.hash"]
            assert meta["annotations"]["kubernetes.io/config.source"] == "file"
            assert "kubernetes.io/config.seen" in meta["annotations"]
            assert meta["ownerReferences"][0]["kind"] == "Node"
            assert list(node.kubelet.workers) == [uid]
            ready = {one["type"]: one for one in mirror(node)["status"]["conditions"]}["Ready"]
            assert ready["status"] == "True"
            assert "observedGeneration" not in mirror(node)["status"]

    run(node, scenario)


@pytest.mark.parametrize("grace", [None, 0])
def test_a_mirror_that_is_deleted_comes_again_and_the_pod_goes_on(
    node: Node, manifests: Path, grace: int | None
) -> None:
    write(manifests)

    async def scenario() -> None:
        async with node.running():
            await node.until(node.is_phase("Running", "web-node-1"))
            uid = mirror(node)["metadata"]["uid"]
            await node.api.delete(PODS, "web-node-1", "default", grace_seconds=grace)
            await node.until(lambda: mirror(node)["metadata"]["uid"] != uid)
            await node.until(node.is_phase("Running", "web-node-1"))
            assert node.runtime.log.count("start main") == 1
            assert not [line for line in node.runtime.log if line.startswith("stop")]

    run(node, scenario)


def test_a_static_pod_ends_with_its_grace_when_its_file_goes_and_then_its_mirror(node: Node, manifests: Path) -> None:
    write(manifests, grace=25)
    node.runtime.ignores_signals.add("main")

    async def scenario() -> None:
        async with node.running():
            await node.until(node.is_phase("Running", "web-node-1"))
            (manifests / "web.yaml").unlink()
            await node.until(lambda: "stop main 25" in node.runtime.log)
            took = await node.until(lambda: node.gone("web-node-1"))
            assert 20 <= took <= 27
            await node.until(lambda: not node.kubelet.workers)
            assert not node.runtime.boxes

    run(node, scenario)


def test_a_changed_manifest_is_another_pod_that_waits_for_the_former(node: Node, manifests: Path) -> None:
    write(manifests, grace=20)
    node.runtime.ignores_signals.add("main")

    async def scenario() -> None:
        async with node.running():
            await node.until(node.is_phase("Running", "web-node-1"))
            [first] = node.kubelet.workers
            write(manifests, image="nginx", grace=20)
            await node.until(lambda: "stop main 20" in node.runtime.log)
            write(manifests, image="httpd", grace=20)
            assert list(node.kubelet.workers) == [first]
            await node.until(lambda: mirror_image(node) == "httpd")
            await node.until(node.is_phase("Running", "web-node-1"))
            assert [run.spec.image for run in node.runtime.runs.values()] == ["sha256:httpd"]

    run(node, scenario)


def test_a_file_that_comes_back_runs_again(node: Node, manifests: Path) -> None:
    write(manifests)

    async def scenario() -> None:
        async with node.running():
            await node.until(node.is_phase("Running", "web-node-1"))
            (manifests / "web.yaml").unlink()
            await node.until(lambda: node.gone("web-node-1"))
            write(manifests)
            await node.until(node.is_phase("Running", "web-node-1"))

    run(node, scenario)


def test_a_killed_kubelet_finds_its_static_pods_again(node: Node, manifests: Path) -> None:
    write(manifests)

    async def scenario() -> None:
        async with node.running():
            await node.until(node.is_phase("Running", "web-node-1"))
        before = (mirror(node)["metadata"]["uid"], mirror(node)["status"]["startTime"])
        await node.clock.sleep(100)
        async with node.running():
            await node.clock.sleep(60)
            assert node.runtime.log.count("start main") == 1
            assert (mirror(node)["metadata"]["uid"], mirror(node)["status"]["startTime"]) == before

    run(node, scenario)


def test_a_file_that_went_while_no_kubelet_ran_ends_its_pod(node: Node, manifests: Path) -> None:
    write(manifests)

    async def scenario() -> None:
        async with node.running():
            await node.until(node.is_phase("Running", "web-node-1"))
        (manifests / "web.yaml").unlink()
        async with node.running():
            await node.until(lambda: node.gone("web-node-1"))
            await node.until(lambda: not node.runtime.boxes)

    run(node, scenario)


def test_static_pods_run_without_an_api_server(node: Node, manifests: Path) -> None:
    write(manifests)
    node.api.broken = True

    async def scenario() -> None:
        async def later() -> None:
            await node.until(lambda: "start main" in node.runtime.log)
            node.api.broken = False

        import asyncio

        async with asyncio.TaskGroup() as group:
            group.create_task(later())
            async with node.running():
                await node.until(node.is_phase("Running", "web-node-1"))
                assert node.runtime.log.count("start main") == 1

    run(node, scenario)


def test_a_mirror_without_a_static_pod_is_deleted(node: Node, pod: Callable[..., dict[str, Any]]) -> None:
    left = pod("left")
    left["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}

    async def scenario() -> None:
        await node.create(left)
        async with node.running():
            await node.until(lambda: node.gone("left"))
            assert "sandbox" not in node.runtime.log

    run(node, scenario)


def test_a_pod_of_somebody_else_with_the_mirrors_name_is_left_alone_and_replaced_when_it_goes(
    node: Node, manifests: Path, pod: Callable[..., dict[str, Any]]
) -> None:
    write(manifests)
    foreign = pod("web-node-1", nodeName="node-2")

    async def scenario() -> None:
        await node.create(foreign)
        async with node.running():
            await node.until(lambda: "start main" in node.runtime.log)
            await node.clock.sleep(20)
            assert mirror(node)["metadata"]["uid"] == "web-node-1-uid"
            assert mirror(node)["status"] == {"phase": "Pending"}
            await node.api.delete(PODS, "web-node-1", "default", grace_seconds=0)
            await node.until(node.is_phase("Running", "web-node-1"), limit=60)

    run(node, scenario)


def test_a_static_pod_that_the_node_has_no_room_for_is_told_by_its_mirror(node: Node, manifests: Path) -> None:
    sized = (WEB % (1, "busybox")).replace("name: main,", "name: main, resources: {requests: {cpu: '100'}},")
    (manifests / "web.yaml").write_text(sized)

    async def scenario() -> None:
        async with node.running():
            await node.until(node.is_phase("Failed", "web-node-1"))
            assert mirror(node)["status"]["reason"] == "UnexpectedAdmissionError"
            assert "no set of running pods found to reclaim resources" in mirror(node)["status"]["message"]
            (manifests / "web.yaml").unlink()
            await node.until(lambda: node.gone("web-node-1"))

    run(node, scenario)
