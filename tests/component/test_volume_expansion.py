"""Claims that grow, and claims that are made for pods."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.client.resources import PERSISTENT_VOLUME_CLAIMS, PODS, RESOURCE_QUOTAS, STORAGE_CLASSES
from tiphys.testing.cluster import Cluster
from volume_world import NS, change_claim, claim, claim_in, create, get_claim, in_cluster, storage_class, told, volume

MORE = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}


@pytest.mark.parametrize("source", ["csi", "hostPath"])
def test_a_claim_that_grows_waits_for_who_made_its_volume(source: str) -> None:
    given: dict[str, Any] = {"csi": {"driver": "d", "volumeHandle": "h"}} if source == "csi" else {}

    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STORAGE_CLASSES, storage_class("fast", allowVolumeExpansion=True))
        await create(cluster, volume(storageClassName="fast", **given), claim(storageClassName="fast"))
        await claim_in(cluster, "Bound")
        assert await told(cluster, "data", "ExternalExpanding") == []
        await change_claim(cluster, MORE)
        message = "waiting for an external controller to expand this PVC"
        assert await told(cluster, "data", "ExternalExpanding") == [("Normal", message)]
        before = await get_claim(cluster)
        assert before["status"]["capacity"] == {"storage": "1Gi"}
        await cluster.clock.sleep(3600)
        assert await get_claim(cluster) == before

    in_cluster(scenario)


def test_a_claim_on_a_moved_plugins_volume_gets_the_name_of_the_driver() -> None:
    disk: dict[str, Any] = {"gcePersistentDisk": {"pdName": "d"}, "hostPath": None}

    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STORAGE_CLASSES, storage_class("fast", allowVolumeExpansion=True))
        await create(cluster, volume(storageClassName="fast", **disk), claim(storageClassName="fast"))
        await claim_in(cluster, "Bound")
        await change_claim(cluster, MORE)
        message = "CSI migration enabled for kubernetes.io/gce-pd; waiting for external resizer to expand the pvc"
        assert await told(cluster, "data", "ExternalExpanding") == [("Normal", message)]
        annotations = (await get_claim(cluster))["metadata"]["annotations"]
        assert annotations["volume.kubernetes.io/storage-resizer"] == "pd.csi.storage.gke.io"

    in_cluster(scenario)


def user(name: str, **metadata: Any) -> dict[str, Any]:
    """A pod with a generic ephemeral volume."""
    spec = claim()["spec"]
    template = {"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}, "spec": spec}
    volumes = [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NS, **metadata},
        "spec": {"containers": [{"name": "c", "image": "i"}], "volumes": volumes},
    }


def test_a_pod_gets_its_own_claim_which_goes_with_it() -> None:
    async def scenario(cluster: Cluster) -> None:
        pod = await cluster.client.create(PODS, user("web"))
        made = await cluster.wait(PERSISTENT_VOLUME_CLAIMS, NS, "web-scratch")
        assert made["metadata"]["ownerReferences"] == [
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": "web",
                "uid": pod["metadata"]["uid"],
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]
        assert made["metadata"]["labels"] == {"a": "b"}
        assert made["metadata"]["annotations"]["c"] == "d"
        assert made["spec"]["resources"] == {"requests": {"storage": "1Gi"}}
        await cluster.client.delete(PODS, "web", NS)
        await cluster.wait_gone(PERSISTENT_VOLUME_CLAIMS, NS, "web-scratch")

    in_cluster(scenario)


def test_a_claim_of_a_pod_that_somebody_deletes_is_made_again() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(PODS, user("web"))
        first = await cluster.wait(PERSISTENT_VOLUME_CLAIMS, NS, "web-scratch")
        await cluster.client.delete(PERSISTENT_VOLUME_CLAIMS, "web-scratch", NS)
        uid = first["metadata"]["uid"]
        await cluster.wait(PERSISTENT_VOLUME_CLAIMS, NS, "web-scratch", lambda o: o["metadata"]["uid"] != uid)

    in_cluster(scenario, binder="")


def test_a_claim_of_that_name_which_is_not_the_pods_is_left_alone() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, claim("web-scratch"))
        before = await get_claim(cluster, "web-scratch")
        await cluster.client.create(PODS, user("web"))
        message = f"ephemeral volume scratch: PVC {NS}/web-scratch was not created for pod {NS}/web (pod is not owner)"
        assert await told(cluster, "web", "FailedBinding") == [("Warning", message)]
        assert await get_claim(cluster, "web-scratch") == before
        await cluster.client.delete(PERSISTENT_VOLUME_CLAIMS, "web-scratch", NS)
        owned = await cluster.wait(
            PERSISTENT_VOLUME_CLAIMS, NS, "web-scratch", lambda o: bool(o["metadata"].get("ownerReferences"))
        )
        assert owned["metadata"]["uid"] != before["metadata"]["uid"]

    in_cluster(scenario, binder="")


def test_a_pod_that_is_being_deleted_gets_no_claim() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, claim("web-scratch"))
        await cluster.client.create(PODS, user("web", finalizers=["example.com/held"]))
        await cluster.client.delete(PODS, "web", NS)
        await cluster.client.delete(PERSISTENT_VOLUME_CLAIMS, "web-scratch", NS)
        await cluster.clock.sleep(600)
        assert not await cluster.exists(PERSISTENT_VOLUME_CLAIMS, NS, "web-scratch")

    in_cluster(scenario, binder="")


def test_a_claim_that_may_not_be_made_is_tried_again_until_it_may() -> None:
    async def scenario(cluster: Cluster) -> None:
        quota = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "none", "namespace": NS},
            "spec": {"hard": {"persistentvolumeclaims": "0"}},
        }
        await cluster.client.create(RESOURCE_QUOTAS, quota)
        await cluster.clock.sleep(5)
        await cluster.client.create(PODS, user("web"))
        ((type, message),) = set(await told(cluster, "web", "FailedBinding"))
        assert type == "Warning"
        assert message.startswith("ephemeral volume scratch: create PVC web-scratch: ")
        assert "exceeded quota: none" in message
        await cluster.client.delete(RESOURCE_QUOTAS, "none", NS)
        await cluster.wait(PERSISTENT_VOLUME_CLAIMS, NS, "web-scratch")

    in_cluster(scenario, binder="", controllers="*")
