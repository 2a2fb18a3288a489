"""Probes, hooks, restarts, updates and ends of pods. All pods are made at once; each test waits for its own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from e2e.commands import CLOCK, Commands

pytestmark = pytest.mark.e2e

NAMESPACE = "node-lifecycle"
STUBBORN = "trap '' TERM; while true; do sleep 0.2; done"


def pod(name: str, script: str = "sleep 3600", container: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    main = {"name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]}
    whole = {"terminationGracePeriodSeconds": 1, "containers": [main | (container or {})], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"v": "1"}}, "spec": whole}


def probe(command: str, **more: Any) -> dict[str, Any]:
    return {"exec": {"command": ["sh", "-c", command]}, "periodSeconds": 1, "failureThreshold": 1, **more}


def init(name: str, script: str) -> dict[str, Any]:
    return {"name": name, "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]}


WEB = "mkdir /w; echo ok > /w/healthz; (sleep 4; rm /w/healthz) & httpd -f -p 8080 -h /w"
HTTP = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1, "failureThreshold": 1}
MOUNTS = [{"name": "conf", "mountPath": "/conf"}, {"name": "labels", "mountPath": "/labels"}]
VOLUMES = [
    {
        "name": "conf",
        "projected": {"sources": [{"configMap": {"name": "conf"}}, {"secret": {"name": "late", "optional": True}}]},
    },
    {"name": "labels", "downwardAPI": {"items": [{"path": "v", "fieldRef": {"fieldPath": "metadata.labels['v']"}}]}},
]
PODS = [
    pod("http-fails", WEB, {"livenessProbe": {**HTTP, "initialDelaySeconds": 1}}),
    pod("tcp-holds", "httpd -f -p 8080", {"livenessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1}}),
    pod(
        "grpc-fails",
        "httpd -f -p 8080",
        {"livenessProbe": {"grpc": {"port": 2333}, "periodSeconds": 1, "failureThreshold": 1}},
    ),
    pod("never-ready", container={"readinessProbe": probe("exit 1")}),
    pod(
        "starts-late",
        "sleep 3; touch /up; sleep 3600",
        {
            "startupProbe": probe("test -f /up", failureThreshold=30),
            "livenessProbe": probe("test -f /up"),
        },
    ),
    pod(
        "probe-grace",
        STUBBORN,
        {"livenessProbe": probe("exit 1", terminationGracePeriodSeconds=2)},
        terminationGracePeriodSeconds=500,
    ),
    pod("gated", readinessGates=[{"conditionType": "example.com/gate"}]),
    pod("post-start-fails", container={"lifecycle": {"postStart": {"exec": {"command": ["sh", "-c", "exit 3"]}}}}),
    pod("init-fails", initContainers=[init("one", "exit 1"), init("two", "true")], restartPolicy="Never"),
    pod("init-retries", initContainers=[init("one", "exit 1"), init("two", "true")]),
    pod("restarts", "echo run; sleep 1; exit 1"),
    pod("deadline", activeDeadlineSeconds=3),
    pod("updated", container={"volumeMounts": MOUNTS}, volumes=VOLUMES),
    pod("waits-for-map", container={"envFrom": [{"configMapRef": {"name": "later"}}]}),
    pod("graceful", "trap 'sleep 2; exit 0' TERM; while true; do sleep 0.1; done", terminationGracePeriodSeconds=30),
    pod("stubborn", STUBBORN, terminationGracePeriodSeconds=4),
    pod(
        "pre-stop",
        "trap 'exit 0' TERM; while true; do sleep 0.1; done",
        {"lifecycle": {"preStop": {"sleep": {"seconds": 3}}}},
        terminationGracePeriodSeconds=10,
    ),
    pod("debugged"),
    pod(
        "resized",
        container={
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "32Mi", "cpu": "100m"}}
        },
    ),
]


class Node:
    """The commands, in the namespace of these tests."""

    def __init__(self, commands: Commands) -> None:
        self.commands = commands

    def kubectl(self, *words: str, check: bool = True, stdin: str | None = None) -> str:
        done = self.commands.kubectl("-n", NAMESPACE, *words, check=check, stdin=stdin)
        return done.stdout + done.stderr

    def status(self, name: str) -> dict[str, Any]:
        return dict(self.commands.get("-n", NAMESPACE, "pod", name).get("status") or {})

    def container(self, name: str, kind: str = "containerStatuses") -> dict[str, Any]:
        return dict((self.status(name).get(kind) or [{"state": {}, "lastState": {}, "restartCount": 0}])[0])

    def condition(self, name: str, kind: str) -> dict[str, Any]:
        found = [one for one in self.status(name).get("conditions") or () if one["type"] == kind]
        return dict(found[0]) if found else {}

    def restarted(self, name: str) -> None:
        self.commands.until(lambda: self.container(name)["restartCount"] > 0)

    def ready(self, name: str) -> None:
        self.kubectl("wait", f"pod/{name}", "--for=condition=Ready", "--timeout=60s")

    def events(self, name: str) -> str:
        return self.kubectl("events", "--for", f"pod/{name}")

    def deleted_in(self, name: str) -> float:
        """Seconds that the deletion took."""
        start = CLOCK.monotonic()
        self.kubectl("delete", "pod", name)
        return CLOCK.monotonic() - start


@pytest.fixture(scope="module")
def node(cluster: Commands) -> Node:
    made = Node(cluster)
    cluster.kubectl("create", "namespace", NAMESPACE)
    made.kubectl("wait", "serviceaccount/default", "--for=create", "--timeout=30s")
    made.kubectl("create", "configmap", "conf", "--from-literal=a=1")
    made.kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": PODS}))
    return made


def test_a_failing_http_probe_restarts_the_container(node: Node) -> None:
    node.restarted("http-fails")
    events = node.events("http-fails")
    assert "Liveness probe failed: HTTP probe failed with statuscode: 404" in events
    assert "Container c failed liveness probe, will be restarted" in events


def test_a_grpc_probe_needs_an_answer(node: Node) -> None:
    node.restarted("grpc-fails")


def test_a_failing_readiness_probe_restarts_nothing(node: Node) -> None:
    node.commands.until(lambda: "Readiness probe failed" in node.events("never-ready"))
    found = node.container("never-ready")
    assert (found["ready"], found["restartCount"]) == (False, 0)


def test_liveness_waits_for_the_startup_probe(node: Node) -> None:
    node.ready("starts-late")
    assert node.container("starts-late")["restartCount"] == 0


def test_a_probe_may_have_its_own_grace(node: Node) -> None:
    node.restarted("probe-grace")


def test_a_readiness_gate_is_waited_for(node: Node) -> None:
    node.commands.until(lambda: node.container("gated").get("ready"))
    assert node.condition("gated", "Ready")["reason"] == "ReadinessGatesNotReady"
    gate = {"status": {"conditions": [{"type": "example.com/gate", "status": "True"}]}}
    node.kubectl("patch", "pod", "gated", "--subresource=status", "--type=strategic", "-p", json.dumps(gate))
    node.ready("gated")


def test_a_failing_post_start_hook_restarts_the_container(node: Node) -> None:
    node.restarted("post-start-fails")
    assert "PostStartHook failed" in node.events("post-start-fails")


def test_init_containers_fail_the_pod_or_are_tried_again(node: Node) -> None:
    node.commands.until(lambda: node.status("init-fails").get("phase") == "Failed")
    assert node.condition("init-fails", "Initialized")["reason"] == "ContainersNotInitialized"
    node.commands.until(lambda: node.container("init-retries", "initContainerStatuses")["restartCount"] > 0)
    assert node.status("init-retries")["phase"] == "Pending"


def test_the_log_of_the_run_before_is_kept(node: Node) -> None:
    node.restarted("restarts")
    assert node.kubectl("logs", "--previous", "restarts").strip() == "run"
    missing = node.kubectl("logs", "--previous", "debugged", check=False)
    assert 'previous terminated container "c" in pod "debugged" not found' in missing
    assert node.container("restarts")["lastState"]["terminated"]["exitCode"] == 1


def test_a_deadline_fails_the_pod(node: Node) -> None:
    node.commands.until(lambda: node.status("deadline").get("reason") == "DeadlineExceeded")
    assert node.status("deadline")["phase"] == "Failed"


def test_volumes_follow_their_sources(node: Node) -> None:
    node.ready("updated")
    node.kubectl("patch", "configmap", "conf", "-p", '{"data": {"a": "2", "b": "3"}}')
    node.kubectl("create", "secret", "generic", "late", "--from-literal=s=4")
    node.kubectl("label", "--overwrite", "pod", "updated", "v=5")
    show = ("exec", "updated", "--", "sh", "-c", "cat /conf/a /conf/b /conf/s /labels/v")
    node.commands.until(lambda: node.kubectl(*show, check=False) == "2345", 20)


def test_a_container_starts_when_its_config_map_comes(node: Node) -> None:
    def waiting() -> bool:
        state = node.container("waits-for-map")["state"].get("waiting") or {}
        return bool(state.get("reason") == "CreateContainerConfigError")

    node.commands.until(waiting)
    node.kubectl("create", "configmap", "later", "--from-literal=a=1")
    node.ready("waits-for-map")


def test_deletion_takes_as_long_as_the_containers_need_and_their_grace_at_most(node: Node) -> None:
    for name in ("graceful", "stubborn", "pre-stop"):
        node.ready(name)
    assert 1.5 < node.deleted_in("graceful") < 10
    assert 3.5 < node.deleted_in("stubborn") < 10
    assert 2.5 < node.deleted_in("pre-stop") < 9


def test_a_debug_container_sees_the_processes_of_its_target(node: Node) -> None:
    node.ready("debugged")
    words = ("--image=busybox", "--image-pull-policy=IfNotPresent", "--target=c", "-c", "tool", "--", "ps")
    node.kubectl("debug", "debugged", *words)
    node.commands.until(lambda: "sleep 3600" in node.kubectl("logs", "debugged", "-c", "tool", check=False))


def test_a_running_container_is_resized(node: Node) -> None:
    node.ready("resized")
    wanted = {"requests": {"cpu": "500m", "memory": "32Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}}
    patch = json.dumps({"spec": {"containers": [{"name": "c", "resources": wanted}]}})
    node.kubectl("patch", "pod", "resized", "--subresource=resize", "-p", patch)
    node.commands.until(lambda: node.container("resized").get("resources") == wanted)
    limit = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max"
    assert node.kubectl("exec", "resized", "--", "sh", "-c", f"({limit}) 2>/dev/null").strip() == str(64 << 20)
    assert node.container("resized")["restartCount"] == 0


def test_a_passing_tcp_probe_leaves_the_container_alone(node: Node) -> None:
    node.ready("tcp-holds")
    assert node.container("tcp-holds")["restartCount"] == 0
