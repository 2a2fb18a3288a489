"""Real static pods, pods that restart as a whole, sidecars that end in order, and a critical pod on a full node."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.commands import Commands

pytestmark = pytest.mark.e2e

NAME = "static"
CONTEXT = ("--context", f"tiphys-{NAME}")
MIRROR = "web-node-1"


def container(name: str, script: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "image": "busybox",
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
        **more,
    }


def pod(name: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    whole = {"containers": list(containers), "terminationGracePeriodSeconds": 2, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": whole}


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("manifests")


@pytest.fixture(scope="module")
def node(
    machine: Commands, images: list[Path], manifests: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Commands]:
    configuration = tmp_path_factory.mktemp("kubelet") / "kubelet.yaml"
    settings = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "staticPodPath": str(manifests),
    }
    configuration.write_text(json.dumps(settings))
    write(manifests, "sleep 3600")
    words = ("--image", str(images[0]), "--kubelet-config", str(configuration), "--keep-context")
    machine.tiphys("up", NAME, *words)
    yield machine
    machine.tiphys("delete", NAME)


def write(manifests: Path, script: str) -> None:
    draft = manifests / ".web.json"
    draft.write_text(json.dumps(pod("web", container("main", script))))
    draft.rename(manifests / "web.json")


def show(node: Commands, *words: str) -> Any:
    return json.loads(node.kubectl(*CONTEXT, "get", *words, "-o", "json").stdout)


def apply(node: Commands, made: dict[str, Any]) -> None:
    node.kubectl(*CONTEXT, "apply", "-f", "-", stdin=json.dumps(made))


def wait(node: Commands, condition: str, name: str, timeout: str = "60s") -> None:
    node.kubectl(*CONTEXT, "wait", f"--for={condition}", f"pod/{name}", f"--timeout={timeout}")


def find(node: Commands) -> dict[str, Any]:
    """The mirror pod, {} while there is none."""
    answer = node.kubectl(*CONTEXT, "get", "pod", MIRROR, "-o", "json", check=False)
    found: dict[str, Any] = json.loads(answer.stdout) if answer.returncode == 0 else {}
    return found


def uid_of(node: Commands) -> str:
    return str(find(node).get("metadata", {}).get("uid", ""))


def container_of(node: Commands) -> str:
    """The ID of the one container, once it runs."""
    [status] = find(node).get("status", {}).get("containerStatuses") or [{}]
    return str(status.get("containerID", "")) if "running" in status.get("state", {}) else ""


def kill_node(node: Commands) -> None:
    status = json.loads(node.tiphys("status", NAME, "-o", "json", check=False).stdout)
    pid = next(item["pid"] for item in status["components"] if item["component"] == "node-1")
    os.kill(pid, signal.SIGKILL)


def test_a_static_pod_outlives_its_mirror_and_its_kubelet(node: Commands) -> None:
    node.until(lambda: container_of(node))
    first, running = uid_of(node), container_of(node)
    node.kubectl(*CONTEXT, "delete", "pod", MIRROR, "--wait=false")
    node.until(lambda: uid_of(node) not in ("", first))
    node.until(lambda: container_of(node) == running)
    second = uid_of(node)
    kill_node(node)
    node.tiphys("up", NAME, "--keep-context")
    node.until(lambda: container_of(node) == running)
    assert uid_of(node) == second
    assert node.kubectl(*CONTEXT, "exec", MIRROR, "--", "hostname").stdout == f"{MIRROR}\n"


def test_a_changed_manifest_is_another_pod_and_none_is_none(node: Commands, manifests: Path) -> None:
    node.until(lambda: container_of(node))
    first, running = uid_of(node), container_of(node)
    write(manifests, "sleep 3601")
    node.until(lambda: container_of(node) not in ("", running))
    assert uid_of(node) != first
    (manifests / "web.json").unlink()
    node.until(lambda: not find(node))


def test_a_rule_restarts_the_whole_pod_with_its_volumes(node: Commands) -> None:
    rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}
    script = "if [ -f /mnt/seen ]; then sleep 3600; fi; touch /mnt/seen; exit 42"
    source = container(
        "source",
        script,
        restartPolicy="Never",
        restartPolicyRules=[rule],
        volumeMounts=[{"name": "data", "mountPath": "/mnt"}],
    )
    other = container("other", "trap 'exit 0' TERM; while true; do sleep 0.1; done")
    inits = [container("setup", "true")]
    apply(
        node,
        pod(
            "all",
            source,
            other,
            initContainers=inits,
            volumes=[{"name": "data", "emptyDir": {}}],
            restartPolicy="Never",
        ),
    )

    def restarted() -> bool:
        status = show(node, "pod", "all")["status"]
        entries = [*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ())]
        return len(entries) == 3 and all(entry["restartCount"] == 1 for entry in entries)

    node.until(restarted)
    wait(node, "condition=Ready", "all")
    status = show(node, "pod", "all")["status"]
    found = {one["type"]: one["status"] for one in status["conditions"]}
    assert found["AllContainersRestarting"] == "False"
    assert status["containerStatuses"][0]["lastState"]["terminated"]["reason"] == "RestartingAllContainers"


def test_sidecars_end_after_the_main_container_and_their_hooks_run_at_once(node: Commands) -> None:
    tell = "echo $(date +%s) {0} >> /mnt/story"
    mount = {"volumeMounts": [{"name": "data", "mountPath": "/mnt"}]}

    def ends(name: str, seconds: int) -> str:
        return f"trap 'sleep {seconds}; {tell.format(name)}; exit 0' TERM; while true; do sleep 0.1; done"

    hook = {"preStop": {"exec": {"command": ["sh", "-c", tell.format("hook")]}}}
    sides = [container(name, ends(name, 0), restartPolicy="Always", **mount) for name in ("one", "two")]
    sides[0]["lifecycle"] = hook
    volumes = [{"name": "data", "hostPath": {"path": str(node.home / "story"), "type": "DirectoryOrCreate"}}]
    made = pod("ordered", container("main", ends("main", 1), **mount), initContainers=sides, volumes=volumes)
    made["spec"]["terminationGracePeriodSeconds"] = 20
    apply(node, made)
    wait(node, "condition=Ready", "ordered")
    node.kubectl(*CONTEXT, "delete", "pod", "ordered")
    story = (node.home / "story" / "story").read_text().split()[1::2]
    assert story == ["hook", "main", "two", "one"]


def test_a_critical_pod_finds_room_on_a_full_node(node: Commands) -> None:
    cores = float(show(node, "node", "node-1")["status"]["allocatable"]["cpu"])
    request = {"resources": {"requests": {"cpu": f"{int(cores * 600)}m"}}}
    apply(node, pod("filler", container("main", "sleep 3600", **request)))
    wait(node, "condition=Ready", "filler")
    critical = pod("critical", container("main", "sleep 3600", **request), nodeName="node-1")
    critical["metadata"]["namespace"] = "kube-system"
    critical["spec"]["priorityClassName"] = "system-node-critical"
    apply(node, critical)
    node.kubectl(*CONTEXT, "-n", "kube-system", "wait", "--for=condition=Ready", "pod/critical", "--timeout=60s")
    status = show(node, "pod", "filler")["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "Preempting")
    told = next(one for one in status["conditions"] if one["type"] == "DisruptionTarget")
    assert told["reason"] == "TerminationByKubelet"
