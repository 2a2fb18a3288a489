"""What a node has, keeps back and enforces; tiers of pods; lists of CPUs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tiphys.api.quantity import parse
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.cpusets import format_cpus, parse_cpus
from tiphys.kubelet.machine import Machine
from tiphys.kubelet.node_resources import allocatable, capacity, enforced, kept_for_eviction, reservation, reserved
from tiphys.kubelet.nodestatus import declared_features
from tiphys.kubelet.tiers import Tiers
from tiphys.runtime.types import Resources
from tiphys.testing.cgroups import FakeCgroups
from tiphys.testing.clock import VirtualClock

GIB, MIB = 1 << 30, 1 << 20
MACHINE = Machine(8, 16 * GIB, 100 * GIB, hugepages=((2 * MIB, 64 * MIB), (GIB, 0)))
CONFIG = KubeletConfig("node-1", Path("/r"), cgroup_root="tiphys/node-1")


def shown(found: Any) -> dict[str, str]:
    return {name: str(amount) for name, amount in found.items()}


def test_the_capacity_is_the_machines() -> None:
    assert shown(capacity(CONFIG, MACHINE)) == {
        "cpu": "8",
        "ephemeral-storage": "100Gi",
        "hugepages-1Gi": "0",
        "hugepages-2Mi": "64Mi",
        "memory": "16Gi",
        "pods": "110",
    }
    assert shown(capacity(replace(CONFIG, capacity={"cpu": "2500m"}), MACHINE))["cpu"] == "2500m"


def test_reservations_thresholds_and_huge_pages_are_not_for_pods() -> None:
    config = replace(
        CONFIG,
        system_reserved={"cpu": "500m", "memory": "1Gi", "ephemeral-storage": "10Gi", "pid": "1000"},
        kube_reserved={"cpu": "500m", "memory": "512Mi"},
        eviction_hard={"memory.available": "512Mi", "nodefs.available": "10%", "nodefs.inodesFree": "5%"},
    )
    found = allocatable(config, capacity(config, MACHINE))
    assert found["cpu"] == parse("7")
    assert found["memory"] == parse("14Gi") - parse("64Mi")
    assert str(found["ephemeral-storage"]) == "80Gi"
    assert found["hugepages-2Mi"] == parse("64Mi")
    assert found["pods"] == parse("110")


def test_nothing_becomes_negative() -> None:
    config = replace(CONFIG, system_reserved={"memory": "20Gi"})
    assert str(allocatable(config, capacity(config, MACHINE))["memory"]) == "0"


def test_a_share_as_threshold_is_of_the_capacity() -> None:
    kept = kept_for_eviction({"memory.available": "10%", "imagefs.available": "15%"}, {"memory": parse("10Gi")})
    assert shown(kept) == {"memory": "1Gi"}


def test_named_cpus_count_instead_of_a_number() -> None:
    config = replace(CONFIG, system_reserved={"cpu": "1"}, kube_reserved={"cpu": "1"}, reserved_system_cpus="0-2")
    assert shown(reserved(config)) == {"cpu": "3"}


def test_pods_are_held_to_what_is_not_reserved() -> None:
    config = replace(CONFIG, system_reserved={"cpu": "1", "memory": "1Gi", "pid": "100"})
    whole = capacity(config, MACHINE)
    limits = enforced(config, whole, 32_768)
    assert (limits.cpu_shares, limits.memory_limit, limits.pids_limit) == (7 * 1024, 15 * GIB, 32_668)
    assert dict(limits.hugepages) == {"2MB": 64 * MIB, "1GB": 0}
    unenforced = enforced(replace(config, enforce_node_allocatable=()), whole)
    assert (unenforced.cpu_shares, unenforced.memory_limit, unenforced.pids_limit) == (8 * 1024, 16 * GIB, 0)


def test_what_can_be_compressed_of_a_reservation_is_cpu() -> None:
    source = {"cpu": "2", "memory": "1Gi"}
    assert (reservation(source).cpu_shares, reservation(source).memory_limit) == (2048, GIB)
    limits = reservation(source, compressible=True)
    assert (limits.cpu_shares, limits.memory_limit) == (2048, 0)


def test_gates_switch_declared_features() -> None:
    assert "InPlacePodLevelResourcesVerticalScaling" in declared_features(CONFIG)
    config = replace(CONFIG, feature_gates={"InPlacePodLevelResourcesVerticalScaling": False})
    assert "InPlacePodLevelResourcesVerticalScaling" not in declared_features(config)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("", []), ("0", [0]), ("0-3", [0, 1, 2, 3]), ("1,3-4,9", [1, 3, 4, 9]), ("0-1,5\n", [0, 1, 5])],
)
def test_lists_of_cpus(text: str, numbers: list[int]) -> None:
    assert parse_cpus(text) == set(numbers)
    assert format_cpus(numbers) == text.strip()


@pytest.mark.parametrize("text", ["a", "3-1", "1-", "-", "1,,x"])
def test_what_is_no_list_of_cpus_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_cpus(text)


class Recorder:
    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []

    def about(self, about: Any, type: str, reason: str, message: str) -> None:
        self.events.append((type, reason, message))


def burstable(uid: str, cpu: str, phase: str = "Running") -> dict[str, Any]:
    return {
        "metadata": {"uid": uid, "name": uid},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]},
        "status": {"qosClass": "Burstable", "phase": phase},
    }


def make_tiers(config: KubeletConfig = CONFIG) -> tuple[Tiers, FakeCgroups, Recorder, VirtualClock]:
    cgroups, recorder, clock = FakeCgroups(), Recorder(), VirtualClock()
    tiers = Tiers(config, MACHINE, cgroups, clock, recorder)  # type: ignore[arg-type]  # only what it needs
    tiers.begin()
    return tiers, cgroups, recorder, clock


def test_burstable_pods_weigh_what_they_request_together() -> None:
    tiers, cgroups, _, _ = make_tiers()
    path = "tiphys/node-1/kubepods/burstable"
    assert cgroups.limits[path].cpu_shares == 2
    tiers.note(burstable("a", "500m"))
    tiers.note(burstable("b", "1500m"))
    assert (cgroups.limits[path].cpu_shares, cgroups.limits[path].cpu_weight) == (2048, 79)
    tiers.note(burstable("b", "500m"))
    assert cgroups.limits[path].cpu_shares == 1024
    tiers.note(burstable("a", "500m", "Succeeded"))
    tiers.drop("nobody")
    assert cgroups.limits[path].cpu_shares == 512
    tiers.drop("b")
    assert cgroups.limits[path].cpu_shares == 2
    assert cgroups.limits["tiphys/node-1/kubepods/besteffort"].cpu_shares == 2


def test_the_node_is_held_to_its_share_as_soon_as_the_kernel_agrees() -> None:
    tiers, cgroups, recorder, clock = make_tiers()
    cgroups.refused.add("tiphys/node-1/kubepods")

    async def scenario() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(tiers.run())
            await clock.sleep(1)
            assert [event[1] for event in recorder.events] == ["FailedNodeAllocatableEnforcement"]
            assert '"[tiphys node-1 kubepods]": failed to write' in recorder.events[0][2]
            cgroups.refused.clear()
            await clock.sleep(60)

    clock.run(scenario())
    told = ("Normal", "NodeAllocatableEnforced", "Updated Node Allocatable limit across pods")
    assert recorder.events[1:] == [told]
    assert cgroups.limits["tiphys/node-1/kubepods"].memory_limit == 16 * GIB


def test_a_node_that_has_less_than_before_holds_its_pods_to_it() -> None:
    share = {"memory": "8Gi"}
    tiers, cgroups, _, clock = make_tiers(replace(CONFIG, capacity=share))
    clock.run(tiers.run())
    assert cgroups.limits["tiphys/node-1/kubepods"].memory_limit == 8 * GIB
    share["memory"] = "4Gi"
    tiers.recheck()
    assert cgroups.limits["tiphys/node-1/kubepods"].memory_limit == 4 * GIB


def test_reserved_cgroups_must_be_there() -> None:
    config = replace(
        CONFIG,
        enforce_node_allocatable=("pods", "system-reserved", "kube-reserved"),
        system_reserved={"cpu": "1", "memory": "1Gi"},
        system_reserved_cgroup="/system.slice",
        kube_reserved={"memory": "1Gi"},
        kube_reserved_cgroup="/kube.slice",
    )
    tiers, cgroups, recorder, clock = make_tiers(config)
    cgroups.limits["system.slice"] = Resources()
    clock.run(tiers.run())
    assert (cgroups.limits["system.slice"].cpu_shares, cgroups.limits["system.slice"].memory_limit) == (1024, GIB)
    assert recorder.events[1][2] == "Updated limits on system reserved cgroup /system.slice"
    assert recorder.events[2][:2] == ("Warning", "FailedNodeAllocatableEnforcement")
    assert 'Failed to enforce Kube Reserved Cgroup Limits on "/kube.slice"' in recorder.events[2][2]


def test_cgroups_of_pods_that_nobody_knows_are_removed() -> None:
    tiers, cgroups, _, clock = make_tiers()
    kubepods = "tiphys/node-1/kubepods"
    for path in ("poda", "burstable/podb", "burstable/podb/c", "besteffort/podc", "burstable/other"):
        cgroups.limits[f"{kubepods}/{path}"] = Resources()
    clock.run(tiers.remove_orphans(["a"]))
    assert sorted(path.removeprefix(f"{kubepods}/") for path in cgroups.limits) == [
        "besteffort",
        "burstable",
        "burstable/other",
        "poda",
    ]
