"""The rules of storage: what fits, what is decided, what binding writes."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.base.errors import Permanent
from tiphys.client.types import Object
from tiphys.controllers.volume_binder_state import (
    AssignClass,
    Bind,
    ClaimPhase,
    Do,
    Refuse,
    Tell,
    VolumePhase,
    decide_claim,
    decide_volume,
    released,
)
from tiphys.controllers.volume_binding import (
    bound_claim,
    bound_volume,
    claim_status,
    migrated_claim,
    migrated_volume,
    unbound_volume,
    with_provisioner,
)
from tiphys.controllers.volume_expander import grown, to_expand
from tiphys.controllers.volume_matching import FreeVolumes, best_match, misfit, pair
from tiphys.controllers.volume_plugins import (
    NoPlugin,
    deletable_path,
    recycler_plugin,
    recycler_pod,
    recycler_template,
)
from tiphys.controllers.volume_protection import holds
from tiphys.controllers.volumes import default_class, is_bound_to, terminated

RWO, RWX = "ReadWriteOnce", "ReadWriteMany"
COMPLETED = "pv.kubernetes.io/bind-completed"
OURS = "pv.kubernetes.io/bound-by-controller"


def claim(name: str = "data", size: str = "1Gi", **spec: Any) -> dict[str, Any]:
    body = {"accessModes": [RWO], "resources": {"requests": {"storage": size}}, **spec}
    meta = {"name": name, "namespace": "ns", "uid": f"uid-{name}", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": meta,
        "spec": body,
        "status": {"phase": "Pending"},
    }


def volume(name: str = "disk", size: str = "1Gi", phase: str = "Available", **spec: Any) -> dict[str, Any]:
    body = {"accessModes": [RWO], "capacity": {"storage": size}, **spec}
    return {"metadata": {"name": name}, "spec": body, "status": {"phase": phase}}


def ref(name: str = "data", uid: str | None = "uid-data") -> dict[str, Any]:
    return {"namespace": "ns", "name": name, **({"uid": uid} if uid else {})}


def marked(obj: dict[str, Any], **annotations: str) -> dict[str, Any]:
    return {**obj, "metadata": {**obj["metadata"], "annotations": annotations}}


class Known:
    """A view of what the test says."""

    def __init__(self, *volumes: Object, classes: dict[str, Any] | None = None, pods: tuple[str, ...] = ()) -> None:
        self._volumes = {each["metadata"]["name"]: each for each in volumes}
        self._classes = classes or {}
        self._pods = pods

    def volume(self, name: str) -> Object | None:
        return self._volumes.get(name)

    def match(self, claim: Object, *, delayed: bool) -> Object | None:
        kept = [each for each in self._volumes.values() if is_bound_to(each, claim)]
        free = [each for each in self._volumes.values() if not each["spec"].get("claimRef")]
        return best_match(claim, kept, FreeVolumes(() if delayed else free))

    def storage_class(self, name: str) -> Object | None:
        return self._classes.get(name)

    def default_class(self) -> Object | None:
        return default_class(self._classes.values())

    def waiting_pods(self, claim: Object) -> tuple[str, ...]:
        return self._pods


def chosen(wanted: Object, *volumes: Object) -> str | None:
    kept = [each for each in volumes if each["spec"].get("claimRef")]
    found = best_match(wanted, kept, FreeVolumes(volumes))
    return found["metadata"]["name"] if found else None


def test_the_smallest_fitting_volume_is_chosen() -> None:
    assert chosen(claim(), volume("c", "3Gi"), volume("b", "2Gi"), volume("a", "4Gi"), volume("d", "900Mi")) == "b"


def test_a_volume_with_fewer_modes_comes_before_a_smaller_one_and_before_one_that_is_kept() -> None:
    able = volume("able", accessModes=[RWO, RWX])
    assert chosen(claim(), able, volume("plain", "9Gi")) == "plain"
    assert chosen(claim(), {**able, "spec": {**able["spec"], "claimRef": ref(uid=None)}}, volume("plain")) == "plain"
    assert chosen(claim(accessModes=[RWX]), able, volume("plain")) == "able"


@pytest.mark.parametrize(
    "unfit",
    [
        volume(phase="Pending"),
        volume(phase="Released"),
        volume(volumeMode="Block"),
        volume(storageClassName="fast"),
        volume(volumeAttributesClassName="gold"),
        volume(claimRef=ref("other", "uid-other")),
        volume(claimRef=ref(uid="an earlier claim")),
        volume(accessModes=["ReadOnlyMany"]),
        volume(accessModes=[]),
        volume(size=""),
        {**volume(), "metadata": {"name": "disk", "deletionTimestamp": "2026-01-01T00:00:00Z"}},
    ],
)
def test_what_does_not_fit_is_not_chosen(unfit: Object) -> None:
    assert chosen(claim(), unfit) is None


def test_a_volume_kept_for_the_claim_may_be_of_any_class_and_phase() -> None:
    kept = volume(claimRef=ref(uid=None), storageClassName="fast", phase="Pending")
    assert chosen(claim(selector={"matchLabels": {"a": "b"}}), kept) == "disk"
    assert chosen(claim(size="2Gi"), kept) is None


def test_the_class_of_the_old_annotation_counts_before_the_field() -> None:
    old = marked(volume(storageClassName="slow"), **{"volume.beta.kubernetes.io/storage-class": "fast"})
    assert chosen(claim(storageClassName="fast"), old) == "disk"
    assert misfit(old, claim(storageClassName="slow")) == "storageClassName does not match"


def test_claims_that_wait_are_paired_with_volumes_the_oldest_first() -> None:
    old, young, picky = claim("old"), claim("young"), claim("picky", selector={"matchExpressions": [{"key": "a"}]})
    young["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"
    free = FreeVolumes([volume("a"), volume("b", "500Mi"), volume("taken"), volume("c", storageClassName="x")])
    pairs = pair([young, picky, old], free, "", lambda each: each != "taken")
    assert [(one["metadata"]["name"], other) for one, other in pairs] == [("old", "a")]


def test_only_volumes_that_may_be_chosen_are_free_and_the_first_to_become_so_comes_first() -> None:
    free = FreeVolumes([volume("b"), volume("a"), volume("c", phase="Pending")])
    chosen = best_match(claim(), (), free)
    assert chosen is not None
    assert chosen["metadata"]["name"] == "b"
    free.put(volume("b", claimRef=ref()))
    free.put(volume("a", "2Gi"))
    free.put(volume("c"))
    assert "b" not in free
    chosen = best_match(claim(), (), free)
    assert chosen is not None
    assert chosen["metadata"]["name"] == "c"
    for each in "abc":
        free.drop(each)
    assert free.of("") == {}


def test_the_newest_default_class_counts_and_the_first_by_name_of_equal_ones() -> None:
    def made(name: str, day: int, value: str = "true") -> dict[str, Any]:
        annotations = {"storageclass.kubernetes.io/is-default-class": value}
        stamp = f"2026-01-0{day}T00:00:00Z"
        return {"metadata": {"name": name, "creationTimestamp": stamp, "annotations": annotations}}

    found = default_class([made("old", 1), made("z", 2), made("b", 2), made("no", 3, "false")])
    assert found is not None
    assert found["metadata"]["name"] == "b"


def test_a_claim_with_a_selector_that_cannot_be_read_is_refused() -> None:
    broken = claim(selector={"matchExpressions": [{"key": "a", "operator": "Near"}]})
    (step,) = decide_claim(broken, Known(volume()))
    assert isinstance(step, Refuse)


def test_an_unbound_claim_gets_a_volume_a_class_or_a_provisioner() -> None:
    default = {"metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}}
    assert decide_claim(claim(), Known(volume())) == (Bind(volume()),)
    assert decide_claim(claim(), Known(classes={"standard": default})) == (AssignClass("standard"),)
    assert decide_claim(claim(storageClassName="x"), Known()) == (Do.PROVISION,)
    told, phase = decide_claim(claim(storageClassName=""), Known(classes={"standard": default}))
    assert isinstance(told, Tell)
    assert told.reason == "FailedBinding"
    assert phase == ClaimPhase("Pending")


def test_a_claim_waits_for_its_consumer_until_the_scheduler_has_chosen_a_node() -> None:
    late = {"metadata": {"name": "late"}, "volumeBindingMode": "WaitForFirstConsumer"}
    waiting = claim(storageClassName="late")
    known = Known(volume(storageClassName="late"), classes={"late": late}, pods=("a", "b"))
    told = decide_claim(waiting, known)[0]
    assert isinstance(told, Tell)
    assert told.message == "waiting for pods a,b to be scheduled"
    assert decide_claim(marked(waiting, **{"volume.kubernetes.io/selected-node": "n"}), known) == (Do.PROVISION,)
    kept = volume(claimRef=ref())
    assert decide_claim(waiting, Known(kept, classes={"late": late})) == (Bind(kept),)


def test_a_bound_claim_is_completed_or_lost() -> None:
    bound = marked(claim(volumeName="disk"), **{COMPLETED: "yes"})
    for whole in (volume(), volume(claimRef=ref())):
        assert decide_claim(bound, Known(whole)) == (Bind(whole),)
    for broken, known, reason in (
        (bound, Known(), "ClaimLost"),
        (marked(claim(), **{COMPLETED: "yes"}), Known(volume()), "ClaimLost"),
        (bound, Known(volume(claimRef=ref(uid="another"))), "ClaimMisbound"),
    ):
        (step,) = decide_claim(broken, known)
        assert isinstance(step, ClaimPhase)
        assert (step.phase, step.reason) == ("Lost", reason)


def test_a_claim_of_ours_that_names_anothers_volume_is_an_error() -> None:
    broken = marked(claim(volumeName="disk"), **{OURS: "yes"})
    told, step = decide_claim(broken, Known(volume(claimRef=ref("other", "o"))))
    assert isinstance(told, Tell)
    assert step == Refuse('invalid binding of claim "ns/data" to volume "disk": volume already claimed by "ns/other"')


def test_what_a_volume_enters_follows_from_its_claim() -> None:
    mine = volume(claimRef=ref())
    assert decide_volume(volume(phase="Pending"), None) == (VolumePhase("Available"),)
    assert decide_volume(volume(claimRef=ref(uid=None)), None) == (VolumePhase("Available"),)
    assert decide_volume(mine, None) == (Do.RECLAIM,)
    assert decide_volume(mine, claim(volumeName="disk")) == (VolumePhase("Bound"),)
    assert decide_volume(mine, claim()) == (Do.ASK_CLAIM,)
    assert decide_volume(mine, claim(volumeName="other")) == (Do.UNBIND,)
    made = marked(
        volume(claimRef=ref(), persistentVolumeReclaimPolicy="Delete"), **{"pv.kubernetes.io/provisioned-by": "x"}
    )
    assert decide_volume(made, claim(volumeName="other")) == (Do.RECLAIM,)
    assert [type(step) for step in decide_volume(mine, claim(volumeMode="Block"))] == [Tell, Tell]


def test_data_are_nobodys_only_when_the_claim_has_gone_or_lives_elsewhere() -> None:
    mine = volume(claimRef=ref())
    assert released(mine, None)
    assert released(mine, {**claim(), "metadata": {"name": "data", "namespace": "ns", "uid": "a later one"}})
    assert released(mine, claim(volumeName="other"))
    assert not released(mine, claim())
    assert not released(mine, claim(volumeName="disk"))
    assert not released(volume(), None)
    assert not released(volume(claimRef=ref(uid=None)), None)


def test_binding_marks_our_choices_and_only_them() -> None:
    ours = bound_volume(volume(), claim())
    assert ours is not None
    assert ours["metadata"]["annotations"] == {OURS: "yes"}
    assert ours["spec"]["claimRef"]["uid"] == "uid-data"
    assert bound_volume(ours, claim()) is None
    theirs = bound_volume(volume(claimRef=ref(uid=None)), claim())
    assert theirs is not None
    assert "annotations" not in theirs["metadata"]
    both = bound_claim(claim(), volume())
    assert both is not None
    assert both["metadata"]["annotations"] == {OURS: "yes", COMPLETED: "yes"}
    assert bound_claim(both, volume()) is None


def test_undoing_a_binding_keeps_what_the_user_wrote() -> None:
    assert "claimRef" not in unbound_volume(marked(volume(claimRef=ref()), **{OURS: "yes"}))["spec"]
    assert unbound_volume(volume(claimRef=ref()))["spec"]["claimRef"] == ref(uid=None)


def test_a_claims_capacity_follows_its_volume_only_when_it_becomes_bound() -> None:
    new = claim_status(claim(), "Bound", volume(size="2Gi"))
    assert new == {"phase": "Bound", "accessModes": [RWO], "capacity": {"storage": "2Gi"}}
    bound = {**claim(), "status": new}
    assert claim_status(bound, "Bound", volume(size="3Gi")) is None
    growing = marked(volume(size="3Gi"), **{"volume.alpha.kubernetes.io/pre-resize-capacity": "1Gi"})
    status = claim_status(claim(), "Bound", growing)
    assert status is not None
    assert status["capacity"] == {"storage": "1Gi"}
    broken = marked(volume(size="3Gi"), **{"volume.alpha.kubernetes.io/pre-resize-capacity": "much"})
    status = claim_status(claim(), "Bound", broken)
    assert status is not None
    assert status["capacity"] == {"storage": "3Gi"}
    assert claim_status(bound, "Lost") == {"phase": "Lost"}
    with pytest.raises(Permanent, match='PersistentVolume "disk" is without a storage capacity'):
        claim_status(claim(), "Bound", volume(capacity={}))


def test_the_driver_of_a_moved_plugin_is_named_and_a_wrong_one_removed() -> None:
    asked = with_provisioner(claim(), "kubernetes.io/gce-pd")
    assert asked is not None
    assert asked["metadata"]["annotations"]["pv.kubernetes.io/migrated-to"] == "pd.csi.storage.gke.io"
    assert migrated_claim(asked) is None
    stale = {"pv.kubernetes.io/migrated-to": "old", "volume.beta.kubernetes.io/storage-provisioner": "example.com/x"}
    cleaned = migrated_claim(marked(claim(), **stale))
    assert cleaned is not None
    assert "pv.kubernetes.io/migrated-to" not in cleaned["metadata"]["annotations"]
    assert migrated_volume(volume()) is None


@pytest.mark.parametrize(
    ("provisioner", "policy", "before", "after"),
    [
        ("kubernetes.io/host-path", "Delete", ["x"], ["x", "kubernetes.io/pv-controller"]),
        ("kubernetes.io/host-path", "Retain", ["kubernetes.io/pv-controller", "x"], ["x"]),
        ("kubernetes.io/gce-pd", "Delete", ["kubernetes.io/pv-controller"], []),
        (
            "kubernetes.io/host-path",
            "Delete",
            ["external-provisioner.volume.kubernetes.io/finalizer"],
            ["kubernetes.io/pv-controller"],
        ),
    ],
)
def test_only_who_deletes_a_volume_holds_it(provisioner: str, policy: str, before: list[str], after: list[str]) -> None:
    made = marked(volume(persistentVolumeReclaimPolicy=policy), **{"pv.kubernetes.io/provisioned-by": provisioner})
    made["metadata"]["finalizers"] = before
    new = migrated_volume(made)
    assert new is not None
    assert new["metadata"]["finalizers"] == after


@pytest.mark.parametrize("path", ["/srv/x", "/tmp/", "/tmp", "/tmp/../etc", "", "/var/tmp/x"])
def test_nothing_outside_of_tmp_is_deleted(path: str) -> None:
    with pytest.raises(NoPlugin, match=r"host_path deleter only supports /tmp/\.\+"):
        deletable_path(volume(hostPath={"path": path}))


def test_a_recycler_gets_time_by_the_size_of_the_volume() -> None:
    template = recycler_template()
    small = recycler_pod(volume(hostPath={"path": "/x", "type": ""}), template, {})
    large = recycler_pod(volume(size="20Gi", nfs={"server": "s", "path": "/x"}), template, {})
    asked = recycler_pod(
        volume(size="20Gi", hostPath={"path": "/x"}), template, {"pv-recycler-timeout-increment-hostpath": 10}
    )
    assert small["metadata"] == {"name": "recycler-for-disk", "namespace": "default"}
    assert small["spec"]["activeDeadlineSeconds"] == 60
    assert small["spec"]["volumes"] == [{"name": "vol", "hostPath": {"path": "/x"}}]
    assert large["spec"]["activeDeadlineSeconds"] == 600
    assert large["spec"]["volumes"] == [{"name": "vol", "nfs": {"server": "s", "path": "/x"}}]
    assert asked["spec"]["activeDeadlineSeconds"] == 200
    assert recycler_plugin(volume(csi={})) is None


def pod(node: str = "n", /, **more: Any) -> dict[str, Any]:
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]
    meta = {"name": "p", "namespace": "ns", "uid": "p", **more.pop("metadata", {})}
    return {"metadata": meta, "spec": {"nodeName": node, "volumes": volumes, **more.pop("spec", {})}, "status": more}


def test_a_claim_is_held_by_pods_that_have_a_node_even_if_they_are_over() -> None:
    assert holds(pod(), claim())
    assert holds(pod(phase="Succeeded"), claim())
    assert not holds(pod(""), claim())
    assert not holds(pod(), claim("other"))


def test_an_ephemeral_claim_is_held_until_nothing_but_the_pods_object_is_left() -> None:
    made = claim("p-v")
    made["metadata"]["ownerReferences"] = [{"controller": True, "uid": "p"}]
    spec: Any = {"volumes": [{"name": "v", "ephemeral": {}}]}
    assert holds(pod(spec=spec), made)
    assert not holds(pod(spec=spec), claim("p-v")), "a claim of that name which is not the pod's"
    over = {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0}
    assert not holds(pod(spec=spec, metadata=over), made)


def test_a_pod_is_over_when_its_containers_are() -> None:
    deleted = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    running: Any = {"containerStatuses": [{"state": {"running": {}}}]}
    assert terminated(pod(phase="Failed"))
    assert not terminated(pod(phase="Running"))
    assert terminated(pod(metadata=deleted))
    assert not terminated(pod(metadata=deleted, **running))
    assert terminated(pod(metadata=deleted, containerStatuses=[{"state": {"waiting": {}}}]))


def test_a_claim_is_looked_at_when_it_asks_for_more_or_has_got_more() -> None:
    old = {**claim(), "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}
    more = {**claim(size="2Gi"), "status": old["status"]}
    assert grown(old, more)
    assert not grown(more, old)
    assert not grown(None, claim(size="2Gi")), "a claim that is not bound"
    assert to_expand(more, volume())
    assert not to_expand(old, volume())
    assert to_expand(old, marked(volume(), **{"volume.alpha.kubernetes.io/pre-resize-capacity": "1Gi"}))
