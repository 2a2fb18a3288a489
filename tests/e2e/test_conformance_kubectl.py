"""What the conformance suite does with kubectl, against a real cluster."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from e2e.commands import Commands

pytestmark = pytest.mark.e2e
LABELS = {"app": "agnhost", "role": "primary"}
TEMPLATE = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "web", "image": "nginx"}]}}
CONTROLLER: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "ReplicationController",
    "metadata": {"name": "primary", "labels": LABELS},
    "spec": {"replicas": 1, "selector": LABELS, "template": TEMPLATE},
}


@pytest.fixture
def pod(cluster: Commands) -> Iterator[str]:
    """The name of a running pod of a replication controller."""
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(CONTROLLER))
    cluster.until(lambda: names(cluster))
    [name] = names(cluster)
    cluster.wait(f"pod/{name}", "condition=Ready")
    yield name
    cluster.kubectl("delete", "rc", "primary", "--now")
    cluster.until(lambda: not names(cluster))


def names(cluster: Commands) -> list[str]:
    found = cluster.out(
        "get", "pods", "-l", "app=agnhost", "-o", "go-template={{range .items}}{{.metadata.name}} {{end}}"
    )
    return found.split()


def has_endpoints(cluster: Commands, name: str) -> bool:
    return bool(cluster.get("endpoints", name).get("subsets"))


def test_the_core_api_is_listed_and_the_control_plane_told(cluster: Commands) -> None:
    assert "v1" in cluster.out("api-versions").splitlines()
    assert "is running at" in cluster.out("cluster-info")
    assert "Kubernetes" in cluster.out("cluster-info")
    both = json.loads(cluster.out("version", "-o", "json"))
    assert both["serverVersion"]["gitVersion"].startswith("v1.36.")


def test_there_are_two_nodes_that_take_pods(cluster: Commands) -> None:
    nodes = cluster.get("nodes")["items"]
    free = [node for node in nodes if not node["spec"].get("taints") and not node["spec"].get("unschedulable")]
    assert len(free) >= 2


def test_describe_tells_of_controllers_pods_nodes_and_namespaces(cluster: Commands, pod: str) -> None:
    text = cluster.out("describe", "pod", pod)
    for part in ("Name:", "Namespace:", "Node:", "Labels:", "Status:", "Controlled By:", "Image:", "State:", "Running"):
        assert part in text
    text = cluster.out("describe", "rc", "primary")
    for part in ("Name:", "Selector:", "Replicas:", "Pods Status:", "Pod Template:", "Image:", "Events:"):
        assert part in text
    text = cluster.out("describe", "node", "node-1")
    for part in (
        "Conditions:",
        "MemoryPressure",
        "Addresses:",
        "Capacity:",
        "Kubelet Version:",
        "Non-terminated Pods:",
    ):
        assert part in text
    assert "Status:       Active" in cluster.out("describe", "namespace", "default")


def test_expose_makes_services_of_controllers_and_of_services(cluster: Commands, pod: str) -> None:
    cluster.kubectl("expose", "rc", "primary", "--name=rm2", "--port=1234", "--target-port=80")
    cluster.kubectl("expose", "service", "rm2", "--name=rm3", "--port=2345", "--target-port=80")
    for name, port in (("rm2", 1234), ("rm3", 2345)):
        [found] = cluster.get("service", name)["spec"]["ports"]
        assert (found["port"], found["targetPort"]) == (port, 80)
        cluster.until(partial(has_endpoints, cluster, name))
    cluster.kubectl("delete", "service", "rm2", "rm3")


def test_labels_and_annotations_come_and_go(cluster: Commands, pod: str) -> None:
    cluster.kubectl("label", "pods", pod, "testing-label=testing-label-value")
    assert cluster.out("get", "pod", pod, "-L", "testing-label").endswith("testing-label-value")
    cluster.kubectl("label", "pods", pod, "testing-label-")
    assert "testing-label-value" not in cluster.out("get", "pod", pod, "-L", "testing-label")
    cluster.kubectl("patch", "pod", pod, "-p", '{"metadata":{"annotations":{"x":"y"}}}')
    assert cluster.get("pod", pod)["metadata"]["annotations"] == {"x": "y"}


def test_a_replaced_pod_has_the_new_image_and_a_rehearsed_one_the_old(cluster: Commands) -> None:
    cluster.kubectl("run", "replaced", "--image=nginx", "--labels=run=replaced")
    cluster.wait("pod/replaced", "condition=Ready")
    held = cluster.get("pod", "replaced")
    held["spec"]["containers"][0]["image"] = "nginx:1.25"
    patch = '{"spec":{"containers":[{"name":"replaced","image":"nginx:1.7.9"}]}}'
    cluster.kubectl("patch", "pod", "replaced", "-p", patch, "--dry-run=server")
    assert cluster.get("pod", "replaced")["spec"]["containers"][0]["image"] == "nginx"
    cluster.kubectl("replace", "-f", "-", stdin=json.dumps(held))
    assert cluster.get("pod", "replaced")["spec"]["containers"][0]["image"] == "nginx:1.25"
    cluster.kubectl("delete", "pod", "replaced", "--now")


def test_run_makes_a_pod_that_is_not_restarted(cluster: Commands) -> None:
    cluster.kubectl("run", "once", "--restart=Never", "--image=nginx")
    found = cluster.get("pod", "once")
    assert found["spec"]["restartPolicy"] == "Never"
    assert found["spec"]["containers"][0]["image"] == "nginx"
    cluster.kubectl("delete", "pod", "once", "--now")


def test_the_proxy_answers_on_a_free_port_and_on_a_unix_socket(cluster: Commands, tmp_path: Path) -> None:
    proxy = cluster.popen("proxy", "-p", "0", "--disable-filter")
    try:
        assert proxy.stdout is not None
        started = next(line for line in proxy.stdout if line.startswith("Starting to serve on"))
        port = int(started.rpartition(":")[2])
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/api/")
        assert json.loads(connection.getresponse().read())["versions"] == ["v1"]
    finally:
        proxy.kill()
        proxy.wait()
    path = tmp_path / "socket"
    proxy = cluster.popen("proxy", f"--unix-socket={path}")
    try:
        assert proxy.stdout is not None
        assert proxy.stdout.readline().startswith("Starting to serve on")
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(str(path))
            client.sendall(b"GET /api/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert b"200 OK" in client.recv(65536)
    finally:
        proxy.kill()
        proxy.wait()


def test_a_controller_is_scaled_and_stopped_and_its_pods_answer_through_the_server(cluster: Commands, pod: str) -> None:
    page = cluster.out("get", "--raw", f"/api/v1/namespaces/default/pods/{pod}/proxy/")
    assert "Welcome to nginx!" in page
    cluster.kubectl("scale", "rc", "primary", "--replicas=2", "--timeout=1m")
    cluster.until(lambda: len(names(cluster)) == 2)
    cluster.kubectl("scale", "rc", "primary", "--replicas=1", "--timeout=1m")
    cluster.until(lambda: len(names(cluster)) == 1)


def test_logs_are_told_by_lines_bytes_times_and_age(cluster: Commands) -> None:
    script = "i=0; while [ $i -lt 20 ]; do echo line $i; i=$((i+1)); done; sleep 600"
    cluster.kubectl("run", "logger", "--image=busybox", "--restart=Never", "--command", "--", "sh", "-c", script)
    cluster.wait("pod/logger", "condition=Ready")
    cluster.until(lambda: "line 19" in cluster.out("logs", "logger"))
    assert cluster.out("logs", "logger", "logger", "--tail=1") == "line 19"
    assert cluster.out("logs", "logger", "--limit-bytes=1") == "l"
    stamped = cluster.out("logs", "logger", "--tail=1", "--timestamps").split(" ", 1)
    assert (stamped[0][4], stamped[1]) == ("-", "line 19")
    assert len(cluster.out("logs", "logger", "--since=24h").splitlines()) == 20
    cluster.until(lambda: cluster.out("logs", "logger", "--since=1s") == "")
    cluster.kubectl("delete", "pod", "logger", "--now")


def test_an_attachment_ends_with_its_input_and_leaves_the_container_running(cluster: Commands) -> None:
    words = ("run", "open", "--image=busybox", "--restart=OnFailure", "--attach", "--leave-stdin-open", "--stdin", "--")
    cluster.kubectl(*words, "sh", "-c", "cat && echo closed", stdin="abcd1234\n")
    cluster.until(lambda: "abcd1234" in cluster.out("logs", "open"))
    assert "closed" not in cluster.out("logs", "open")
    cluster.wait("pod/open", "condition=Ready")
    cluster.kubectl("delete", "pod", "open", "--now")
