"""Claims and volumes come together, and part."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.client.resources import EVENTS, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, STORAGE_CLASSES
from tiphys.testing.cluster import Cluster
from volume_world import (
    NS,
    change_claim,
    change_volume,
    claim,
    claim_in,
    create,
    get_claim,
    get_volume,
    in_cluster,
    marked,
    pod,
    storage_class,
    told,
    volume,
    volume_in,
)

COMPLETED = {"pv.kubernetes.io/bind-completed": "yes"}
OURS = {"pv.kubernetes.io/bound-by-controller": "yes"}


def test_a_claim_and_a_volume_are_bound_to_each_other() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, volume(modes=("ReadWriteOnce", "ReadOnlyMany"), size="2Gi"))
        free = await volume_in(cluster, "Available")
        assert free["status"]["lastPhaseTransitionTime"]
        await create(cluster, claim())
        bound = await claim_in(cluster, "Bound")
        assert bound["spec"]["volumeName"] == "disk"
        assert bound["metadata"]["annotations"] == {**COMPLETED, **OURS}
        assert bound["status"]["capacity"] == {"storage": "2Gi"}
        assert bound["status"]["accessModes"] == ["ReadWriteOnce", "ReadOnlyMany"]
        disk = await volume_in(cluster, "Bound")
        assert disk["metadata"]["annotations"] == OURS
        ref = disk["spec"]["claimRef"]
        assert (ref["kind"], ref["apiVersion"], ref["namespace"], ref["name"]) == (
            "PersistentVolumeClaim", "v1", NS, "data",
        )  # fmt: skip
        assert ref["uid"] == bound["metadata"]["uid"]

    in_cluster(scenario)


@pytest.mark.parametrize("first", ["claim", "volume"])
def test_whichever_comes_first_they_find_each_other_at_once(first: str) -> None:
    async def scenario(cluster: Cluster) -> None:
        both = [claim(), volume()]
        await create(cluster, both[first == "volume"])
        await cluster.clock.sleep(60)
        await create(cluster, both[first != "volume"])
        await claim_in(cluster, "Bound", timeout=2)

    in_cluster(scenario)


def test_the_smallest_volume_that_fits_is_taken() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, volume("tiny", "500Mi"), volume("large", "9Gi"), volume("right", "2Gi"))
        await volume_in(cluster, "Available", "right")
        await create(cluster, claim(size="1500Mi"))
        assert (await claim_in(cluster, "Bound"))["spec"]["volumeName"] == "right"

    in_cluster(scenario)


@pytest.mark.parametrize("first", ["claims", "volumes"])
def test_of_many_that_come_at_once_none_is_left_over(first: str) -> None:
    async def scenario(cluster: Cluster) -> None:
        claims, volumes = ([make(f"n{number}") for number in range(40)] for make in (claim, volume))
        await create(cluster, *(claims if first == "claims" else volumes))
        await create(cluster, *(volumes if first == "claims" else claims))
        for number in range(40):
            await claim_in(cluster, "Bound", f"n{number}", timeout=5)

    in_cluster(scenario)


def test_a_claim_without_any_volume_waits_and_is_told_why() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, claim(), volume("small", "1Mi"))
        message = "no persistent volumes available for this claim and no storage class is set"
        assert await told(cluster, "data", "FailedBinding") == [("Normal", message)]
        before = await get_claim(cluster)
        assert before["status"] == {"phase": "Pending"}
        await cluster.clock.sleep(3600)
        assert await get_claim(cluster) == before

    in_cluster(scenario)


def test_a_volume_that_is_kept_for_a_claim_goes_to_it_alone() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, volume(claimRef={"namespace": NS, "name": "data"}), claim("other"))
        assert (await volume_in(cluster, "Available"))["spec"]["claimRef"].get("uid") is None
        await create(cluster, claim())
        bound = await claim_in(cluster, "Bound")
        disk = await volume_in(cluster, "Bound")
        assert disk["spec"]["claimRef"]["uid"] == bound["metadata"]["uid"]
        assert "annotations" not in disk["metadata"]
        assert bound["metadata"]["annotations"] == {**COMPLETED, **OURS}
        assert (await get_claim(cluster, "other"))["status"]["phase"] == "Pending"

    in_cluster(scenario)


def test_a_claim_may_name_its_volume() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, claim(volumeName="disk"))
        await cluster.clock.sleep(30)
        assert (await get_claim(cluster))["status"]["phase"] == "Pending"
        await create(cluster, volume(), volume("smaller"))
        bound = await claim_in(cluster, "Bound")
        assert bound["metadata"]["annotations"] == COMPLETED
        assert (await volume_in(cluster, "Bound"))["metadata"]["annotations"] == OURS

    in_cluster(scenario)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"size": "2Gi"}, "requested PV is too small"),
        ({"modes": ("ReadWriteMany",)}, "incompatible accessMode"),
        ({"volumeMode": "Block"}, "incompatible volumeMode"),
        ({"storageClassName": "fast"}, "storageClassName does not match"),
        ({"volumeAttributesClassName": "gold"}, "volumeAttributesClassName does not match"),
    ],
)
def test_a_claim_is_not_bound_to_the_volume_it_names_if_that_does_not_fit(asked: dict[str, Any], why: str) -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, volume())
        await volume_in(cluster, "Available")
        await create(cluster, claim(volumeName="disk", **asked))
        message = f'Cannot bind to requested volume "disk": {why}'
        assert await told(cluster, "data", "VolumeMismatch") == [("Warning", message)]
        assert (await get_claim(cluster))["status"]["phase"] == "Pending"
        assert (await get_volume(cluster))["status"]["phase"] == "Available"

    in_cluster(scenario)


def test_a_claim_that_names_somebody_elses_volume_waits_until_it_is_free() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, volume(), claim("first"))
        await claim_in(cluster, "Bound", "first")
        await create(cluster, claim(volumeName="disk"))
        message = 'volume "disk" already bound to a different claim.'
        assert await told(cluster, "data", "FailedBinding") == [("Warning", message)]
        await cluster.client.delete(PERSISTENT_VOLUME_CLAIMS, "first", NS)
        await volume_in(cluster, "Released")
        await change_volume(cluster, {"spec": {"claimRef": None}})
        await claim_in(cluster, "Bound")

    in_cluster(scenario)


def test_classes_selectors_modes_and_attributes_decide_what_fits() -> None:
    async def scenario(cluster: Cluster) -> None:
        labelled = volume("labelled")
        labelled["metadata"]["labels"] = {"tier": "gold"}
        await create(
            cluster,
            volume("classed", storageClassName="fast"),
            volume("block", volumeMode="Block"),
            volume("many", modes=("ReadWriteOnce", "ReadWriteMany")),
            volume("attributes", csi={"driver": "d", "volumeHandle": "h"}, volumeAttributesClassName="gold"),
            labelled,
        )
        wanted = {
            "fast": claim("fast", storageClassName="fast"),
            "block": claim("block", volumeMode="Block"),
            "many": claim("many", modes=("ReadWriteMany",)),
            "attributes": claim("attributes", volumeAttributesClassName="gold"),
            "labelled": claim("labelled", selector={"matchLabels": {"tier": "gold"}}),
        }
        await create(cluster, *wanted.values())
        given = {name: (await claim_in(cluster, "Bound", name))["spec"]["volumeName"] for name in wanted}
        assert given == {**{name: name for name in wanted}, "fast": "classed"}
        attributes = (await get_claim(cluster, "attributes"))["status"]
        assert attributes["currentVolumeAttributesClassName"] == "gold"

    in_cluster(scenario)


def test_a_claim_does_not_take_a_volume_that_can_do_more_while_another_fits() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, volume("able", "1Gi", ("ReadWriteOnce", "ReadWriteMany")), volume("plain", "5Gi"))
        await volume_in(cluster, "Available", "plain")
        await create(cluster, claim())
        assert (await claim_in(cluster, "Bound"))["spec"]["volumeName"] == "plain"

    in_cluster(scenario)


def test_a_retained_volume_is_released_and_stays() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, volume(), claim())
        await claim_in(cluster, "Bound")
        await cluster.client.delete(PERSISTENT_VOLUME_CLAIMS, "data", NS)
        kept = await volume_in(cluster, "Released")
        assert kept["spec"]["claimRef"]["name"] == "data"
        await create(cluster, claim())
        await cluster.clock.sleep(60)
        assert (await get_claim(cluster))["status"]["phase"] == "Pending", "another claim got the data of the first"
        assert (await get_volume(cluster))["status"]["phase"] == "Released"
        await change_volume(cluster, {"spec": {"claimRef": None}})
        await claim_in(cluster, "Bound")

    in_cluster(scenario)


def test_a_claim_whose_volume_is_deleted_is_lost() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, volume(), claim())
        await claim_in(cluster, "Bound")
        await cluster.client.delete(PERSISTENT_VOLUMES, "disk")
        await cluster.clock.sleep(60)
        assert (await get_volume(cluster))["metadata"]["deletionTimestamp"], "a bound volume is protected"
        await change_volume(cluster, {"metadata": {"finalizers": None}})
        lost = await claim_in(cluster, "Lost")
        assert lost["status"] == {"phase": "Lost"}
        message = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
        assert await told(cluster, "data", "ClaimLost") == [("Warning", message)]

    in_cluster(scenario)


def test_a_claim_that_is_bound_to_anothers_volume_is_lost() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, volume(), claim("first"))
        await claim_in(cluster, "Bound", "first")
        await create(cluster, marked(claim(volumeName="disk"), **COMPLETED))
        await claim_in(cluster, "Lost")
        message = "Two claims are bound to the same volume, this one is bound incorrectly"
        assert await told(cluster, "data", "ClaimMisbound") == [("Warning", message)]
        assert (await get_claim(cluster, "first"))["status"]["phase"] == "Bound"

    in_cluster(scenario)


def test_a_bound_claim_whose_volume_comes_back_is_bound_again() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, volume(), claim())
        disk = (await claim_in(cluster, "Bound")) and await get_volume(cluster)
        await change_volume(cluster, {"metadata": {"finalizers": None}})
        await cluster.client.delete(PERSISTENT_VOLUMES, "disk")
        await claim_in(cluster, "Lost")
        await create(cluster, volume(claimRef=disk["spec"]["claimRef"]))
        await claim_in(cluster, "Bound")
        await volume_in(cluster, "Bound")

    in_cluster(scenario)


def test_a_reference_that_somebody_removed_from_a_bound_volume_is_restored() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, volume(), claim())
        bound = await claim_in(cluster, "Bound")
        await change_volume(cluster, {"spec": {"claimRef": None}})
        restored = await cluster.wait(PERSISTENT_VOLUMES, "", "disk", lambda o: bool(o["spec"].get("claimRef")))
        assert restored["spec"]["claimRef"]["uid"] == bound["metadata"]["uid"]

    in_cluster(scenario)


def test_a_volume_of_another_mode_that_refers_to_a_claim_is_not_bound() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, claim())
        uid = (await get_claim(cluster))["metadata"]["uid"]
        await create(cluster, volume(volumeMode="Block", claimRef={"namespace": NS, "name": "data", "uid": uid}))
        due = "due to incompatible volumeMode."
        of_claim = f'Cannot bind PersistentVolume "disk" to requested PersistentVolumeClaim {due}'
        of_volume = f'Cannot bind PersistentVolume to requested PersistentVolumeClaim "data" {due}'
        assert await told(cluster, "data", "VolumeMismatch") == [("Warning", of_claim)]
        assert await told(cluster, "disk", "VolumeMismatch") == [("Warning", of_volume)]

    in_cluster(scenario)


@pytest.mark.parametrize("mine", [True, False])
def test_a_volume_whose_claim_is_bound_elsewhere_is_given_up(mine: bool) -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, volume(), claim())
        uid = (await claim_in(cluster, "Bound"))["metadata"]["uid"]
        second = volume("second", claimRef={"namespace": NS, "name": "data", "uid": uid})
        await create(cluster, marked(second, **OURS) if mine else second)
        given = await volume_in(cluster, "Available", "second")
        assert given["spec"].get("claimRef") == (None if mine else {"namespace": NS, "name": "data"})
        assert (await get_claim(cluster))["spec"]["volumeName"] == "disk"

    in_cluster(scenario)


def test_a_claim_without_a_class_gets_the_default_one_when_there_is_one() -> None:
    default = {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}

    async def scenario(cluster: Cluster) -> None:
        await create(cluster, claim(storageClassName=None), claim("none"))
        await cluster.clock.sleep(10)
        await cluster.client.create(STORAGE_CLASSES, storage_class("standard", metadata=default))
        await cluster.wait(
            PERSISTENT_VOLUME_CLAIMS, NS, "data", lambda o: o["spec"].get("storageClassName") == "standard", 5
        )
        assert (await get_claim(cluster, "none"))["spec"]["storageClassName"] == ""

    in_cluster(scenario)


def test_where_binding_waits_for_a_consumer_events_say_for_whom() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STORAGE_CLASSES, storage_class("late", mode="WaitForFirstConsumer"))
        await create(cluster, volume(storageClassName="late"), claim(storageClassName="late"))
        first = "waiting for first consumer to be created before binding"
        assert await told(cluster, "data", "WaitForFirstConsumer") == [("Normal", first)]
        await cluster.client.create(PODS, pod("one", "data"))
        assert await told(cluster, "data", "WaitForPodScheduled") == [("Normal", "waiting for pod one to be scheduled")]
        await cluster.client.create(PODS, pod("two", "data"))
        messages = await told(cluster, "data", "WaitForPodScheduled")
        assert ("Normal", "waiting for pods one,two to be scheduled") in messages
        assert (await get_claim(cluster))["status"]["phase"] == "Pending"
        assert (await get_volume(cluster))["status"]["phase"] == "Available"
        # What a scheduler does when it has chosen a volume.
        uid = (await get_claim(cluster))["metadata"]["uid"]
        chosen = {"claimRef": {"namespace": NS, "name": "data", "uid": uid}}
        await change_volume(cluster, {"metadata": {"annotations": OURS}, "spec": chosen})
        await claim_in(cluster, "Bound")

    in_cluster(scenario, binder="")


def test_a_provisioner_outside_is_asked_and_what_it_makes_is_bound() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STORAGE_CLASSES, storage_class("fast"))
        await create(cluster, claim(storageClassName="fast"))
        name = "volume.kubernetes.io/storage-provisioner"
        asked = await cluster.wait(
            PERSISTENT_VOLUME_CLAIMS, NS, "data", lambda o: name in (o["metadata"].get("annotations") or {})
        )
        both = {name: "example.com/disks", "volume.beta.kubernetes.io/storage-provisioner": "example.com/disks"}
        assert asked["metadata"]["annotations"] == both
        message = (
            "Waiting for a volume to be created either by the external provisioner 'example.com/disks' or manually by "
            "the system administrator. If volume creation is delayed, please verify that the provisioner is running "
            "and correctly registered."
        )
        assert await told(cluster, "data", "ExternalProvisioning") == [("Normal", message)]
        ref = {"namespace": NS, "name": "data", "uid": asked["metadata"]["uid"]}
        made = volume("pvc-1", storageClassName="fast", claimRef=ref, persistentVolumeReclaimPolicy="Delete",
                      csi={"driver": "example.com", "volumeHandle": "h"})  # fmt: skip
        await create(cluster, marked(made, **{"pv.kubernetes.io/provisioned-by": "example.com/disks"}))
        assert (await claim_in(cluster, "Bound"))["spec"]["volumeName"] == "pvc-1"
        await cluster.client.delete(PERSISTENT_VOLUME_CLAIMS, "data", NS)
        await volume_in(cluster, "Released", "pvc-1")  # and its provisioner deletes it

    in_cluster(scenario)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (None, 'storageclass.storage.k8s.io "fast" not found'),
        ("kubernetes.io/no-provisioner", "no volume plugin matched name: kubernetes.io/no-provisioner"),
        ("kubernetes.io/nfs", "no provisionable volume plugin matched"),
        (
            "kubernetes.io/host-path",
            'Failed to create provisioner: provisioning in volume plugin "kubernetes.io/host-path" is disabled',
        ),
    ],
)
def test_a_claim_for_which_nobody_provisions_is_told_so(made: str | None, why: str) -> None:
    async def scenario(cluster: Cluster) -> None:
        if made is not None:
            await cluster.client.create(STORAGE_CLASSES, storage_class("fast", made))
        await create(cluster, claim(storageClassName="fast"))
        assert await told(cluster, "data", "ProvisioningFailed") == [("Warning", why)]
        await cluster.clock.sleep(10)
        await create(cluster, volume(storageClassName="fast"))
        await claim_in(cluster, "Bound")

    in_cluster(scenario)


def test_claims_of_a_plugin_that_a_driver_serves_now_name_the_driver() -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.client.create(STORAGE_CLASSES, storage_class("gp2", "kubernetes.io/aws-ebs"))
        await create(cluster, claim(storageClassName="gp2"))
        await cluster.clock.sleep(1)
        annotations = (await get_claim(cluster))["metadata"]["annotations"]
        assert annotations["volume.kubernetes.io/storage-provisioner"] == "ebs.csi.aws.com"
        ref = {"namespace": NS, "name": "data", "uid": (await get_claim(cluster))["metadata"]["uid"]}
        made = volume(storageClassName="gp2", claimRef=ref, persistentVolumeReclaimPolicy="Delete")
        await create(cluster, marked(made, **{"pv.kubernetes.io/provisioned-by": "kubernetes.io/aws-ebs"}))
        await claim_in(cluster, "Bound")
        marks = (await get_volume(cluster))["metadata"]["annotations"]
        assert marks["pv.kubernetes.io/migrated-to"] == "ebs.csi.aws.com"
        await cluster.client.delete(PERSISTENT_VOLUME_CLAIMS, "data", NS)
        await volume_in(cluster, "Released")

    in_cluster(scenario)


def test_a_cluster_at_rest_is_not_written_to() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, volume(), claim(), volume("free", "1Mi"), claim("waits", "5Gi"))
        await claim_in(cluster, "Bound")
        await cluster.clock.sleep(30)
        before = await everything(cluster)
        await cluster.clock.sleep(1800)
        assert await everything(cluster) == before
        await change_claim(cluster, {"metadata": {"labels": {"touched": "yes"}}})
        await cluster.clock.sleep(60)
        after = await everything(cluster)
        assert len({key for key in after if after[key] != before.get(key)}) == 1

    in_cluster(scenario, nodes=0)


async def everything(cluster: Cluster) -> dict[str, str]:
    """The version of each claim, volume and event."""
    found = {}
    for resource in (PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, EVENTS):
        for each in (await cluster.client.list(resource)).items:
            found[f"{resource.plural}/{each['metadata']['name']}"] = each["metadata"]["resourceVersion"]
    return found
