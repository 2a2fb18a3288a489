"""Strange claims and volumes: those that nobody checked, and those that change under the controllers' hands."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tiphys.client.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES
from tiphys.client.types import Object
from tiphys.controllers.volume_binder_state import decide_claim, decide_volume
from tiphys.controllers.volume_binding import migrated_claim, migrated_volume
from tiphys.controllers.volume_matching import FreeVolumes, best_match, misfit
from tiphys.controllers.volume_plugins import NoPlugin, deleter_plugin, recycler_plugin
from tiphys.controllers.volume_protection import holds
from tiphys.controllers.volumes import claims_of
from tiphys.testing.cluster import Cluster
from volume_world import (
    NS,
    change_volume,
    claim,
    claim_in,
    create,
    get_claim,
    get_volume,
    in_cluster,
    marked,
    storage_class,
    volume,
    volume_in,
)

REFERENCES: list[dict[str, Any]] = [
    {},
    {"uid": "u"},
    {"name": "data", "uid": "u"},
    {"namespace": NS, "uid": "u"},
    {"kind": "Pod", "namespace": NS, "name": "data", "uid": "u"},
    {"namespace": "nowhere", "name": "data"},
    {"namespace": "nowhere", "name": "data", "uid": "u"},
]


@pytest.mark.parametrize("reference", REFERENCES, ids=str)
@pytest.mark.parametrize("policy", ["Retain", "Delete", "Recycle"])
def test_references_that_lead_nowhere_harm_nobody_else(
    reference: dict[str, Any], policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(cluster: Cluster) -> None:
        strange = volume("strange", claimRef=reference, persistentVolumeReclaimPolicy=policy)
        await create(cluster, strange, volume(), claim())
        await claim_in(cluster, "Bound")
        await cluster.clock.sleep(600)
        assert await cluster.exists(PERSISTENT_VOLUMES, "", "strange")

    with caplog.at_level(logging.ERROR):
        in_cluster(scenario)
    assert [record for record in caplog.records if record.exc_info] == []


EMPTY: Object = {"apiVersion": "v1", "kind": "x", "metadata": {"name": "x"}}
STRANGE: list[Object] = [
    EMPTY,
    {**EMPTY, "spec": None, "status": None},
    {**EMPTY, "spec": {"capacity": None, "accessModes": None, "claimRef": None, "resources": None}},
    {**EMPTY, "spec": {"capacity": {"storage": "lots"}, "resources": {"requests": {"storage": "lots"}}}},
    {**EMPTY, "spec": {"accessModes": ["Unheard"], "claimRef": {"uid": "u"}, "volumes": [{}, {"name": "v"}]}},
    {**EMPTY, "spec": {"nodeName": "n", "volumes": [{"persistentVolumeClaim": {}}, {"ephemeral": {}}]}},
]


class Nothing:
    """A cluster of which nothing is known."""

    def volume(self, name: str) -> Object | None:
        return None

    def match(self, claim: Object, *, delayed: bool) -> Object | None:
        return best_match(claim, STRANGE, FreeVolumes(STRANGE))

    def storage_class(self, name: str) -> Object | None:
        return None

    def default_class(self) -> Object | None:
        return None

    def waiting_pods(self, claim: Object) -> tuple[str, ...]:
        return ()


@pytest.mark.parametrize("strange", STRANGE, ids=str)
def test_no_rule_fails_on_an_object_without_its_fields(strange: Object) -> None:
    assert decide_claim(strange, Nothing())
    assert decide_volume(strange, None)
    assert decide_volume(strange, strange)
    migrated_claim(strange)
    migrated_volume(strange)
    misfit(strange, strange)
    holds(strange, strange)
    list(claims_of(strange))
    assert recycler_plugin(strange) is None
    with pytest.raises(NoPlugin):
        deleter_plugin(strange)


def test_annotations_may_have_any_value() -> None:
    async def scenario(cluster: Cluster) -> None:
        marks = {"pv.kubernetes.io/bind-completed": "", "volume.kubernetes.io/selected-node": "", "x": ""}
        await create(cluster, marked(claim("completed"), **marks))
        assert (await claim_in(cluster, "Lost", "completed"))["status"] == {"phase": "Lost"}
        sizes = {"volume.alpha.kubernetes.io/pre-resize-capacity": "much"}
        await create(cluster, marked(volume(), **sizes), claim())
        assert (await claim_in(cluster, "Bound"))["status"]["capacity"] == {"storage": "1Gi"}

    in_cluster(scenario)


def test_a_class_that_changes_its_mind_is_followed() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, claim(storageClassName="fast"), volume(storageClassName="fast", size="1Mi"))
        await cluster.clock.sleep(5)
        await cluster.client.create(STORAGE_CLASSES, storage_class("fast", mode="WaitForFirstConsumer"))
        await create(cluster, volume("late", storageClassName="fast"))
        await cluster.clock.sleep(60)
        assert (await get_volume(cluster, "late"))["status"]["phase"] == "Available"
        await cluster.client.delete(STORAGE_CLASSES, "fast")
        await claim_in(cluster, "Bound")

    in_cluster(scenario)


def test_a_claim_that_is_replaced_by_one_of_the_same_name_does_not_inherit_its_data() -> None:
    async def scenario(cluster: Cluster) -> None:
        await create(cluster, volume(), claim())
        first = await claim_in(cluster, "Bound")
        await cluster.client.delete(PERSISTENT_VOLUME_CLAIMS, "data", NS)
        await cluster.wait_gone(PERSISTENT_VOLUME_CLAIMS, NS, "data")
        await create(cluster, claim())
        await cluster.clock.sleep(60)
        assert (await get_claim(cluster))["status"]["phase"] == "Pending"
        disk = await volume_in(cluster, "Released")
        assert disk["spec"]["claimRef"]["uid"] == first["metadata"]["uid"]

    in_cluster(scenario)


def test_a_volume_that_is_released_twice_and_given_back_is_bound_again() -> None:
    async def scenario(cluster: Cluster) -> None:
        for _ in range(3):
            if not await cluster.exists(PERSISTENT_VOLUMES, "", "disk"):
                await create(cluster, volume())
            await create(cluster, claim())
            await claim_in(cluster, "Bound")
            await cluster.client.delete(PERSISTENT_VOLUME_CLAIMS, "data", NS)
            await volume_in(cluster, "Released")
            await change_volume(cluster, {"spec": {"claimRef": {"uid": None, "resourceVersion": None}}})
            await volume_in(cluster, "Available")

    in_cluster(scenario)
