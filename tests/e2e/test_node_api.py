"""The node API of real nodes: what is used, by whom it may be seen, logs that rotate, and autoscaling by real load."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.commands import Commands

pytestmark = pytest.mark.e2e

NAMESPACE = "node-api"
WORK = "dd if=/dev/zero of=/v/data bs=1024 count=64; dd if=/dev/zero of=/data bs=1024 count=32; "
LOAD = "while true; do :; done"
LINES = 300_000
MIB = 1 << 20


def pod(name: str, script: str, **container: Any) -> dict[str, Any]:
    main = {"name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]}
    spec = {
        "terminationGracePeriodSeconds": 0,
        "restartPolicy": "Never",
        "containers": [main | container],
        "volumes": [{"name": "scratch", "emptyDir": {}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


PODS = [
    pod(
        "busy",
        WORK + LOAD,
        resources={"limits": {"cpu": "100m", "memory": "80Mi"}},
        volumeMounts=[{"name": "scratch", "mountPath": "/v"}],
        livenessProbe={"exec": {"command": ["true"]}, "periodSeconds": 1, "timeoutSeconds": 30},
    ),
    pod("talker", f"sleep 3; seq 1 {LINES}"),
]
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "load"},
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "load"}},
        "template": {
            "metadata": {"labels": {"app": "load"}},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [
                    {
                        "name": "c",
                        "image": "busybox",
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["sh", "-c", LOAD],
                        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "100m"}},
                    }
                ],
            },
        },
    },
}


def utilization(name: str, percent: int) -> dict[str, Any]:
    return {
        "type": "Resource",
        "resource": {"name": name, "target": {"type": "Utilization", "averageUtilization": percent}},
    }


AUTOSCALER = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "load"},
    "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "load"},
        "maxReplicas": 2,
        "metrics": [utilization("cpu", 80), utilization("memory", 90)],
    },
}


@pytest.fixture(scope="module")
def world(cluster: Commands) -> Iterator[Commands]:
    cluster.kubectl("create", "namespace", NAMESPACE)
    objects = {"apiVersion": "v1", "kind": "List", "items": [*PODS, DEPLOYMENT, AUTOSCALER]}
    cluster.kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(objects))
    cluster.kubectl("wait", "-n", NAMESPACE, "pod/busy", "pod/talker", "--for=condition=Ready", "--timeout=60s")
    yield cluster
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def node_of(world: Commands, name: str) -> str:
    return str(world.get("pod", name, "-n", NAMESPACE)["spec"]["nodeName"])


def raw(world: Commands, node: str, path: str) -> str:
    return world.kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy{path}").stdout


def test_a_log_is_followed_over_its_rotation_without_losing_a_line(world: Commands) -> None:
    following = world.popen("logs", "-n", NAMESPACE, "-f", "talker")
    shown, _ = following.communicate(timeout=90)
    assert shown.split() == [str(number) for number in range(1, LINES + 1)]
    whole = world.out("logs", "-n", NAMESPACE, "talker").split()
    assert whole == [str(number) for number in range(1, LINES + 1)]


def test_the_summary_has_all_figures_of_a_pod(world: Commands) -> None:
    document = json.loads(raw(world, node_of(world, "busy"), "/stats/summary"))
    found = next(one for one in document["pods"] if one["podRef"]["name"] == "busy")
    (container,) = found["containers"]
    for one in (container, found):
        assert 10_000 < one["cpu"]["usageNanoCores"] < 300_000_000
        assert 1024 < one["memory"]["availableBytes"] <= 80 * MIB
        assert one["memory"]["workingSetBytes"] <= one["memory"]["usageBytes"] < 80 * MIB
        assert one["memory"]["rssBytes"] > 0
        assert one["memory"]["pageFaults"] > 10
    assert 32 * 1024 <= container["rootfs"]["usedBytes"] < MIB
    assert container["logs"]["usedBytes"] > 0
    assert found["network"]["name"] == "eth0"
    assert found["process_stats"]["process_count"] >= 2
    volume = next(one for one in found["volume"] if one["name"] == "scratch")
    assert 64 * 1024 <= volume["usedBytes"] < MIB
    parts = volume["usedBytes"] + container["rootfs"]["usedBytes"] + container["logs"]["usedBytes"]
    assert found["ephemeral-storage"]["usedBytes"] >= parts
    assert document["node"]["cpu"]["usageNanoCores"] > 0
    assert {"fs", "runtime", "rlimit", "network", "swap", "systemContainers"} <= set(document["node"])


@pytest.mark.parametrize(
    ("path", "series"),
    [
        ("/metrics", 'kubelet_running_containers{container_state="running"}'),
        ("/metrics", 'kubelet_runtime_operations_total{operation_type="start_container"}'),
        ("/metrics", 'kubelet_started_containers_total{container_type="container"}'),
        ("/metrics", "kubelet_pod_start_sli_duration_seconds_count"),
        ("/metrics/cadvisor", 'container_cpu_cfs_throttled_periods_total{container="c",id="'),
        ("/metrics/cadvisor", 'container_fs_usage_bytes{container="c",id="'),
        ("/metrics/resource", 'container_cpu_usage_seconds_total{container="c",namespace="node-api",pod="busy"}'),
        ("/metrics/probes", 'prober_probe_total{probe_type="Liveness",result="successful",container="c",pod="busy"'),
    ],
)
def test_metrics_are_shown(world: Commands, path: str, series: str) -> None:
    world.until(lambda: series in raw(world, node_of(world, "busy"), path))


def test_top_shows_what_is_used(world: Commands) -> None:
    line = world.out("top", "pod", "busy", "-n", NAMESPACE, "--containers", "--no-headers").split()
    assert line[:2] == ["busy", "c"]
    assert 50 <= int(line[2].removesuffix("m")) <= 200
    nodes = world.out("top", "nodes", "--no-headers").splitlines()
    assert len(nodes) == len(world.get("nodes")["items"])
    assert "v1beta1.metrics.k8s.io" in world.out("get", "apiservices")


def test_an_autoscaler_scales_by_the_load_of_its_pods(world: Commands) -> None:
    world.until(lambda: world.get("deployment", "load", "-n", NAMESPACE)["status"].get("readyReplicas") == 2, 60)
    status = world.get("hpa", "load", "-n", NAMESPACE)["status"]
    shown = {one["resource"]["name"]: one["resource"]["current"] for one in status["currentMetrics"]}
    assert shown["cpu"]["averageUtilization"] > 80
    assert shown["memory"]["averageUtilization"] < 90


def _ask(address: str, path: str, token: str) -> int:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    request = urllib.request.Request(f"https://{address}:10250{path}")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, context=context, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return int(error.code)


def test_a_service_account_sees_what_it_may_see(world: Commands) -> None:
    world.kubectl("create", "-n", NAMESPACE, "serviceaccount", "scraper")
    world.kubectl("create", "clusterrole", "e2e-scraper", "--verb=get", "--resource=nodes/metrics,nodes/pods")
    account = f"--serviceaccount={NAMESPACE}:scraper"
    world.kubectl("create", "clusterrolebinding", "e2e-scraper", "--clusterrole=e2e-scraper", account)
    token = world.out("create", "-n", NAMESPACE, "token", "scraper")
    node = world.get("nodes")["items"][0]
    address = next(one["address"] for one in node["status"]["addresses"] if one["type"] == "InternalIP")
    try:
        asked = {path: _ask(address, path, token) for path in ("/metrics", "/pods", "/stats/summary", "/configz")}
        assert asked == {"/metrics": 200, "/pods": 200, "/stats/summary": 403, "/configz": 403}
        assert _ask(address, "/metrics", "") == 401
        assert _ask(address, "/metrics", "not.a.token") == 401
    finally:
        world.kubectl("delete", "clusterrole,clusterrolebinding", "e2e-scraper")
