"""Thresholds, pressure, ranking, limits and words of evictions."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.api.quantity import parse
from tiphys.kubelet.eviction import signals
from tiphys.kubelet.eviction.figures import (
    ContainerFigures,
    FileSystem,
    NodeFigures,
    Observation,
    PodFigures,
    Room,
    Used,
    observations,
)
from tiphys.kubelet.eviction.limits import exceeded, has_storage_limits
from tiphys.kubelet.eviction.manager import reclaims_for
from tiphys.kubelet.eviction.messages import eviction_message
from tiphys.kubelet.eviction.pressure import Pressure
from tiphys.kubelet.eviction.ranking import measured_by, rank
from tiphys.kubelet.eviction.refusal import is_critical, refusal
from tiphys.kubelet.eviction.signals import (
    Amount,
    BadThreshold,
    EvictionSettings,
    Threshold,
    add_containerfs,
    make_thresholds,
)

MI = 1 << 20
GI = 1 << 30


def settings(**given: Any) -> EvictionSettings:
    return EvictionSettings(**{"hard": {}, "soft": {}, "soft_grace": {}, "minimum_reclaim": {}, **given})


def pod(name: str, priority: int = 0, **spec: Any) -> dict[str, Any]:
    containers = spec.pop("containers", [{"name": "main", "resources": spec.pop("resources", {})}])
    return {
        "metadata": {"name": name, "uid": name, "namespace": "default"},
        "spec": {"priority": priority, "containers": containers, **spec},
    }


def test_the_defaults_are_those_of_the_documentation() -> None:
    found = {one.signal: one for one in make_thresholds(settings(hard=signals.DEFAULT_HARD))}
    assert set(found) == {*signals.DEFAULT_HARD, signals.ALLOCATABLE_MEMORY}
    assert found["memory.available"].value.of(8 * GI) == parse("100Mi")
    assert found["allocatableMemory.available"].value.of(8 * GI) == parse("100Mi")
    assert found["imagefs.available"].value.of(1000).value == 150


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"hard": {"mem.available": "1Gi"}}, "unsupported eviction signal mem.available"),
        (
            {"hard": {"memory.available": "-10%"}},
            "eviction percentage threshold memory.available must be >= 0%: -10%",
        ),
        (
            {"hard": {"memory.available": "110%"}},
            "eviction percentage threshold memory.available must be <= 100%: 110%",
        ),
        ({"hard": {"memory.available": "-150Mi"}}, "eviction threshold memory.available must be positive: -150Mi"),
        (
            {"soft": {"memory.available": "1Gi"}},
            "grace period must be specified for the soft eviction threshold memory.available",
        ),
        (
            {"minimum_reclaim": {"memory.available": "-300Mi"}},
            "negative eviction minimum reclaim specified for memory.available",
        ),
        (
            {"minimum_reclaim": {"memory.available": "-15%"}},
            "eviction percentage minimum reclaim memory.available must be positive: -15%",
        ),
        (
            {"soft_grace": {"memory.available": "-30s"}},
            "invalid eviction grace period specified: -30s, must be a positive value",
        ),
    ],
)
def test_thresholds_that_make_no_sense_are_refused_in_upstreams_words(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadThreshold) as caught:
        make_thresholds(settings(**given))
    assert str(caught.value) == message


def test_nothing_and_everything_switch_a_threshold_off() -> None:
    assert make_thresholds(settings(hard={"memory.available": "0%", "nodefs.available": "100%"})) == []


def test_the_containers_file_system_has_the_thresholds_of_the_one_it_is() -> None:
    own = make_thresholds(settings(hard={"nodefs.available": "10%", "imagefs.available": "15%"}))

    def value(dedicated: bool, split: bool) -> float:
        found = add_containerfs(own, dedicated, split)
        return round(next(one.value.part for one in found if one.signal == "containerfs.available"), 2)

    assert value(False, False) == 0.10
    assert value(True, False) == 0.15
    assert value(True, True) == 0.10


def memory(available: int, at: float) -> dict[str, Observation]:
    return observations(NodeFigures(memory=Room(available, 2 * GI)), at)


def test_a_soft_threshold_waits_for_its_grace_period() -> None:
    soft = Threshold("memory.available", Amount(parse("2Gi")), grace=120)
    pressure = Pressure([soft], transition=300)
    assert pressure.observe(memory(GI, 0), 0).conditions == ("MemoryPressure",)
    assert pressure.observe(memory(GI, 60), 60).due == []
    assert pressure.observe(memory(GI, 121), 121).due == [soft]


def test_a_soft_threshold_that_recovers_begins_anew() -> None:
    soft = Threshold("memory.available", Amount(parse("1Gi")), grace=120)
    pressure = Pressure([soft], transition=300)
    for at, available in ((0, MI), (100, 2 * GI), (200, MI), (300, MI)):
        assert pressure.observe(memory(available, at), at).due == []
    assert pressure.observe(memory(MI, 321), 321).due == [soft]


def test_a_condition_outlasts_what_caused_it() -> None:
    hard = Threshold("memory.available", Amount(parse("1Gi")))
    pressure = Pressure([hard], transition=300)
    pressure.observe(memory(MI, 0), 0)
    found = pressure.observe(memory(2 * GI, 299), 299)
    assert (found.due, found.conditions) == ([], ("MemoryPressure",))
    assert pressure.observe(memory(2 * GI, 300), 300).conditions == ()


def test_a_threshold_that_was_met_wants_its_minimum_reclaim_too() -> None:
    hard = Threshold("memory.available", Amount(parse("1Gi")), reclaim=Amount(parse("500Mi")))
    pressure = Pressure([hard], transition=300)
    assert pressure.observe(memory(GI + 100 * MI, 0), 0).due == []
    assert pressure.observe(memory(GI - 1, 10), 10).due == [hard]
    assert pressure.observe(memory(GI + 100 * MI, 20), 20).due == [hard]
    assert pressure.observe(memory(GI + 500 * MI, 30), 30).due == []


def test_one_measurement_is_acted_on_once() -> None:
    hard = Threshold("memory.available", Amount(parse("1Gi")))
    pressure = Pressure([hard], transition=300)
    assert pressure.observe(memory(MI, 5), 5).due == [hard]
    assert pressure.observe(memory(MI, 5), 6).due == []


def test_memory_comes_before_everything_else() -> None:
    wanted = [Threshold("nodefs.available", Amount(parse("1Gi"))), Threshold("memory.available", Amount(parse("1Gi")))]
    disk = FileSystem(Room(1, 10), Room(0, 0))
    observed = observations(NodeFigures(memory=Room(1, 10), nodefs=disk), 0)
    found = Pressure(wanted, 300).observe(observed, 0)
    assert [one.signal for one in found.due] == ["memory.available", "nodefs.available"]
    assert found.conditions == ("MemoryPressure", "DiskPressure")


def requesting(amount: str, resource: str = "memory") -> dict[str, Any]:
    return {"requests": {resource: amount}, "limits": {resource: "3Gi"}}


def test_memory_takes_who_exceeds_requests_then_priority_then_most_above() -> None:
    table = {
        "below-high-priority": (100, requesting("250Mi"), 200),
        "below-low-priority": (0, requesting("250Mi"), 100),
        "above-low-priority": (0, requesting("100Mi"), 400),
        "above-low-priority-more": (0, requesting("100Mi"), 500),
        "best-effort-high-priority": (100, {}, 50),
    }
    pods = [pod(name, priority, resources=wanted) for name, (priority, wanted, _) in table.items()]
    figures = {name: PodFigures(memory=used * MI) for name, (_, _, used) in table.items()}
    names = [one["metadata"]["name"] for one in rank("memory.available", pods, figures)]
    assert names == [
        "above-low-priority-more",
        "above-low-priority",
        "best-effort-high-priority",
        "below-low-priority",
        "below-high-priority",
    ]


def test_a_pod_of_which_nothing_is_known_goes_first() -> None:
    pods = [pod("known"), pod("unknown", priority=1000)]
    figures = {"known": PodFigures(memory=GI)}
    assert rank("memory.available", pods, figures)[0]["metadata"]["name"] == "unknown"


def test_processes_take_priority_first_then_the_most() -> None:
    pods = [pod("many-high", 10), pod("few"), pod("many")]
    figures = {"many-high": PodFigures(processes=900), "few": PodFigures(processes=5), "many": PodFigures(processes=50)}
    assert [one["metadata"]["name"] for one in rank("pid.available", pods, figures)] == ["many", "few", "many-high"]


def on_disk(root: int = 0, logs: int = 0, volume: int = 0) -> PodFigures:
    container = ContainerFigures(0, Used(root * MI, root), Used(logs * MI, logs))
    return PodFigures(containers={"main": container}, volumes={"data": Used(volume * MI, volume)})


def test_disk_counts_only_what_is_on_the_file_system_in_question() -> None:
    volumes = [{"name": "data", "emptyDir": {}}]
    pods = [pod("writes-root", volumes=volumes), pod("writes-logs", volumes=volumes), pod("fills", volumes=volumes)]
    figures = {"writes-root": on_disk(root=300), "writes-logs": on_disk(logs=200), "fills": on_disk(volume=100)}

    def first(signal: str, dedicated: bool, split: bool = False) -> str:
        ranked = rank(signal, pods, figures, measured_by(signal, dedicated, split))
        return str(ranked[0]["metadata"]["name"])

    assert first("nodefs.available", False) == "writes-root"
    assert first("nodefs.available", True) == "writes-logs"
    assert first("imagefs.inodesFree", True) == "writes-root"
    assert first("nodefs.available", True, split=True) == "writes-root"


def test_what_is_reclaimed_first_depends_on_the_disks() -> None:
    assert reclaims_for("memory.available", False, False) == set()
    assert reclaims_for("nodefs.available", False, False) == {"containers", "images"}
    assert reclaims_for("nodefs.available", True, False) == set()
    assert reclaims_for("imagefs.available", True, False) == {"containers", "images"}
    assert reclaims_for("imagefs.available", True, True) == {"images"}
    assert reclaims_for("nodefs.inodesFree", True, True) == {"containers"}


def test_the_message_tells_threshold_and_offending_containers() -> None:
    hog = pod("hog", containers=[{"name": "a", "resources": requesting("100Mi")}, {"name": "b"}, {"name": "c"}])
    figures = PodFigures(
        memory=900 * MI,
        containers={"a": ContainerFigures(200 * MI), "b": ContainerFigures(700 * MI), "c": ContainerFigures(0)},
    )
    threshold = Threshold("memory.available", Amount(parse("100Mi")))
    message, annotations = eviction_message("memory", hog, figures, [threshold], memory(96 * MI, 0))
    assert message == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 96Mi. "
        "Container a was using 200Mi, request is 100Mi, has larger consumption of memory. "
        "Container b was using 700Mi, request is 0, has larger consumption of memory. "
    )
    assert annotations == {
        "offending_containers": "a,b",
        "offending_containers_usage": "200Mi,700Mi",
        "starved_resource": "memory",
    }


def test_the_message_names_the_pod_that_has_requests_of_its_own() -> None:
    hog = pod("hog") | {}
    hog["spec"]["resources"] = {"requests": {"memory": "100Mi"}}
    message, annotations = eviction_message("memory", hog, PodFigures(memory=300 * MI), [], {})
    assert message == (
        "The node was low on resource: memory. "
        "Pod hog was using 300Mi, request is 100Mi, has larger consumption of memory. "
    )
    assert (annotations["offending_pod"], annotations["offending_pod_usage"]) == ("hog", "300Mi")


def test_a_percentage_is_printed_in_bytes_of_the_capacity() -> None:
    threshold = make_thresholds(settings(hard={"nodefs.available": "10%"}))[0]
    disk = FileSystem(Room(GI, 100 * GI), Room(1, 2))
    observed = observations(NodeFigures(nodefs=disk), 0)
    message, _ = eviction_message("ephemeral-storage", pod("x"), None, [threshold], observed)
    assert message == (
        "The node was low on resource: ephemeral-storage. Threshold quantity: 10737418400, available: 1Gi. "
    )


@pytest.mark.parametrize(
    ("spec", "figures", "message"),
    [
        (
            {"volumes": [{"name": "data", "emptyDir": {"sizeLimit": "50Mi"}}]},
            on_disk(volume=51),
            'Usage of EmptyDir volume "data" exceeds the limit "50Mi". ',
        ),
        (
            {"resources": {"limits": {"ephemeral-storage": "100Mi"}}},
            PodFigures(storage=Used(101 * MI)),
            "Pod ephemeral local storage usage exceeds the total limit of containers 100Mi. ",
        ),
        (
            {"resources": {"limits": {"ephemeral-storage": "100Mi"}}},
            on_disk(root=60, logs=60),
            'Container main exceeded its local ephemeral storage limit "100Mi". ',
        ),
        ({"volumes": [{"name": "data", "emptyDir": {"sizeLimit": "50Mi"}}]}, on_disk(volume=50), ""),
        ({"volumes": [{"name": "data", "emptyDir": {"sizeLimit": "0"}}]}, on_disk(volume=50), ""),
        ({"volumes": [{"name": "data", "emptyDir": {}}]}, on_disk(volume=5000), ""),
    ],
)
def test_a_pod_may_not_exceed_its_own_limits_of_storage(spec: Any, figures: PodFigures, message: str) -> None:
    found = exceeded(pod("x", **spec), figures)
    assert (found.message if found is not None else "") == message


def test_only_pods_with_limits_of_storage_are_watched() -> None:
    assert has_storage_limits(pod("x", volumes=[{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]))
    assert has_storage_limits(pod("x", resources={"limits": {"ephemeral-storage": "1Gi"}}))
    assert not has_storage_limits(pod("x", volumes=[{"name": "v", "emptyDir": {}}], resources={"limits": {"cpu": "1"}}))


def test_under_memory_pressure_only_best_effort_is_refused() -> None:
    best, burstable = pod("best"), pod("burst", resources=requesting("1Mi"))
    why = ("Evicted", "The node had condition: [MemoryPressure]. ")
    assert refusal(best, ("MemoryPressure",)) == why
    assert refusal(burstable, ("MemoryPressure",)) is None
    tolerant = pod("t", tolerations=[{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}])
    assert refusal(tolerant, ("MemoryPressure",)) is None
    other = pod("t", tolerations=[{"key": "node.kubernetes.io/disk-pressure", "operator": "Exists"}])
    assert refusal(other, ("MemoryPressure",)) == why


def test_under_other_pressure_all_but_critical_pods_are_refused() -> None:
    both = ("MemoryPressure", "DiskPressure")
    burstable = pod("burst", resources=requesting("1Mi"))
    assert refusal(burstable, both) == ("Evicted", "The node had condition: [MemoryPressure DiskPressure]. ")
    assert refusal(pod("critical", priority=2_000_000_000), both) is None
    assert refusal(pod("nobody"), ()) is None


def test_static_pods_are_critical() -> None:
    static = pod("s")
    static["metadata"]["annotations"] = {"kubernetes.io/config.source": "file"}
    mirror = pod("m")
    mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "abc"}
    ours = pod("a")
    ours["metadata"]["annotations"] = {"kubernetes.io/config.source": "api"}
    assert [is_critical(one) for one in (static, mirror, ours)] == [True, True, False]
