"""A real node that is short of room: limits of local storage, memory pressure, and its own graceful shutdown.

One cluster of its own whose one node shuts down gracefully; memory "runs out" by a threshold that is told anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.commands import Commands

pytestmark = pytest.mark.e2e

NAME = "pressure"
CONTEXT = ("--context", f"tiphys-{NAME}")
HEAD = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"


def pod(name: str, script: str = "sleep 3600", **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]}
    container |= spec.pop("container", {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 3, **spec},
    }


def fill(path: str) -> str:
    return f"dd if=/dev/zero of={path} bs=1M count=12; sleep 3600"


PODS = [
    pod(
        "fills-volume",
        fill("/data/x"),
        volumes=[{"name": "data", "emptyDir": {"sizeLimit": "10Mi"}}],
        container={"volumeMounts": [{"name": "data", "mountPath": "/data"}]},
    ),
    pod("fills-root", fill("/x"), container={"resources": {"limits": {"ephemeral-storage": "10Mi"}}}),
    pod("fills-log", "head -c 12000000 /dev/urandom | base64; sleep 3600"),
    pod("stays", fill("/x"), container={"resources": {"limits": {"ephemeral-storage": "100Mi"}}}),
]
PODS[2]["spec"]["containers"][0]["resources"] = {"limits": {"ephemeral-storage": "10Mi"}}


@pytest.fixture(scope="module")
def node(machine: Commands, images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    configuration = tmp_path_factory.mktemp("kubelet") / "kubelet.yaml"
    configuration.write_text(HEAD + "shutdownGracePeriod: 10s\nshutdownGracePeriodCriticalPods: 2s\n")
    words = ("--image", str(images[0]), "--kubelet-config", str(configuration), "--keep-context")
    machine.tiphys("up", NAME, *words)
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": PODS})
    machine.kubectl(*CONTEXT, "apply", "-f", "-", stdin=text)
    yield machine
    machine.tiphys("delete", NAME)


def show(node: Commands, *words: str) -> Any:
    return json.loads(node.kubectl(*CONTEXT, "get", *words, "-o", "json").stdout)


def failed(node: Commands, name: str, timeout: str = "60s") -> tuple[str, str]:
    """(reason, message) of a pod once it has failed."""
    node.kubectl(*CONTEXT, "wait", "--for=jsonpath={.status.phase}=Failed", f"pod/{name}", f"--timeout={timeout}")
    status = show(node, "pod", name)["status"]
    return status["reason"], status["message"]


def test_pods_that_exceed_their_own_storage_are_evicted_and_others_are_not(node: Commands) -> None:
    assert failed(node, "fills-volume") == ("Evicted", 'Usage of EmptyDir volume "data" exceeds the limit "10Mi". ')
    whole = ("Evicted", "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. ")
    assert failed(node, "fills-root") == whole
    assert failed(node, "fills-log") == whole
    assert show(node, "pod", "stays")["status"]["phase"] == "Running"
    assert len(show(node, "events", "--field-selector", "reason=Evicted")["items"]) == 3


def test_a_node_that_shuts_down_ends_its_pods_and_says_so(node: Commands) -> None:
    node.tiphys("node", "shutdown", "node-1", "--name", NAME)
    assert failed(node, "stays") == ("Terminated", "Pod was terminated in response to imminent node shutdown.")
    found = show(node, "node", "node-1")["status"]["conditions"]
    ready = next(one for one in found if one["type"] == "Ready")
    assert (ready["status"], ready["message"]) == ("False", "node is shutting down")


def test_memory_pressure_evicts_and_taints(node: Commands, tmp_path: Path) -> None:
    """After the shutdown the node starts again, with a threshold that no machine can meet."""
    configuration = tmp_path / "kubelet.yaml"
    configuration.write_text(HEAD + "evictionHard: {memory.available: 99%}\nkernelMemcgNotification: true\n")
    node.tiphys("down", NAME)
    node.tiphys("up", NAME, "--kubelet-config", str(configuration), "--keep-context")
    hog = pod("hog", tolerations=[{"operator": "Exists"}])
    node.kubectl(*CONTEXT, "apply", "-f", "-", stdin=json.dumps(hog))
    reason, message = failed(node, "hog")
    assert reason == "Evicted"
    assert message.startswith("The node was low on resource: memory. Threshold quantity: ")
    found = show(node, "node", "node-1")
    pressed = next(one for one in found["status"]["conditions"] if one["type"] == "MemoryPressure")
    assert (pressed["status"], pressed["reason"]) == ("True", "KubeletHasInsufficientMemory")
    assert "node.kubernetes.io/memory-pressure" in [taint["key"] for taint in found["spec"]["taints"]]
