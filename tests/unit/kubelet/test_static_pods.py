"""Manifests of static pods: what is made of them, what is refused, and how files are looked at."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tiphys.kubelet.staticpods.files import FileSource
from tiphys.kubelet.staticpods.manifest import ManifestError, is_mirror, is_static, mirror_of, mirrors, read_pods
from tiphys.testing.clock import VirtualClock

WEB = b"""apiVersion: v1
kind: Pod
metadata: {name: web, namespace: prod, labels: {app: web}}
spec:
  containers: [{name: main, image: busybox}]
"""


def read(text: bytes, kind: str = "file", origin: str = "/etc/web.yaml") -> dict[str, Any]:
    [pod] = read_pods(text, kind, origin, "node-1")
    return pod


def manifest(spec: str) -> bytes:
    return f"apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec: {spec}".encode()


def test_a_static_pod_is_named_after_its_node_and_known_by_its_hash() -> None:
    pod = read(WEB)
    meta = pod["metadata"]
    assert (meta["name"], meta["namespace"]) == ("web-node-1", "prod")
    assert meta["annotations"]["kubernetes.io/config.hash"] == meta["uid"]
    assert meta["annotations"]["kubernetes.io/config.source"] == "file"
    assert pod["spec"]["nodeName"] == "node-1"
    assert pod["spec"]["tolerations"] == [{"operator": "Exists", "effect": "NoExecute"}]
    assert pod["spec"]["containers"][0]["terminationMessagePath"] == "/dev/termination-log"
    assert is_static(pod)
    assert not is_mirror(pod)


def test_the_same_manifest_is_the_same_pod_and_another_file_another() -> None:
    assert read(WEB)["metadata"]["uid"] == read(WEB)["metadata"]["uid"]
    assert read(WEB)["metadata"]["uid"] != read(WEB, origin="/etc/other.yaml")["metadata"]["uid"]
    assert read(WEB)["metadata"]["uid"] != read(WEB.replace(b"busybox", b"nginx"))["metadata"]["uid"]


def test_a_url_may_have_a_list_and_gives_no_toleration() -> None:
    item = b'{"metadata":{"name":"a"},"spec":{"containers":[{"name":"c","image":"i"}]}}'
    text = b'{"kind":"PodList","apiVersion":"v1","items":[' + item + b"]}"
    pod = read(text, "http", "http://host/pods")
    assert pod["metadata"]["name"] == "a-node-1"
    assert "tolerations" not in pod["spec"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "it is no object"),
        (b"[]", "it is no object"),
        (b"a: [", "couldn't parse it"),
        (b"a: &a [*a]", "couldn't parse it"),
        (b"[" * 100_000, "couldn't parse it"),
        (b"\x00\xff", "couldn't parse it"),
        (b"apiVersion: v1\nkind: Service\nmetadata: {name: a}", "cannot be handled as a Pod"),
        (b"apiVersion: v1\nkind: Pod\nmetadata: 7", "cannot be handled as a Pod"),
        (b"apiVersion: v1\nkind: Pod\nmetadata: {}", "name is needed for the pod"),
        (b"apiVersion: v1\nkind: Pod\nmetadata: {name: a}", "spec.containers: Required value"),
        (
            b"apiVersion: v1\nkind: Pod\nmetadata: {name: A_B}\nspec: {containers: [{name: a, image: b}]}",
            "metadata.name",
        ),
        (WEB.replace(b"{name: web", b"{uid: ../../etc, name: web"), "cannot be a UID"),
        (b"#" * (11 << 20), "larger than"),
    ],
)
def test_what_is_no_pod_is_refused_with_the_reason(text: bytes, why: str) -> None:
    with pytest.raises(ManifestError, match=why.replace("(", r"\(")):
        read(text)


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("{serviceAccountName: x, containers: [{name: a, image: b}]}", "serviceaccounts"),
        ("{imagePullSecrets: [{name: x}], containers: [{name: a, image: b}]}", "secrets"),
        ("{containers: [{name: a, image: b, envFrom: [{secretRef: {name: x}}]}]}", "secrets"),
        (
            "{containers: [{name: a, image: b, env: [{name: K, valueFrom: {configMapKeyRef: {name: x, key: k}}}]}]}",
            "configmaps",
        ),
        ("{containers: [{name: a, image: b}], volumes: [{name: v, configMap: {name: x}}]}", "configmaps"),
        (
            "{containers: [{name: a, image: b}], volumes: [{name: v, persistentVolumeClaim: {claimName: x}}]}",
            "persistentvolumeclaims",
        ),
        ("{containers: [{name: a, image: b}], resourceClaims: [{name: v, resourceClaimName: x}]}", "resourceclaims"),
    ],
)
def test_static_pods_cannot_refer_to_objects_of_the_api(spec: str, kind: str) -> None:
    with pytest.raises(ManifestError, match=f"^static pods may not reference {kind}$"):
        read(manifest(spec))


def test_a_mirror_belongs_to_its_node_and_to_its_pod() -> None:
    pod = read(WEB)
    mirror = mirror_of(pod, "node-1", "node-uid")
    assert mirror["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "node-uid", "controller": True}
    ]
    assert "uid" not in mirror["metadata"]
    assert mirror["metadata"]["labels"] == {"app": "web"}
    assert is_mirror(mirror)
    assert mirrors(mirror, pod)
    assert not mirrors(mirror, read(WEB.replace(b"busybox", b"nginx")))


class Looks:
    """A FileSource and what it told last."""

    def __init__(self, path: Path) -> None:
        self.pods: list[dict[str, Any]] | None = None
        self.source = VirtualClock().run(self._make(path))

    async def _make(self, path: Path) -> FileSource:
        return FileSource(path, "node-1", VirtualClock(), 20, self._tell)

    def _tell(self, pods: list[dict[str, Any]]) -> None:
        self.pods = pods

    def names(self, patient: bool = True) -> list[str] | None:
        self.source.look(patient)
        return None if self.pods is None else [pod["metadata"]["name"] for pod in self.pods]


def test_files_of_a_directory_are_pods_and_hidden_ones_are_not(tmp_path: Path) -> None:
    looks = Looks(tmp_path)
    assert looks.names() == []
    (tmp_path / "a.yaml").write_bytes(WEB)
    (tmp_path / ".b.yaml").write_bytes(WEB.replace(b"name: web,", b"name: hidden,"))
    (tmp_path / "c.json").write_bytes(
        b'{"kind":"Pod","metadata":{"name":"c"},"spec":{"containers":[{"name":"c","image":"i"}]}}'
    )
    (tmp_path / "sub").mkdir()
    assert looks.names() == ["web-node-1", "c-node-1"]
    (tmp_path / "a.yaml").unlink()
    assert looks.names() == ["c-node-1"]


def test_one_bad_file_harms_no_other(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(WEB)
    (tmp_path / "bad.yaml").write_bytes(b"{{{")
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    assert Looks(tmp_path).names() == ["web-node-1"]


def test_a_file_that_is_being_written_keeps_its_pod_for_a_while(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(WEB)
    looks = Looks(tmp_path)
    assert looks.names() == ["web-node-1"]
    (tmp_path / "a.yaml").write_bytes(b"apiVersion: v1\nki")
    assert looks.names() == ["web-node-1"]
    assert looks.names() == ["web-node-1"]
    assert looks.names(patient=False) == []
    (tmp_path / "a.yaml").write_bytes(WEB)
    assert looks.names() == ["web-node-1"]


def test_the_path_may_be_one_file_and_may_be_missing(tmp_path: Path) -> None:
    looks = Looks(tmp_path / "web.yaml")
    assert looks.names() == []
    (tmp_path / "web.yaml").write_bytes(WEB)
    assert looks.names() == ["web-node-1"]
