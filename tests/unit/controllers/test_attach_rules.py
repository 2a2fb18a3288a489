"""Names of volumes and attachments, and decisions about one volume."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.controllers.attach_rules import (
    Attach,
    Contest,
    Detach,
    Health,
    Look,
    Outcome,
    Policy,
    attach_outcome,
    contest_message,
    decide,
    detach_outcome,
    touch,
)
from tiphys.controllers.attach_volumes import Volume, resolve, wants_volumes
from tiphys.controllers.attach_world import ATTACH, DETACH, World

DISK = Volume("kubernetes.io/csi/d^v", "pv", "d", "v", "pv", shared=False)
SHARED = Volume("kubernetes.io/csi/d^v", "pv", "d", "v", "pv", shared=True)
WELL = Health(ready=True)


def pod(name: str = "p", namespace: str = "default", **status: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": namespace, "uid": f"uid-{name}"}
    return {"metadata": meta, "spec": {"nodeName": "n1"}, "status": status}


def wanting(volume: Volume, *nodes: str) -> World:
    world = World()
    for node in nodes:
        world.want(f"default/{node}", pod(node), node, {volume.unique: volume}, doubtful=False)
    return world


def steps(world: World, now: float = 0.0, policy: Policy | None = None, **health: Health) -> list[Any]:
    touch(world, DISK.unique, now)
    return decide(world, DISK.unique, health, now, policy or Policy())


def test_the_attachments_name_is_the_hash_that_attachers_work_out_too() -> None:
    assert DISK.attachment("n1") == "csi-f07ae26869069bafd79be55cd370d52a16635c2e0042fd7e2125f6dfaa943ddb"
    assert DISK.attachment("n1") == Volume.recalled(DISK.unique).attachment("n1") != DISK.attachment("n2")


@pytest.mark.parametrize("unique", ["", "nonsense", "kubernetes.io/csi", "kubernetes.io/csi/d", "a/b/c/d^e"])
def test_a_strange_name_in_a_status_is_a_volume_of_no_driver(unique: str) -> None:
    assert not Volume.recalled(unique).by_driver


def test_a_handle_may_hold_anything() -> None:
    assert Volume.recalled("kubernetes.io/csi/d^a/b^c") == Volume(
        "kubernetes.io/csi/d^a/b^c", driver="d", handle="a/b^c"
    )


@pytest.mark.parametrize(
    ("status", "deleting", "expected"),
    [
        ({"phase": "Running"}, False, True),
        ({"phase": "Succeeded"}, False, False),
        ({"phase": "Failed"}, False, False),
        ({"phase": "Running"}, True, False),
        ({"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}, True, True),
        ({"phase": "Running", "initContainerStatuses": [{}]}, True, True),
        ({"phase": "Running", "containerStatuses": [{"state": {"waiting": {"reason": "x"}}}]}, True, False),
        ({"phase": "Running", "containerStatuses": [{"state": {"terminated": {"exitCode": 0}}}]}, True, False),
    ],
)
def test_a_pod_wants_its_volumes_while_containers_may_run(status: Any, deleting: bool, expected: bool) -> None:
    made = pod(**status)
    if deleting:
        made["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert wants_volumes(made) is expected


def test_an_inline_csi_volume_is_never_attached() -> None:
    assert resolve(pod(), {"name": "v", "csi": {"driver": "d"}}, "", lambda *_: None, lambda *_: None) is None


@pytest.mark.parametrize(
    ("source", "unique"),
    [
        ({"targetWWNs": ["a", "b"], "lun": 0}, "kubernetes.io/fc/[a b]:0"),
        ({"wwids": ["a", "b"]}, "kubernetes.io/fc/[a b]"),
        ({}, "kubernetes.io/fc/"),
    ],
)
def test_fibre_channel_volumes_have_upstreams_names(source: Any, unique: str) -> None:
    found = resolve(pod(), {"name": "v", "fc": source or {"x": 1}}, "", lambda *_: None, lambda *_: None)
    assert found is not None
    assert (found.unique, found.name, found.by_driver) == (unique, "v", False)


def test_one_of_two_nodes_gets_an_exclusive_volume() -> None:
    assert steps(wanting(DISK, "n1", "n2")) == [Attach("n1", DISK)]


def test_both_nodes_get_a_shared_volume() -> None:
    assert steps(wanting(SHARED, "n1", "n2")) == [Attach("n1", SHARED), Attach("n2", SHARED)]


def test_a_volume_that_another_node_has_is_contested_once() -> None:
    world = wanting(DISK, "n1", "n2")
    world.mark(DISK, "n1", confirmed=True)
    assert steps(world) == [Contest("n2", ("n1",))]
    world.wanted[DISK.unique]["n2"].contested = True
    assert steps(world) == []


def test_a_move_detaches_first() -> None:
    world = wanting(DISK, "n2")
    world.mark(DISK, "n1", confirmed=True)
    world.uses("n1", [])
    assert steps(world, n1=WELL) == [Detach("n1", DISK, verify=True)]


def test_what_is_begun_is_not_begun_again_and_what_failed_waits() -> None:
    world = wanting(DISK, "n1")
    operation = world.begin(ATTACH, DISK, "n1", 0.0)
    assert steps(world) == []
    world.fail(operation, 10.0)
    assert steps(world, 10.0) == [Look(0.5)]
    assert steps(world, 10.5) == [Attach("n1", DISK)]
    world.fail(world.begin(ATTACH, DISK, "n1", 10.5), 11.0)
    assert steps(world, 11.0) == [Look(1.0)]


def test_a_failed_attachment_does_not_keep_detaching_waiting() -> None:
    world = World()
    world.fail(world.begin(ATTACH, DISK, "n1", 0.0), 0.0)
    world.mark(DISK, "n1", confirmed=False)
    world.uses("n1", [])
    assert steps(world, n1=WELL) == [Detach("n1", DISK, verify=True)]
    world.begin(DETACH, DISK, "n1", 0.0)
    assert steps(world, n1=WELL) == []


def mounted() -> World:
    world = World()
    world.mark(DISK, "n1", confirmed=True)
    world.uses("n1", [DISK.unique])
    touch(world, DISK.unique, 0.0)
    return world


@pytest.mark.parametrize(
    ("now", "health", "force", "expected"),
    [
        (0.0, WELL, True, []),
        (1e6, WELL, True, []),
        (100.0, Health(), True, [Look(260.001)]),
        (361.0, Health(), True, [Detach("n1", DISK, verify=False)]),
        (361.0, Health(), False, []),
        (0.0, Health(out_of_service=True), True, [Detach("n1", DISK, verify=False)]),
        (0.0, Health(ready=True, out_of_service=True), False, [Detach("n1", DISK, verify=False)]),
    ],
)
def test_a_mounted_volume_is_taken_only_from_a_lost_node(
    now: float, health: Health, force: bool, expected: Any
) -> None:
    assert steps(mounted(), now, Policy(force), n1=health) == expected


def test_a_pod_that_comes_back_starts_the_wait_anew() -> None:
    world = mounted()
    world.want("default/n1", pod("n1"), "n1", {DISK.unique: DISK}, doubtful=False)
    touch(world, DISK.unique, 300.0)
    world.release("default/n1")
    touch(world, DISK.unique, 301.0)
    assert steps(world, 361.0, n1=Health()) == [Look(300.001)]


def test_a_pod_whose_claim_is_unknown_now_keeps_what_it_had() -> None:
    world = wanting(DISK, "n1")
    assert world.want("default/n1", pod("n1"), "n1", {}, doubtful=True) == set()
    assert world.want("default/n1", pod("n1"), "n1", {}, doubtful=False) == {DISK.unique}
    assert not world.wanted


@pytest.mark.parametrize(
    ("status", "now", "expected"),
    [
        (None, 0.0, Outcome(after=120.0)),
        (None, 120.0, Outcome(error="timed out waiting for external-attacher of d CSI driver to attach volume v")),
        ({}, 20.0, Outcome(after=100.0)),
        ({"attached": True}, 0.0, Outcome(done=True)),
        ({"attached": False, "attachError": {"message": "no"}}, 0.1, Outcome(after=0.4)),
        ({"attached": False, "attachError": {"message": "no"}}, 1.0, Outcome(error="no")),
    ],
)
def test_how_attaching_stands(status: Any, now: float, expected: Outcome) -> None:
    attachment = None if status is None else {"metadata": {"name": "a"}, "status": status}
    assert attach_outcome(attachment, DISK, 0.0, now) == expected


def test_how_detaching_stands() -> None:
    there: dict[str, Any] = {"metadata": {"name": "a"}, "status": {"attached": True}}
    failed = {**there, "status": {"attached": True, "detachError": {"message": "busy"}}}
    late = "timed out waiting for external-attacher of unknown CSI driver to detach volume v"
    assert detach_outcome(None, DISK, 0.0, 0.0) == Outcome(done=True)
    assert detach_outcome(there, DISK, 0.0, 60.0) == Outcome(after=60.0)
    assert detach_outcome(there, DISK, 0.0, 121.0) == Outcome(error=late)
    assert detach_outcome(failed, DISK, 0.0, 1.0) == Outcome(error="busy")


@pytest.mark.parametrize(
    ("holders", "expected"),
    [
        ([], "Volume is already exclusively attached to one node and can't be attached to another"),
        ([pod("a"), pod("b")], "Volume is already used by pod(s) a, b"),
        ([pod("a"), pod("b", "x")], "Volume is already used by pod(s) a and 1 pod(s) in different namespaces"),
        ([pod("a", "x"), pod("b", "y")], "Volume is already used by 2 pod(s) in different namespaces"),
    ],
)
def test_pods_are_told_only_names_of_their_own_namespace(holders: list[Any], expected: str) -> None:
    assert contest_message(DISK, pod(), holders) == f'Multi-Attach error for volume "pv" {expected}'
