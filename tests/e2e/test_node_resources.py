"""Resources for real: cgroups of tiers and pods, resizes, lack of memory. One cgroup hierarchy is looked at: v1's, or
v2's where that has the controllers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from e2e.commands import Commands
from tiphys.api.quantity import parse
from tiphys.runtime.cgroup_tree import CgroupTree
from tiphys.runtime.cgroups import detect
from tiphys.runtime.types import Resources

pytestmark = pytest.mark.e2e

NAMESPACE = "node-resources"
MIB = 1 << 20


def pod(name: str, script: str, *policies: str, **resources: Any) -> dict[str, Any]:
    main: dict[str, Any] = {
        "name": "c",
        "image": "busybox",
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
    }
    main |= {"resources": resources}
    main |= {"resizePolicy": [{"resourceName": what, "restartPolicy": "RestartContainer"} for what in policies]}
    spec = {
        "nodeName": "node-1",
        "terminationGracePeriodSeconds": 0,
        "restartPolicy": "Never" if "exit" in script else "Always",
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {**spec, "containers": [main]},
    }


def sized(cpu: str, memory: str, cpu_limit: str, memory_limit: str) -> dict[str, Any]:
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu_limit, "memory": memory_limit}}


PODS = [
    pod("plain", "sleep 3600", **sized("100m", "32Mi", "200m", "64Mi")),
    pod("restarted", "sleep 3600", "memory", **sized("50m", "32Mi", "100m", "64Mi")),
    pod("effort", "sleep 3600"),
    pod("child", "(dd if=/dev/zero of=/dev/null bs=200M count=1); exit 3", limits={"memory": "30Mi"}),
    pod("whole", "exec dd if=/dev/zero of=/dev/null bs=200M count=1 # exit", limits={"memory": "30Mi"}),
]


class Node:
    def __init__(self, cluster: Commands) -> None:
        self.commands = cluster

    def kubectl(self, *words: str) -> str:
        return self.commands.kubectl("-n", NAMESPACE, *words).stdout

    def pod(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.commands.get("-n", NAMESPACE, "pod", name)
        return found

    def container(self, name: str) -> dict[str, Any]:
        statuses = self.pod(name)["status"].get("containerStatuses") or [{}]
        return dict(statuses[0])

    def conditions(self, name: str) -> dict[str, dict[str, Any]]:
        return {one["type"]: one for one in self.pod(name)["status"]["conditions"]}

    def resize(self, name: str, **resources: Any) -> None:
        patch = {"spec": {"containers": [{"name": "c", "resources": resources}]}}
        self.kubectl("patch", "pod", name, "--subresource=resize", "-p", json.dumps(patch))

    def cgroup(self, *parts: str) -> Resources:
        """Of a cgroup below the kubepods of the first node, which is known by a pod of ours: others may run beside."""
        layout = detect()
        root = Path(layout.v2 or layout.v1["cpu"])
        ours = f"pod{self.pod('plain')['metadata']['uid']}"
        [found] = root.joinpath("tiphys").glob(f"*/node-1/kubepods/burstable/{ours}")
        limits = CgroupTree(layout).get(str(found.parents[1].joinpath(*parts).relative_to(root)))
        assert limits is not None
        return limits

    def has(self, name: str, resources: dict[str, Any]) -> None:
        """Wait until the container has that and no resize is under way."""
        self.commands.until(lambda: self.container(name).get("resources") == resources)
        self.commands.until(lambda: "PodResizeInProgress" not in self.conditions(name))

    def ended(self, name: str) -> tuple[str, int]:
        """How the container ended."""
        self.commands.until(lambda: "terminated" in (self.container(name).get("state") or {}))
        state = self.container(name)["state"]["terminated"]
        return state["reason"], state["exitCode"]


@pytest.fixture(scope="module")
def node(cluster: Commands) -> Node:
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl(
        "-n", NAMESPACE, "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": PODS})
    )
    cluster.kubectl(
        "-n", NAMESPACE, "wait", "pod", "plain", "restarted", "effort", "--for=condition=Ready", "--timeout=60s"
    )
    return Node(cluster)


def test_pods_are_held_to_what_the_node_has_for_them(node: Node) -> None:
    capacity = node.commands.get("nodes")["items"][0]["status"]["capacity"]
    assert node.cgroup().memory_limit == parse(capacity["memory"]).value
    uid = node.pod("effort")["metadata"]["uid"]
    assert node.cgroup("besteffort", f"pod{uid}").cpu_shares <= 2
    assert node.cgroup("burstable").cpu_shares >= 150 * 1024 // 1000 - 2


def test_a_pod_is_resized_as_it_runs_and_its_cgroups_with_it(node: Node) -> None:
    new = sized("150m", "48Mi", "300m", "96Mi")
    node.resize("plain", **new)
    node.has("plain", new)
    found = node.pod("plain")
    limits = node.cgroup("burstable", f"pod{found['metadata']['uid']}")
    assert (limits.cpu_quota, limits.memory_limit) == (30_000, 96 * MIB)
    assert found["status"]["allocatedResources"] == new["requests"]
    assert node.container("plain")["restartCount"] == 0


def test_a_resize_that_has_no_room_waits(node: Node) -> None:
    allocatable = node.commands.get("nodes")["items"][0]["status"]["allocatable"]["cpu"]
    before = node.container("plain")["resources"]
    node.resize("plain", requests={"cpu": allocatable}, limits={"cpu": allocatable})
    node.commands.until(lambda: node.conditions("plain").get("PodResizePending", {}).get("reason") == "Deferred")
    assert "Node didn't have enough resource: cpu" in node.conditions("plain")["PodResizePending"]["message"]
    assert node.container("plain")["resources"] == before
    node.resize("plain", **before)
    node.commands.until(lambda: "PodResizePending" not in node.conditions("plain"))


def test_a_container_is_restarted_where_its_policy_says_so(node: Node) -> None:
    for memory in ("96Mi", "64Mi"):
        new = sized("50m", "32Mi", "100m", memory)
        node.resize("restarted", **new)
        node.has("restarted", new)
    assert node.container("restarted")["restartCount"] == 2


def test_memory_is_not_limited_below_what_is_in_use(node: Node) -> None:
    node.resize("plain", requests={"memory": "4Ki"}, limits={"memory": "4Ki"})
    node.commands.until(lambda: node.conditions("plain").get("PodResizeInProgress", {}).get("reason") == "Error")
    assert "cannot decrease memory limits" in node.conditions("plain")["PodResizeInProgress"]["message"]
    node.resize("plain", requests={"memory": "48Mi"}, limits={"memory": "96Mi"})
    node.commands.until(lambda: "PodResizeInProgress" not in node.conditions("plain"))


def test_lack_of_memory_is_told_also_when_only_a_child_was_killed(node: Node) -> None:
    assert node.ended("whole") == ("OOMKilled", 137)
    assert node.ended("child") == ("OOMKilled", 3)
