from __future__ import annotations

from typing import Any

import pytest

from tiphys.controllers.slice_hints import Hinted, distribute, distribution, remove, topology_mode
from tiphys.controllers.slice_packing import Writes
from tiphys.controllers.slice_topology import Topology, cpu_ratios

KEY = "d/web"


def node(name: str, zone: str, cpu: str = "4", *, ready: str = "True", role: str = "") -> dict[str, Any]:
    labels = {"topology.kubernetes.io/zone": zone} if zone else {}
    if role:
        labels[f"node-role.kubernetes.io/{role}"] = ""
    status = {"conditions": [{"type": "Ready", "status": ready}], "allocatable": {"cpu": cpu} if cpu else {}}
    return {"metadata": {"name": name, "labels": labels}, "status": status}


def endpoint(number: int, zone: str | None, *, ready: bool = True, hint: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {"addresses": [f"10.0.0.{number}"], "conditions": {"ready": ready}, "nodeName": f"n{number}"}
    if zone:
        out["zone"] = zone
    if hint:
        out["hints"] = {"forZones": [{"name": hint}]}
    return out


def held(name: str, *endpoints: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name}, "addressType": "IPv4", "endpoints": list(endpoints)}


def zones(*counts: tuple[str, int]) -> list[dict[str, Any]]:
    return [endpoint(number, zone) for zone, count in counts for number in range(count)]


def hinted(created: list[dict[str, Any]], *unchanged: dict[str, Any]) -> Hinted:
    return Hinted(Writes(create=[held("new", *created)] if created else []), list(unchanged))


def hints(slices: list[dict[str, Any]]) -> list[str]:
    found = (each.get("hints") for one in slices for each in one["endpoints"])
    return sorted(hint["forZones"][0]["name"] for hint in found if hint)


def messages(work: Hinted) -> list[tuple[str, str]]:
    return [(reason, message) for _, reason, message in work.events]


THREE = [node("a", "a"), node("b", "b"), node("c", "c")]


def test_cpus_are_counted_by_zone_for_ready_workers() -> None:
    assert cpu_ratios([node("1", "a", "1500m"), node("2", "a", "500m"), node("3", "b", "2")]) == {"a": 0.5, "b": 0.5}
    apart = [node("m", "c", role="control-plane"), node("o", "c", role="master"), node("x", "c", ready="False")]
    assert cpu_ratios([*apart, node("1", "a", "1"), node("2", "b", "3")]) == {"a": 0.25, "b": 0.75}
    assert cpu_ratios([node("1", "a"), node("2", "b"), node("3", "")]) == {}
    assert cpu_ratios([node("1", "a"), node("2", "b", "")]) == {}
    assert cpu_ratios([node("1", "a"), node("2", "a")]) == {}
    assert cpu_ratios([node("1", "a", "nonsense"), node("2", "b")]) == {}


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((("a", 1), ("b", 1), ("c", 1)), "abc"),
        ((("a", 4), ("b", 1), ("c", 1)), "aabbcc"),
        ((("a", 6), ("b", 3), ("c", 0)), "aaabbbccc"),
        ((("a", 5), ("b", 4), ("c", 3)), "aaaabbbbcccc"),
    ],
)
def test_endpoints_are_shared_out_among_zones(counts: tuple[tuple[str, int], ...], expected: str) -> None:
    topology = Topology(lambda: THREE)
    work = hinted(zones(*counts))
    topology.assign(KEY, "IPv4", work)
    assert "".join(hints(work.writes.create)) == expected
    enabled = "Topology Aware Hints has been enabled, addressType: IPv4"
    assert messages(work) == [("TopologyAwareHintsEnabled", enabled)]
    for later in (topology, Topology(lambda: THREE)):
        again = hinted([], *work.writes.create)
        later.assign(KEY, "IPv4", again)
        assert again.writes == Writes()
        assert again.events == []


@pytest.mark.parametrize(
    ("nodes", "endpoints", "problem"),
    [
        (
            [node("a", "a"), node("b", "")],
            zones(("a", 4)),
            "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes",
        ),
        (THREE, zones(("a", 2)), "Insufficient number of endpoints (2 endpoints, 3 zones)"),
        (
            [node(str(number), str(number)) for number in range(5)],
            zones(("0", 6)),
            "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold "
            "(6 endpoints, 5 zones)",
        ),
        (THREE, [*zones(("a", 5)), endpoint(9, None)], "One or more endpoints do not have a zone specified"),
    ],
)
def test_where_zones_cannot_be_served_evenly_an_event_says_why(
    nodes: list[dict[str, Any]], endpoints: list[dict[str, Any]], problem: str
) -> None:
    work = hinted(endpoints, held("old", endpoint(50, "a", ready=False, hint="a")))
    Topology(lambda: nodes).assign(KEY, "IPv4", work)
    assert messages(work) == [("TopologyAwareHintsDisabled", f"{problem}, addressType: IPv4")]
    assert hints(work.writes.create) == []
    assert [each["metadata"]["name"] for each in work.writes.update] == ["old"]
    assert hints(work.writes.update) == []


def test_a_zone_that_grows_makes_its_services_overloaded() -> None:
    nodes = [node("a", "a"), node("b", "b")]
    topology = Topology(lambda: nodes)
    work = hinted(zones(("a", 2), ("b", 2)))
    topology.assign(KEY, "IPv4", work)
    assert topology.overloaded() == []
    nodes.append(node("c", "b", "40"))
    topology.nodes_changed()
    assert topology.overloaded() == [KEY]
    again = hinted([], *work.writes.create)
    topology.assign(KEY, "IPv4", again)
    assert topology.overloaded() == []


def test_a_service_that_asks_no_longer_is_told_once() -> None:
    topology = Topology(lambda: THREE)
    topology.assign(KEY, "IPv4", hinted(zones(("a", 1), ("b", 1), ("c", 1))))
    first, second = hinted([]), hinted([])
    topology.disable(KEY, "IPv4", first)
    topology.disable(KEY, "IPv4", second)
    disabled = "Topology Aware Hints has been disabled, addressType: IPv4"
    assert (messages(first), messages(second)) == ([("TopologyAwareHintsDisabled", disabled)], [])


def test_traffic_close_by_is_hinted_and_stale_hints_are_put_right() -> None:
    good = held("good", endpoint(1, "a", hint="a"), endpoint(2, None))
    wrong = held("wrong", endpoint(3, "a", hint="b"))
    stale = held("stale", endpoint(4, None, hint="b"))
    unready = held("unready", endpoint(5, "a", ready=False))
    work = hinted(zones(("c", 1)), good, wrong, stale, unready)
    distribute(work, "PreferSameZone")
    assert hints(work.writes.create) == ["c"]
    assert {each["metadata"]["name"]: hints([each]) for each in work.writes.update} == {"wrong": ["a"], "stale": []}
    assert wrong["endpoints"][0]["hints"] == {"forZones": [{"name": "b"}]}


def test_the_same_node_is_preferred_with_its_zone_for_clients_that_know_no_nodes() -> None:
    work = hinted([endpoint(1, "a"), endpoint(2, None)], held("old", endpoint(3, "a", hint="a")))
    distribute(work, "PreferSameNode")
    first, second = work.writes.create[0]["endpoints"]
    assert first["hints"] == {"forZones": [{"name": "a"}], "forNodes": [{"name": "n1"}]}
    assert second["hints"] == {"forNodes": [{"name": "n2"}]}
    assert len(work.writes.update) == 1


def test_hints_that_nobody_asks_for_go() -> None:
    plain, with_hints = held("plain", endpoint(1, "a")), held("hints", endpoint(2, "a", hint="a"))
    work = hinted([endpoint(3, "a", hint="a")], plain, with_hints)
    remove(work)
    assert hints([*work.writes.create, *work.writes.update]) == []
    assert work.unchanged == [plain]


def test_the_annotation_wins_over_the_field() -> None:
    def service(wanted: str | None, **annotations: str) -> dict[str, Any]:
        notes = {f"service.kubernetes.io/{name.replace('_', '-')}": value for name, value in annotations.items()}
        return {"metadata": {"name": "web", "annotations": notes}, "spec": {"trafficDistribution": wanted}}

    assert distribution(service("PreferClose")) == "PreferClose"
    assert distribution(service("Elsewhere")) == ""
    assert distribution(service(None)) == ""
    assert distribution(service("PreferSameNode", topology_mode="Auto")) == ""
    assert topology_mode(service(None, topology_mode="auto"))
    assert not topology_mode(service(None, topology_mode="Auto", topology_aware_hints="Disabled"))
    assert topology_mode(service(None, topology_aware_hints="Auto"))
