"""What becomes of volumes whose claims have gone, and of volumes that the control plane makes itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tiphys.base.errors import NotFound
from tiphys.client.resources import EVENTS, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, STORAGE_CLASSES
from tiphys.client.types import Object
from tiphys.controllers import volume_plugins, volume_reclaimer
from tiphys.testing.cluster import Cluster
from volume_world import (
    NS,
    claim,
    claim_in,
    create,
    get_volume,
    in_cluster,
    marked,
    pod,
    storage_class,
    told,
    volume,
    volume_in,
)

RECYCLER = "recycler-for-disk"


async def release(cluster: Cluster, **spec: Any) -> None:
    """A volume whose claim is deleted."""
    await create(cluster, volume(**spec), claim())
    await claim_in(cluster, "Bound")
    await cluster.client.delete(PERSISTENT_VOLUME_CLAIMS, "data", NS)
    await cluster.wait_gone(PERSISTENT_VOLUME_CLAIMS, NS, "data")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place where host paths are made and deleted."""
    monkeypatch.setattr(volume_plugins, "HOST_PATH_ROOT", f"{tmp_path}/")
    monkeypatch.setattr("tiphys.controllers.volume_provisioner.HOST_PATH_ROOT", f"{tmp_path}/")
    return tmp_path


def test_a_host_path_is_deleted_with_its_volume(root: Path) -> None:
    (root / "disk" / "deep").mkdir(parents=True)
    (root / "disk" / "deep" / "file").write_text("data")

    async def scenario(cluster: Cluster) -> None:
        await release(cluster, hostPath={"path": f"{root}/disk"}, persistentVolumeReclaimPolicy="Delete")
        await cluster.wait_gone(PERSISTENT_VOLUMES, "", "disk")

    in_cluster(scenario)
    assert list(root.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (
            {"hostPath": {"path": "/elsewhere/disk"}},
            "host_path deleter only supports /tmp/.+ but received provided /elsewhere/disk",
        ),
        (
            {"nfs": {"server": "s", "path": "/p"}},
            'error getting deleter volume plugin for volume "disk": no deletable volume plugin matched',
        ),
        (
            {"iscsi": {"targetPortal": "1.2.3.4:3260", "iqn": "iqn.2001-04.com.example:storage", "lun": 0}},
            'error getting deleter volume plugin for volume "disk": no volume plugin matched',
        ),
    ],
)
def test_a_volume_that_cannot_be_deleted_says_why(source: dict[str, Any], why: str) -> None:
    async def scenario(cluster: Cluster) -> None:
        await release(cluster, **source, persistentVolumeReclaimPolicy="Delete")
        failed = await volume_in(cluster, "Failed")
        assert failed["status"]["message"] == why
        assert await told(cluster, "disk", "VolumeFailedDelete") == [("Warning", why)]
        await cluster.clock.sleep(600)
        assert await get_volume(cluster) == failed

    in_cluster(scenario)


def test_what_a_driver_made_is_left_to_the_driver() -> None:
    async def scenario(cluster: Cluster) -> None:
        await release(cluster, csi={"driver": "d", "volumeHandle": "h"}, persistentVolumeReclaimPolicy="Delete")
        released = await volume_in(cluster, "Released")
        await cluster.clock.sleep(600)
        assert await get_volume(cluster) == released

    in_cluster(scenario)


def ended(phase: str, message: str = "") -> dict[str, Any]:
    return {"status": {"phase": phase, **({"message": message} if message else {})}}


async def end(cluster: Cluster, phase: str, message: str = "") -> None:
    await cluster.wait(PODS, NS, RECYCLER)
    await cluster.client.patch(PODS, RECYCLER, ended(phase, message), NS, subresource="status")


def test_a_recycled_volume_is_emptied_by_a_pod_and_free_again() -> None:
    async def scenario(cluster: Cluster) -> None:
        await release(cluster, size="5Gi", persistentVolumeReclaimPolicy="Recycle")
        await volume_in(cluster, "Released")
        scrubber = await cluster.wait(PODS, NS, RECYCLER)
        assert scrubber["spec"]["activeDeadlineSeconds"] == 150
        assert scrubber["spec"]["volumes"][0]["hostPath"]["path"] == "/srv/disk"
        assert scrubber["spec"]["restartPolicy"] == "Never"
        pulling = event_about(scrubber, "Pulling image")
        await cluster.client.create(EVENTS, pulling, NS)
        await cluster.clock.sleep(1)
        await end(cluster, "Succeeded")
        free = await volume_in(cluster, "Available")
        assert "claimRef" not in free["spec"]
        assert "annotations" not in free["metadata"]
        assert await told(cluster, "disk", "VolumeRecycled") == [("Normal", "Volume recycled")]
        assert ("Normal", "Recycler pod: Pulling image") in await told(cluster, "disk", "RecyclerPod")
        await cluster.wait_gone(PODS, NS, RECYCLER)
        await create(cluster, claim())
        await claim_in(cluster, "Bound")

    in_cluster(scenario, binder="")


def event_about(about: Object, message: str) -> Object:
    meta = about["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "one", "namespace": NS},
        "involvedObject": {"kind": "Pod", "namespace": NS, "name": meta["name"], "uid": meta["uid"]},
        "type": "Normal",
        "reason": "Pulling",
        "message": message,
    }


def test_a_volume_that_could_not_be_recycled_fails_and_is_tried_again() -> None:
    async def scenario(cluster: Cluster) -> None:
        await release(cluster, persistentVolumeReclaimPolicy="Recycle")
        await end(cluster, "Failed", "the disk is full")
        failed = await volume_in(cluster, "Failed")
        assert failed["status"]["message"] == "Recycle failed: failed to recycle volume: the disk is full"
        await end(cluster, "Succeeded")
        free = await volume_in(cluster, "Available")
        assert "message" not in free["status"]

    in_cluster(scenario, binder="")


def test_a_volume_that_nobody_can_recycle_fails() -> None:
    async def scenario(cluster: Cluster) -> None:
        await release(cluster, csi={"driver": "d", "volumeHandle": "h"}, persistentVolumeReclaimPolicy="Recycle")
        failed = await volume_in(cluster, "Failed")
        assert failed["status"]["message"] == "No recycler plugin found for the volume!"

    in_cluster(scenario)


def test_a_volume_is_not_recycled_while_a_pod_uses_it() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, volume(persistentVolumeReclaimPolicy="Recycle"), claim())
        await claim_in(cluster, "Bound")
        await cluster.client.create(PODS, pod("user", "data"))
        await cluster.client.delete(PERSISTENT_VOLUME_CLAIMS, "data", NS)
        await volume_in(cluster, "Released")
        message = f"Volume is used by pods: {NS}/user"
        assert await told(cluster, "disk", "VolumeFailedRecycle") == [("Normal", message)]
        assert not await cluster.exists(PODS, NS, RECYCLER)
        await cluster.client.delete(PODS, "user", NS, grace_seconds=0)
        await cluster.wait(PODS, NS, RECYCLER)

    in_cluster(scenario, binder="")


def test_the_pod_that_empties_volumes_may_be_another_one(tmp_path: Path) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text("""
metadata: {namespace: kube-system, generateName: x-, labels: {mine: "yes"}}
spec:
  containers: [{name: c, image: busybox, volumeMounts: [{name: v, mountPath: /scrub}]}]
  volumes: [{name: v}, {name: other, emptyDir: {}}]
""")
    settings = {"root-ca": "none", "pv-recycler-pod-template-filepath-hostpath": str(file)}

    async def scenario(cluster: Cluster) -> None:
        await release(cluster, persistentVolumeReclaimPolicy="Recycle")
        scrubber = await cluster.wait(PODS, "kube-system", RECYCLER)
        assert scrubber["metadata"]["labels"] == {"mine": "yes"}
        assert scrubber["spec"]["containers"][0]["image"] == "busybox"
        assert [each["name"] for each in scrubber["spec"]["volumes"]][:2] == ["v", "other"]
        assert scrubber["spec"]["volumes"][0]["hostPath"]["path"] == "/srv/disk"

    in_cluster(scenario, binder="", settings=settings)


def test_a_recycler_that_an_earlier_manager_left_is_replaced() -> None:
    async def scenario(cluster: Cluster) -> None:
        old = {**pod(RECYCLER, "other"), "metadata": {"name": RECYCLER, "namespace": NS, "labels": {"old": "yes"}}}
        await cluster.client.create(PODS, old)
        await release(cluster, persistentVolumeReclaimPolicy="Recycle")
        failed = await volume_in(cluster, "Failed")
        assert failed["status"]["message"] == "Recycle failed: old recycler pod found, will retry later"
        await cluster.wait(PODS, NS, RECYCLER, lambda o: "labels" not in o["metadata"])
        await end(cluster, "Succeeded")
        await volume_in(cluster, "Available")

    in_cluster(scenario, binder="")


def test_directories_are_provisioned_where_that_is_switched_on(root: Path) -> None:
    settings = {"enable-hostpath-provisioner": True, "root-ca": "none"}

    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STORAGE_CLASSES, storage_class("host", "kubernetes.io/host-path"))
        await create(cluster, claim(storageClassName="host"))
        bound = await claim_in(cluster, "Bound")
        name = f"pvc-{bound['metadata']['uid']}"
        assert bound["spec"]["volumeName"] == name
        made = await get_volume(cluster, name)
        assert made["metadata"]["annotations"] == {
            "kubernetes.io/createdby": "hostpath-dynamic-provisioner",
            "pv.kubernetes.io/bound-by-controller": "yes",
            "pv.kubernetes.io/provisioned-by": "kubernetes.io/host-path",
        }
        assert "kubernetes.io/pv-controller" in made["metadata"]["finalizers"]
        path = Path(made["spec"]["hostPath"]["path"])
        assert path.is_dir()
        message = f"Successfully provisioned volume {name} using kubernetes.io/host-path"
        assert await told(cluster, "data", "ProvisioningSucceeded") == [("Normal", message)]
        await cluster.client.delete(PERSISTENT_VOLUME_CLAIMS, "data", NS)
        await cluster.wait_gone(PERSISTENT_VOLUMES, "", name)
        assert not path.exists()

    in_cluster(scenario, settings=settings)


def test_a_disk_that_fails_for_a_while_delays_deleting_and_provisioning(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = volume_reclaimer.remove_path, [OSError("the disk sulks")] * 3

    def sulking(path: str) -> None:
        if failures:
            raise failures.pop()
        real(path)

    monkeypatch.setattr(volume_reclaimer, "remove_path", sulking)
    settings = {"enable-hostpath-provisioner": True, "root-ca": "none"}
    (root / "hostpath_pv").write_text("in the way")

    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STORAGE_CLASSES, storage_class("host", "kubernetes.io/host-path"))
        await create(cluster, claim(storageClassName="host"))
        failed = await told(cluster, "data", "ProvisioningFailed")
        why = 'Failed to provision volume with StorageClass "host": '
        assert {(type, message.startswith(why)) for type, message in failed} == {("Warning", True)}
        assert len(failed) < 4, "it tries again and again without a pause"
        (root / "hostpath_pv").unlink()
        name = (await claim_in(cluster, "Bound"))["spec"]["volumeName"]
        await cluster.client.delete(PERSISTENT_VOLUME_CLAIMS, "data", NS)
        await cluster.wait_gone(PERSISTENT_VOLUMES, "", name)
        assert await told(cluster, name, "VolumeFailedDelete") == [("Warning", "the disk sulks")]

    in_cluster(scenario, settings=settings)


def test_what_the_host_cannot_provide_is_said(root: Path) -> None:
    settings = {"enable-hostpath-provisioner": True, "root-ca": "none"}
    node = {"volume.kubernetes.io/selected-node": "nowhere"}

    async def scenario(cluster: Cluster) -> None:
        host = "kubernetes.io/host-path"
        await cluster.client.create(STORAGE_CLASSES, storage_class("host", host))
        await cluster.client.create(STORAGE_CLASSES, storage_class("options", host, mountOptions=["a", "b"]))
        await create(
            cluster,
            claim("block", storageClassName="host", volumeMode="Block"),
            claim("options", storageClassName="options"),
            marked(claim("node", storageClassName="host"), **node),
            claim("copy", storageClassName="host", dataSource={"kind": "PersistentVolumeClaim", "name": "block"}),
        )
        failed = 'Failed to provision volume with StorageClass "host": '
        assert await told(cluster, "block", "ProvisioningFailed") == [
            ("Warning", f"{failed}{host} does not support block volume provisioning")
        ]
        assert await told(cluster, "options", "ProvisioningFailed") == [
            (
                "Warning",
                'Mount options are not supported by the provisioner but StorageClass "options" has mount options [a b]',
            )
        ]
        assert await told(cluster, "node", "ProvisioningFailed") == [
            ("Warning", 'Failed to get target node: node "nowhere" not found')
        ]
        assert await told(cluster, "copy", "ProvisioningFailed") == [
            (
                "Warning",
                f'plugin "{host}" is not a CSI plugin. Only CSI plugin can provision a claim with a datasource',
            )
        ]

    in_cluster(scenario, settings=settings)
    assert not (root / "hostpath_pv").exists()


def test_without_dynamic_provisioning_claims_just_wait() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STORAGE_CLASSES, storage_class("fast"))
        await create(cluster, claim(storageClassName="fast"))
        await cluster.clock.sleep(60)
        waiting = await cluster.client.get(PERSISTENT_VOLUME_CLAIMS, "data", NS)
        assert "annotations" not in waiting["metadata"]

    in_cluster(scenario, settings={"enable-dynamic-provisioning": False, "root-ca": "none"})


def test_finalizers_follow_who_deletes_the_volume() -> None:
    provisioned = {"pv.kubernetes.io/provisioned-by": "kubernetes.io/host-path"}
    ours = "kubernetes.io/pv-controller"

    async def scenario(cluster: Cluster) -> None:
        await create(cluster, marked(volume(persistentVolumeReclaimPolicy="Delete"), **provisioned))
        added = await cluster.wait(PERSISTENT_VOLUMES, "", "disk", lambda o: ours in o["metadata"]["finalizers"])
        await cluster.client.update(
            PERSISTENT_VOLUMES, {**added, "spec": {**added["spec"], "persistentVolumeReclaimPolicy": "Retain"}}
        )
        await cluster.wait(PERSISTENT_VOLUMES, "", "disk", lambda o: ours not in o["metadata"]["finalizers"])

    in_cluster(scenario)


def test_a_volume_that_vanishes_while_it_is_recycled_is_forgotten() -> None:
    async def scenario(cluster: Cluster) -> None:
        await release(cluster, persistentVolumeReclaimPolicy="Recycle")
        await cluster.wait(PODS, NS, RECYCLER)
        await cluster.client.delete(PERSISTENT_VOLUMES, "disk")
        await cluster.wait_gone(PERSISTENT_VOLUMES, "", "disk")
        await end(cluster, "Succeeded")
        await cluster.wait_gone(PODS, NS, RECYCLER)
        await cluster.clock.sleep(60)
        with pytest.raises(NotFound):
            await get_volume(cluster)

    in_cluster(scenario, binder="")
