"""CPUs, memory and their nearness: who gets what, who is refused, what a restart finds again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tiphys.base.errors import Permanent
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.cpusets import format_cpus
from tiphys.kubelet.managers.hints import BEST_EFFORT, NONE, RESTRICTED, SINGLE, Hint, Policy
from tiphys.kubelet.managers.layout import Cpu, Layout, read_layout
from tiphys.kubelet.managers.manager import Managers
from tiphys.kubelet.managers.picking import NotEnough, pick, pick_across_nodes

GIB = 1 << 30
TWO = Layout(
    tuple(Cpu(cpu, cpu % 8, cpu % 8 // 4, cpu % 8 // 4) for cpu in range(16)),
    {0: {"memory": 8 * GIB}, 1: {"memory": 8 * GIB}},
    {0: (10, 21), 1: (21, 10)},
)
"""Two sockets of four cores of two threads: cpu 8 is the sibling of cpu 0."""


def pod(uid: str, *containers: tuple[str, str], init: tuple[str, str] | None = None) -> dict[str, Any]:
    def made(name: str, cpu: str, memory: str) -> dict[str, Any]:
        own = {"cpu": cpu, "memory": memory}
        return {"name": name, "resources": {"requests": own, "limits": own}}

    spec: dict[str, Any] = {"containers": [made(f"c{i}", *one) for i, one in enumerate(containers)]}
    if init is not None:
        spec["initContainers"] = [made("init", *init)]
    return {"metadata": {"uid": uid, "name": uid}, "spec": spec, "status": {"qosClass": "Guaranteed"}}


def config(tmp_path: Path, **more: Any) -> KubeletConfig:
    return replace(KubeletConfig("n", tmp_path, cpu_manager_policy="static", system_reserved={"cpu": "1500m"}), **more)


def managers(tmp_path: Path, **more: Any) -> Managers:
    return Managers(config(tmp_path, **more), lambda: TWO)


def cpus(found: Managers, uid: str, name: str = "c0") -> str:
    return format_cpus(found.cpus(uid, name))


def test_whole_sockets_cores_and_then_threads_are_picked() -> None:
    everything = TWO.all_cpus
    assert format_cpus(pick(TWO, everything, 8)) == "0-3,8-11"
    assert format_cpus(pick(TWO, everything, 4)) == "0-1,8-9"
    assert format_cpus(pick(TWO, everything, 3)) == "0-1,8"
    assert format_cpus(pick(TWO, everything - {0}, 1)) == "8", "beside what is in use anyway"
    assert format_cpus(pick(TWO, everything, 4, spread_cores=True)) == "0-3"
    assert format_cpus(pick_across_nodes(TWO, everything - {0, 8}, 8, 1)) in ("4-7,12-15",)
    assert format_cpus(pick_across_nodes(TWO, everything - {0, 8, 4, 12}, 8, 2)) == "1-2,5-6,9-10,13-14"
    with pytest.raises(NotEnough, match="requested=3, available=2"):
        pick(TWO, frozenset({1, 2}), 3)


def test_a_guaranteed_container_has_whole_cpus_for_itself(tmp_path: Path) -> None:
    found = managers(tmp_path)
    assert found.cpu_manager is not None
    assert format_cpus(found.cpu_manager.reserved) == "0,8"
    assert found.admit(pod("a", ("2", "1Gi"), ("1500m", "1Gi"))) is None
    assert cpus(found, "a") == "1,9"
    assert cpus(found, "a", "c1") == ""
    assert found.assigned(pod("a", ("2", "1Gi")), {"name": "c0"}).exclusive
    shared = found.assigned(pod("b", ("500m", "1Gi")), {"name": "c0"})
    assert (shared.cpus, shared.exclusive) == ("0,2-8,10-15", False)
    assert found.release("a")
    assert found.assigned(pod("b", ("500m", "1Gi")), {"name": "c0"}).cpus == "0-15"


def test_what_was_given_is_found_again(tmp_path: Path) -> None:
    managers(tmp_path).admit(pod("a", ("2", "1Gi")))
    again = managers(tmp_path)
    assert cpus(again, "a") == "1,9"
    again.keep_only(["b"])
    assert cpus(again, "a") == ""
    assert again.cpu_manager is not None
    assert format_cpus(again.cpu_manager.shared) == "0-15"


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ('{"policyName":"none","defaultCpuSet":""}', 'configured policy "static" differs'),
        ('{"policyName":"static","defaultCpuSet":"1-15"}', 'not all reserved cpus: "0,8"'),
        ('{"policyName":"static","defaultCpuSet":"0-14"}', 'current set of available CPUs "0-15"'),
        ('{"policyName":"static","defaultCpuSet":"0-15","entries":{"p":{"c":"3"}}}', "overlaps with default cpuset"),
        ('{"policyName":"static","defaultCpuSet":"","entries":{"p":{"c":"3"}}}', "default cpuset cannot be empty"),
        ("nonsense", "cpu_manager_state"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(tmp_path: Path, state: str, why: str) -> None:
    (tmp_path / "cpu_manager_state").write_text(state)
    with pytest.raises(Permanent, match=why):
        managers(tmp_path)


def test_without_a_reservation_there_is_no_static_policy(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=r"requires systemreserved\.cpu"):
        managers(tmp_path, system_reserved={})


def test_an_init_containers_cpus_go_on(tmp_path: Path) -> None:
    found = managers(tmp_path)
    assert found.admit(pod("a", ("2", "1Gi"), ("2", "1Gi"), init=("4", "1Gi"))) is None
    given = set(found.cpus("a", "init"))
    assert set(found.cpus("a", "c0")) | set(found.cpus("a", "c1")) == given


def test_too_many_cpus_are_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    found = managers(tmp_path)
    refusal = found.admit(pod("a", ("8", "1Gi"), ("8", "1Gi")))
    assert refusal is not None
    assert refusal[0] == "UnexpectedAdmissionError"
    assert "not enough cpus available to satisfy request: requested=8, available=6" in refusal[1]
    assert cpus(found, "a") == ""


def test_whole_cores_only(tmp_path: Path) -> None:
    found = managers(tmp_path, cpu_manager_policy_options={"full-pcpus-only": "true"})
    text = "SMT Alignment Error: requested 3 cpus not multiple cpus per core = 2"
    assert found.admit(pod("a", ("3", "1Gi"))) == ("SMTAlignmentError", text)
    assert found.admit(pod("b", ("4", "1Gi"))) is None
    refusal = found.admit(pod("c", ("12", "1Gi")))
    assert refusal is not None
    assert "available physical CPUs = 10, requested CPUs = 12, CPUs per core = 2" in refusal[1]


def test_strictly_reserved_cpus_are_nobodys(tmp_path: Path) -> None:
    options = {"strict-cpu-reservation": "true"}
    found = managers(tmp_path, cpu_manager_policy_options=options, reserved_system_cpus="0,8")
    assert found.assigned(pod("b", ("500m", "1Gi")), {"name": "c0"}).cpus == "1-7,9-15"


def hint(preferred: bool, *nodes: int) -> Hint:
    return frozenset(nodes), preferred


@pytest.mark.parametrize(
    ("name", "offers", "best", "fits"),
    [
        (BEST_EFFORT, [{}], (frozenset({0, 1}), True), True),
        (BEST_EFFORT, [{"cpu": [hint(True, 0), hint(True, 1), hint(False, 0, 1)]}], hint(True, 0), True),
        (
            RESTRICTED,
            [{"cpu": [hint(True, 0), hint(True, 1)]}, {"gpu": [hint(True, 1), hint(False, 0, 1)]}],
            hint(True, 1),
            True,
        ),
        (RESTRICTED, [{"cpu": [hint(True, 0)]}, {"gpu": [hint(True, 1)]}], (frozenset({0, 1}), False), False),
        (BEST_EFFORT, [{"cpu": [hint(True, 0)]}, {"gpu": [hint(True, 1)]}], (frozenset({0, 1}), False), True),
        (RESTRICTED, [{"cpu": [hint(True, 0, 1)]}], hint(True, 0, 1), True),
        (SINGLE, [{"cpu": [hint(True, 0, 1)]}], (None, False), False),
        (SINGLE, [{"cpu": [hint(True, 1), hint(False, 0, 1)]}, {"gpu": None}], hint(True, 1), True),
        (RESTRICTED, [{"gpu": ()}], (frozenset({0, 1}), False), False),
        (NONE, [{"gpu": ()}], (frozenset({0, 1}), False), True),
    ],
)
def test_hints_are_merged(name: str, offers: list[Any], best: Hint, fits: bool) -> None:
    assert Policy(name, (0, 1)).merge(offers) == (best, fits)


def test_near_nodes_may_count_before_few() -> None:
    distances = {0: (10, 30, 12), 1: (30, 10, 30), 2: (12, 30, 10)}
    offers = [{"cpu": [hint(True, 0, 1), hint(True, 0, 2)]}]
    assert Policy(BEST_EFFORT, (0, 1, 2)).merge(offers)[0] == hint(True, 0, 1)
    assert Policy(BEST_EFFORT, (0, 1, 2), distances).merge(offers)[0] == hint(True, 0, 2)


def test_a_pod_goes_to_one_numa_node_or_not_at_all(tmp_path: Path) -> None:
    found = managers(tmp_path, topology_manager_policy="single-numa-node")
    found.register(lambda pod, container: {"example.com/gpu": [hint(True, 1)]})
    assert found.admit(pod("a", ("4", "1Gi"))) is None
    assert set(found.cpus("a", "c0")) <= TWO.on([1])
    assert found.affinity("a", "c0") == frozenset({1})
    text = "Resources cannot be allocated with Topology locality"
    assert found.admit(pod("b", ("6", "1Gi"))) == ("TopologyAffinityError", text)
    assert found.affinity("b", "c0") is None


def test_the_scope_of_a_pod_is_all_its_containers(tmp_path: Path) -> None:
    own = managers(tmp_path / "own", topology_manager_policy="single-numa-node")
    assert own.admit(pod("a", ("4", "1Gi"), ("6", "1Gi"))) is None
    whole = managers(tmp_path / "pod", topology_manager_policy="single-numa-node", topology_manager_scope="pod")
    assert whole.admit(pod("a", ("4", "1Gi"), ("6", "1Gi"))) is not None
    assert whole.admit(pod("b", ("4", "1Gi"), ("4", "1Gi"))) is None
    assert set(whole.cpus("b", "c0")) | set(whole.cpus("b", "c1")) == TWO.on([1])


def memory_managers(tmp_path: Path, **more: Any) -> Managers:
    kept = ({"numaNode": 0, "limits": {"memory": "2Gi"}},)
    given: dict[str, Any] = {"system_reserved": {"memory": "1948Mi"}, "eviction_hard": {"memory.available": "100Mi"}}
    given |= {"cpu_manager_policy": "none", "memory_manager_policy": "Static", "reserved_memory": kept} | more
    return managers(tmp_path, **given)


def test_memory_comes_from_nodes_that_have_enough(tmp_path: Path) -> None:
    found = memory_managers(tmp_path)
    assert found.admit(pod("a", ("1", "5Gi"))) is None
    assert found.memory("a", "c0") == [("memory", 5 * GIB, (0,))]
    assert found.admit(pod("b", ("1", "5Gi"))) is None
    assert found.memory("b", "c0") == [("memory", 5 * GIB, (1,))]
    assert found.assigned(pod("b", ("1", "5Gi")), {"name": "c0"}).mems == "1"
    refusal = found.admit(pod("c", ("1", "4Gi")))
    assert refusal is not None
    assert "no NUMA nodes with enough memory is available" in refusal[1]
    again = memory_managers(tmp_path)
    assert again.memory("b", "c0") == [("memory", 5 * GIB, (1,))]
    again.release("b")
    assert again.admit(pod("c", ("1", "4Gi"))) is None
    assert again.allocatable_memory() == [("memory", 6 * GIB, (0,)), ("memory", 8 * GIB, (1,))]


def test_much_memory_comes_from_several_nodes(tmp_path: Path) -> None:
    found = memory_managers(tmp_path)
    assert found.admit(pod("a", ("1", "10Gi"))) is None
    assert found.memory("a", "c0") == [("memory", 10 * GIB, (0, 1))]
    assert found.admit(pod("b", ("1", "1Gi"))) is None
    assert found.memory("b", "c0") == [("memory", GIB, (0, 1))], "a node that serves a group serves nobody alone"


def test_memory_of_an_init_container_goes_on(tmp_path: Path) -> None:
    found = memory_managers(tmp_path)
    assert found.admit(pod("a", ("1", "5Gi"), init=("1", "5Gi"))) is None
    assert found.memory("a", "c0") == [("memory", 5 * GIB, (0,))]
    assert sum(size for _, size, _ in found.memory("a", "init")) == 0


def test_nothing_is_assigned_unless_asked_for(tmp_path: Path) -> None:
    found = Managers(KubeletConfig("n", tmp_path), lambda: TWO)
    assert found.admit(pod("a", ("2", "1Gi"))) is None
    assigned = found.assigned(pod("a", ("2", "1Gi")), {"name": "c0"})
    assert (assigned.cpus, assigned.mems, assigned.exclusive) == ("", "", False)
    assert list(tmp_path.iterdir()) == []


def test_the_layout_is_read_from_the_kernels_files(tmp_path: Path) -> None:
    for cpu in range(4):
        place = tmp_path / f"cpu/cpu{cpu}/topology"
        place.mkdir(parents=True)
        (place / "physical_package_id").write_text("0\n")
        (place / "core_id").write_text(f"{cpu % 2}\n")
    (tmp_path / "cpu/online").write_text("0-3\n")
    for node in (0, 1):
        (tmp_path / f"node/node{node}/hugepages/hugepages-2048kB").mkdir(parents=True)
        (tmp_path / f"node/node{node}/cpulist").write_text(f"{node},{node + 2}\n")
        (tmp_path / f"node/node{node}/distance").write_text("10 21\n")
        (tmp_path / f"node/node{node}/meminfo").write_text(f"Node {node} MemTotal: 1048576 kB\n")
        (tmp_path / f"node/node{node}/hugepages/hugepages-2048kB/nr_hugepages").write_text("4\n")
    found = read_layout(tmp_path)
    assert found.cpus[3] == Cpu(3, 1, 0, 1)
    assert (found.nodes, found.threads_per_core) == ((0, 1), 2)
    assert found.memory[0] == {"memory": GIB - 4 * (2 << 20), "hugepages-2Mi": 4 * (2 << 20)}
    assert found.distances[1] == (10, 21)


def test_this_machine_has_a_layout() -> None:
    found = read_layout()
    assert found.all_cpus
    assert found.nodes


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"cpu_manager_policy": "dynamic"}, 'unknown policy: "dynamic"'),
        ({"memory_manager_policy": "static"}, 'unknown policy: "static"'),
        ({"cpu_manager_policy_options": {"fast": "true"}}, 'unknown CPU Manager Policy option: "fast"'),
        ({"cpu_manager_policy_options": {"full-pcpus-only": "yes"}}, 'bad value for option "full-pcpus-only"'),
        ({"cpu_manager_policy_options": {"align-by-socket": "true"}}, "Alpha-level Options not enabled"),
        (
            {
                "cpu_manager_policy_options": {
                    "distribute-cpus-across-numa": "true",
                    "prefer-align-cpus-by-uncorecache": "true",
                }
            },
            "can not be used at the same time",
        ),
        (
            {"cpu_manager_policy": "none", "cpu_manager_policy_options": {"full-pcpus-only": "true"}},
            r"None policy: received unsupported options=map\[full-pcpus-only:true\]",
        ),
        (
            {"topology_manager_policy": "restricted", "topology_manager_policy_options": {"far": "1"}},
            'unknown Topology Manager Policy option: "far"',
        ),
        (
            {
                "topology_manager_policy": "restricted",
                "topology_manager_policy_options": {"max-allowable-numa-nodes": "4"},
            },
            "should not be less than 8",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, settings: dict[str, Any], why: str) -> None:
    with pytest.raises(Permanent, match=why):
        managers(tmp_path, **settings)


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ([(0, {"memory": "1Gi"})], 'the total amount "1Gi" of type "memory" is not equal to the value "2Gi"'),
        ([(7, {"memory": "2Gi"})], "references a NUMA node 7 that does not exist"),
        ([(0, {"memory": "1Gi"}), (0, {"memory": "1Gi"})], "duplicate value for NUMA node 0"),
        ([(0, {"memory": "2Gi", "cpu": "1"})], 'the limit type "cpu" for NUMA node 0 is not supported'),
        ([(0, {"memory": "2Gi"}), (1, {"memory": "0"})], "may not be zero for NUMA node 1"),
    ],
)
def test_reserved_memory_is_what_is_kept_from_pods(tmp_path: Path, limits: list[Any], why: str) -> None:
    kept = tuple({"numaNode": node, "limits": amounts} for node, amounts in limits)
    with pytest.raises(Permanent, match=why):
        memory_managers(tmp_path, reserved_memory=kept)
