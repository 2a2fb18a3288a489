"""How fast zones give up nodes, by what is left of them."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.controllers.node_zones import EvictionPolicy, Shift, State, Zones, zone_of


def node(zone: str = "a", **labels: str) -> dict[str, Any]:
    return {"metadata": {"labels": {"topology.kubernetes.io/zone": zone, **labels}}}


def cluster(ready: int, lost: int, zone: str = "a", zones: Zones | None = None) -> Zones:
    zones = zones or Zones(EvictionPolicy())
    for number in range(ready + lost):
        zones.observe(f"{zone}{number}", node(zone), ready=number < ready)
    return zones


@pytest.mark.parametrize(
    ("ready", "lost", "state", "rate"),
    [
        (0, 0, State.NORMAL, 0.1),
        (1, 2, State.NORMAL, 0.1),
        (2, 3, State.PARTIAL, 0.0),
        (3, 3, State.NORMAL, 0.1),
        (30, 60, State.PARTIAL, 0.01),
        (0, 1, State.FULL, 0.1),
        (0, 100, State.FULL, 0.1),
    ],
)
def test_the_state_of_a_zone_sets_its_rate(ready: int, lost: int, state: State, rate: float) -> None:
    policy = EvictionPolicy()
    assert policy.state(ready, lost) is state
    assert policy.rate_of(state, ready + lost) == rate


def test_one_node_in_ten_seconds_and_the_first_come_is_the_first_served() -> None:
    zones = cluster(5, 3)
    assert zones.settle(0.0) is None
    assert [zones.take(name, 0.0) for name in ("a5", "a6", "a7")] == [True, False, False]
    assert list(zones.turns(4.0)) == [("a6", 6.0)]
    assert not zones.take("a7", 10.0)
    assert zones.take("a6", 10.0)
    assert zones.withdraw("a7")
    assert not zones.withdraw("a7")
    assert list(zones.turns(10.0)) == []


def test_zones_have_rates_of_their_own() -> None:
    zones = cluster(5, 1, "b", cluster(5, 1, "a"))
    zones.settle(0.0)
    assert zones.take("a5", 0.0)
    assert zones.take("b5", 0.0)


def test_a_zone_that_is_mostly_lost_stops_and_waits_for_a_token_when_it_goes_on() -> None:
    zones = cluster(4, 2)
    zones.settle(0.0)
    assert zones.take("a4", 0.0)
    for name in ("a3", "a2"):
        zones.observe(name, node(), ready=False)
    zones.settle(20.0)
    assert not zones.take("a5", 20.0)
    assert list(zones.turns(20.0)) == []
    zones.observe("a3", node(), ready=True)
    assert zones.settle(100.0) is None
    assert list(zones.turns(100.0)) == [("a5", 10.0)]
    assert zones.take("a5", 110.0)


def test_the_loss_of_all_nodes_stops_everything_until_one_is_back() -> None:
    zones = cluster(0, 2, "b", cluster(1, 1, "a"))
    assert zones.settle(0.0) is None
    assert zones.take("b0", 0.0)
    zones.observe("a0", node("a"), ready=False)
    assert zones.settle(1.0) is Shift.LOST
    assert zones.settle(2.0) is None
    assert not zones.take("b1", 1000.0)
    zones.observe("a0", node("a"), ready=True)
    assert zones.settle(1000.0) is Shift.BACK
    assert list(zones.turns(1000.0)) == [("b1", 10.0)]


def test_excluded_nodes_do_not_count_but_wait_as_all_do() -> None:
    zones = cluster(2, 0)
    excluded = node("a", **{"node.kubernetes.io/exclude-disruption": ""})
    for number in range(5):
        assert zones.observe(f"x{number}", excluded, ready=False) is (number >= 0)
    zones.settle(0.0)
    assert zones.take("x0", 0.0)
    assert not zones.take("x1", 0.0)


def test_a_node_may_move_and_end() -> None:
    zones = cluster(2, 0, "b", cluster(1, 1, "a"))
    zones.settle(0.0)
    assert not zones.observe("a1", node("a"), ready=False)
    assert zones.observe("a1", node("b"), ready=False)
    assert zones.take("a1", 0.0)
    assert zones.observe("a1", None, ready=False)
    assert not zones.observe("a1", None, ready=False)
    assert zones.settle(1.0) is None


def test_the_zone_is_told_by_old_labels_first() -> None:
    old = {"failure-domain.beta.kubernetes.io/zone": "z", "failure-domain.beta.kubernetes.io/region": "r"}
    assert zone_of(node("new", **old)) == "r/z"
    assert zone_of(node("new")) == "/new"
    assert zone_of({"metadata": {}}) == "/"


def test_a_rate_of_zero_lets_the_first_go_and_no_other() -> None:
    zones = Zones(EvictionPolicy(rate=0.0))
    for name in ("a", "b", "c"):
        zones.observe(name, node(), ready=name == "a")
    zones.settle(0.0)
    assert zones.take("b", 0.0)
    assert not zones.take("c", 1e9)
    assert list(zones.turns(1e9)) == []
