"""Which endpoints of a port a place uses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from tiphys.proxy.services.facts import Endpoint, ServicePort
from tiphys.proxy.services.topology import Place, usable

PLACE = Place("node-1", "zone-a")
EXTERNAL = {"node_port": 30080}


def at(number: int, *, zones: str = "", nodes: str = "", node: str = "node-2", **conditions: Any) -> Endpoint:
    found = Endpoint(f"10.1.2.{number}", 80, node=node, **conditions)
    return found._replace(for_zones=frozenset(zones.split()), for_nodes=frozenset(nodes.split()))


def going(number: int, **more: Any) -> Endpoint:
    return at(number, ready=False, serving=True, terminating=True, **more)


def gone(number: int, **more: Any) -> Endpoint:
    return at(number, ready=False, serving=False, terminating=True, **more)


@dataclass
class Case:
    endpoints: list[Endpoint]
    cluster: set[int] = field(default_factory=set)
    local: set[int] = field(default_factory=set)
    port: dict[str, Any] = field(default_factory=dict)
    place: Place = PLACE
    anywhere: bool = True


HERE, THERE = "node-1", "node-2"
CASES = {
    "the zone's, if each has a hint": Case(
        [at(3, zones="zone-a"), at(4, zones="zone-b"), at(5, zones="zone-c zone-a")], {3, 5}
    ),
    "all, if one has no hint": Case([at(3, zones="zone-a"), at(4), at(5, zones="zone-b")], {3, 4, 5}),
    "all, if no hint is for the zone": Case([at(3, zones="zone-b"), at(4, zones="zone-c")], {3, 4}),
    "all, if the node has no zone": Case([at(3, zones="zone-a")], {3}, place=Place(HERE)),
    "hints of those that are not ready do not count": Case(
        [at(3, zones="zone-a"), at(4, ready=False), at(5, zones="zone-b")], {3}
    ),
    "the node's before the zone's": Case([at(3, zones="zone-a", nodes=HERE), at(4, zones="zone-a", nodes=THERE)], {3}),
    "the zone's, if no node hint is for the node": Case(
        [at(3, zones="zone-a", nodes="node-3"), at(4, zones="zone-b", nodes=THERE)], {3}
    ),
    "all for the host, which is no node": Case(
        [at(3, zones="zone-a", nodes=HERE), at(4, zones="zone-b", nodes=THERE)], {3, 4}, place=Place()
    ),
    "policy Local has no use for hints": Case(
        [at(3, zones="zone-a", node=HERE), at(4, zones="zone-b", node=HERE), at(5, zones="zone-a")],
        {3, 5},
        {3, 4},
        {"external_local": True, **EXTERNAL},
    ),
    "internal policy Local alone asks for no others": Case(
        [at(3, node=HERE), at(4)], set(), {3}, {"internal_local": True}
    ),
    "internal policy Local with a node port": Case(
        [at(3, node=HERE), at(4)], {3, 4}, {3}, {"internal_local": True, **EXTERNAL}
    ),
    "external policy Local without anything external": Case(
        [at(3, node=HERE), at(4)], {3, 4}, port={"external_local": True}
    ),
    "policy Local with none here": Case([at(3), at(4)], {3, 4}, set(), {"external_local": True, **EXTERNAL}),
    "internal policy Local with none here": Case([at(3)], set(), set(), {"internal_local": True}),
    "those that are ready, not those that end": Case([at(3), going(4), gone(5)], {3}),
    "those that end, if none is ready": Case([going(3), going(4), gone(5), at(6, ready=False)], {3, 4}),
    "those that end, whatever their hints": Case([going(3, zones="zone-b")], {3}),
    "those that end here, if none is ready here": Case(
        [going(3, node=HERE), gone(4, node=HERE), at(5)], {5}, {3}, {"external_local": True, **EXTERNAL}
    ),
    "ready ones here before those that end here": Case(
        [at(3, node=HERE), going(4, node=HERE)], {3}, {3}, {"external_local": True, **EXTERNAL}
    ),
    "those that end elsewhere are no use for Local": Case(
        [going(3), gone(4, node=HERE)], {3}, set(), {"external_local": True, **EXTERNAL}
    ),
    "nobody serves": Case([gone(3), at(4, ready=False, serving=False)], anywhere=False),
    "nobody is there": Case([], anywhere=False),
    "the host's own are those near": Case(
        [at(3), Endpoint("192.0.2.7", 80)],
        {2003, 3},
        {3},
        {"external_local": True, **EXTERNAL},
        Place(near=("10.1.0.0/16", "fd01::/64")),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_endpoints_in_use(name: str) -> None:
    case = CASES[name]
    port = ServicePort("default/web", "", "tcp", "10.96.0.1", 80, **case.port)
    found = usable(port, tuple(case.endpoints), case.place)
    expected = {each for each in case.endpoints if number(each) in case.cluster}
    assert set(found.cluster) == expected
    assert {number(each) for each in found.local} == case.local
    assert found.anywhere is case.anywhere
    assert sorted(found.reachable) == sorted({*found.cluster, *found.local})


def number(endpoint: Endpoint) -> int:
    last = int(endpoint.address.rpartition(".")[2])
    return last if endpoint.address.startswith("10.1.2.") else 2003
