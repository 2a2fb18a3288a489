"""Where the files of pods come from: images as volumes, memory, files of init containers, disks, private registries."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.commands import Commands
from e2e.registry import serving
from tiphys.kubelet.volumes.mounts import mount_points

pytestmark = pytest.mark.e2e

NAMESPACE = "node-volumes"
NODE = "node-1"


def pod(name: str, script: str, container: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    main = {"name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]}
    whole = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "containers": [main | (container or {})],
        **spec,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": whole}


def mounted(*mounts: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"volumeMounts": [{"name": name, "mountPath": path, **more} for name, path in mounts]}


TOKEN = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}
SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"k": "hidden"}}
FILE = {"fileKeyRef": {"volumeName": "v", "path": "env", "key": "NAME"}}
PRINTED = [
    (
        pod(
            "image",
            "/v/bin/busybox echo ran; (echo x > /v/new) 2>/dev/null || echo refused; ls /part/busybox",
            {
                "volumeMounts": [
                    {"name": "v", "mountPath": "/v"},
                    {"name": "v", "mountPath": "/part", "subPath": "bin"},
                ],
                "securityContext": {"runAsUser": 1000},
            },
            volumes=[{"name": "v", "image": {"reference": "busybox", "pullPolicy": "Always"}}],
        ),
        "ran\nrefused\n/part/busybox",
    ),
    (
        pod(
            "in-memory",
            "for d in /s /p /m; do stat -f -c %T $d; done; df -k /m | awk 'END { print $2 }'",
            mounted(("s", "/s"), ("p", "/p"), ("m", "/m")),
            volumes=[
                {"name": "s", "secret": {"secretName": "key"}},
                {"name": "p", "projected": {"sources": [TOKEN]}},
                {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            ],
        ),
        "tmpfs\ntmpfs\ntmpfs\n1024",
    ),
    (
        pod(
            "token-of-a-user",
            "stat -L -c '%u %g %a' /p/token",
            mounted(("p", "/p")),
            securityContext={"runAsUser": 1000, "fsGroup": 2000},
            volumes=[{"name": "p", "projected": {"sources": [TOKEN]}}],
        ),
        "1000 2000 640",
    ),
    (
        pod(
            "file-key",
            "echo $A $B",
            {
                "env": [
                    {"name": "A", "valueFrom": FILE},
                    {"name": "B", "valueFrom": {"fileKeyRef": {**FILE["fileKeyRef"], "key": "X", "optional": True}}},
                ]
            },
            volumes=[{"name": "v", "emptyDir": {}}],
            initContainers=[
                {
                    "name": "i",
                    "image": "busybox",
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sh", "-c", "echo \"NAME='from a file'\" > /v/env"],
                    **mounted(("v", "/v")),
                }
            ],
        ),
        "from a file",
    ),
    (
        pod(
            "nested",
            "cat /s/k /s/inner/f",
            {**mounted(("s", "/s"), ("e", "/s/inner")), "lifecycle": {}},
            volumes=[{"name": "s", "secret": {"secretName": "key"}}, {"name": "e", "emptyDir": {}}],
            initContainers=[
                {
                    "name": "i",
                    "image": "busybox",
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sh", "-c", "echo inner > /e/f"],
                    **mounted(("e", "/e")),
                }
            ],
        ),
        "hiddeninner",
    ),
]


@pytest.fixture(scope="module")
def space(cluster: Commands) -> Iterator[Commands]:
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("create", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(SECRET))
    yield cluster
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def create(space: Commands, *objects: Any) -> None:
    for made in objects:
        space.kubectl("create", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(made))


def test_what_containers_find(space: Commands) -> None:
    create(space, {"apiVersion": "v1", "kind": "List", "items": [made for made, _ in PRINTED]})
    for made, text in PRINTED:
        name = made["metadata"]["name"]
        space.kubectl("wait", "-n", NAMESPACE, f"pod/{name}", "--for=jsonpath={.status.phase}=Succeeded")
        assert (name, space.out("logs", "-n", NAMESPACE, name)) == (name, text)


def reason(space: Commands, name: str) -> str:
    path = "{.status.containerStatuses[0].state.waiting.reason}"
    return space.out("get", "pod", "-n", NAMESPACE, name, "-o", f"jsonpath={path}")


def test_a_private_image_is_for_those_with_its_secret(space: Commands, images: list[Path]) -> None:
    with serving(images[0], "team/private", "1", "jane:secret") as port:
        image = {"image": f"127.0.0.1:{port}/team/private:1"}
        words = (f"--docker-server=127.0.0.1:{port}", "--docker-username=jane", "--docker-password=secret")
        space.kubectl("create", "secret", "-n", NAMESPACE, "docker-registry", "jane", *words)
        create(space, pod("with", "echo in", image, imagePullSecrets=[{"name": "jane"}], nodeName=NODE))
        space.kubectl("wait", "-n", NAMESPACE, "pod/with", "--for=jsonpath={.status.phase}=Succeeded")
        create(space, pod("without", "echo in", image, nodeName="node-2"))
        space.until(lambda: reason(space, "without") in ("ErrImagePull", "ImagePullBackOff"))
        create(space, pod("never", "echo in", {**image, "imagePullPolicy": "Never"}, nodeName=NODE))
        space.until(lambda: reason(space, "never") == "ErrImageNeverPull")


def claimed(name: str, mode: str, path: str, container: dict[str, Any]) -> list[dict[str, Any]]:
    """A PersistentVolume, its claim and the pod that has it; all of one name."""
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}
    common = {"storageClassName": "", "volumeMode": mode, "accessModes": ["ReadWriteOnce"]}
    disk = {
        **common,
        "capacity": {"storage": "16Mi"},
        "local": {"path": path},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
    }
    claim = {**common, "volumeName": name, "resources": {"requests": {"storage": "16Mi"}}}
    volumes = [{"name": "d", "persistentVolumeClaim": {"claimName": name}}]
    made = pod(name, "sleep 1000", container, volumes=volumes, securityContext={"fsGroup": 555})
    return [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": disk},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": claim},
        made,
    ]


@pytest.fixture
def loops(tmp_path: Path) -> Iterator[list[str]]:
    """Two small block devices."""
    if not all(shutil.which(tool) for tool in ("losetup", "blkid", "mkfs.ext4")):
        pytest.skip("this machine has no tools for disks")
    found = []
    for name in ("a", "b"):
        with open(tmp_path / name, "wb") as file:
            file.truncate(16 << 20)
        done = subprocess.run(["losetup", "-f", "--show", tmp_path / name], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"this machine gives no loop devices: {done.stderr}")
        found.append(done.stdout.strip())
    yield found
    for device in found:
        subprocess.run(["losetup", "-d", device], check=True)


def test_disks_are_formatted_mounted_handed_over_and_let_go(space: Commands, loops: list[str]) -> None:
    create(space, *claimed("disk", "Filesystem", loops[0], mounted(("d", "/d"))))
    create(space, *claimed("raw", "Block", loops[1], {"volumeDevices": [{"name": "d", "devicePath": "/dev/raw"}]}))
    try:
        space.kubectl("wait", "-n", NAMESPACE, "pod/disk", "pod/raw", "--for=condition=Ready")
        inside = ("exec", "-n", NAMESPACE, "disk", "--", "sh", "-c")
        assert space.out(*inside, "echo kept > /d/f; stat -f -c %T /d; stat -c %g /d").endswith("\n555")
        script = "echo written | dd of=/dev/raw 2>/dev/null; dd if=/dev/raw bs=7 count=1 2>/dev/null"
        assert space.out("exec", "-n", NAMESPACE, "raw", "--", "sh", "-c", script) == "written"
        assert Path(loops[1]).read_bytes()[:7] == b"written"
    finally:
        space.kubectl("delete", "-n", NAMESPACE, "pod", "disk", "raw", "--force")
        space.until(
            lambda: not [one for one in mount_points() if space.home in one.path.parents and one.kind == "ext4"]
        )
        for name in ("disk", "raw"):
            space.kubectl("delete", "pvc", "-n", NAMESPACE, name, "--wait=false")
            space.kubectl("delete", "pv", name, "--wait=false")
    assert b"kept" in Path(loops[0]).read_bytes()
