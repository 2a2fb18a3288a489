"""Which devices a container gets, by the rules alone."""

from __future__ import annotations

import pytest

from tiphys.kubelet.devices.hints import hints_of
from tiphys.kubelet.devices.pool import AllocationError, Device, Pool, Want, begin, check, finish


def pool(**nodes: tuple[int, ...]) -> Pool:
    return Pool("example.com/gpu", {id: Device(id, True, where) for id, where in nodes.items()})


def choose(from_: Pool, want: Want, preferred: tuple[str, ...] = ()) -> tuple[str, ...]:
    return finish(from_, want, begin(from_, want), preferred)


def test_any_free_devices_do_when_nothing_says_where_they_are() -> None:
    assert choose(pool(a=(), b=(), c=()), Want(2, in_use=frozenset("a"))) == ("b", "c")


def test_devices_of_ended_init_containers_come_first() -> None:
    assert choose(pool(a=(), b=(), c=()), Want(2, frozenset("c"), frozenset("c"))) == ("c", "a")


def test_too_few_devices_are_told_in_numbers() -> None:
    with pytest.raises(AllocationError, match=r"unavailable for example.com/gpu. Requested: 2, Available: 1"):
        begin(pool(a=(), b=()), Want(2, in_use=frozenset("a")))


def test_devices_on_the_chosen_nodes_come_before_others() -> None:
    have = pool(a=(0,), b=(1,), c=(1,), d=())
    assert choose(have, Want(1, affinity=frozenset({1}))) == ("b",)
    assert choose(have, Want(3, affinity=frozenset({1}))) == ("b", "c", "a")
    assert choose(have, Want(4, affinity=frozenset({1}))) == ("b", "c", "a", "d")


def test_the_plugin_may_choose_among_those_that_are_near_enough() -> None:
    have = pool(a=(0,), b=(1,), c=(1,))
    pick = begin(have, Want(1, affinity=frozenset({1})))
    assert pick.available == {"b", "c"}
    assert finish(have, Want(1, affinity=frozenset({1})), pick, ["a", "c"]) == ("c",)


def test_a_preference_is_followed_as_far_as_it_goes() -> None:
    assert choose(pool(a=(), b=(), c=()), Want(2), ("c", "nothing")) == ("c", "a")


def test_what_cannot_be_allocated_is_said_in_upstreams_words() -> None:
    sick = Pool("r", {"a": Device("a", False)})
    half = Pool("r", {"a": Device("a", False), "b": Device("b", True)})
    for have, held, text in (
        (None, None, "cannot allocate unregistered device r"),
        (sick, None, "no healthy devices present; cannot allocate unhealthy devices r"),
        (half, ["a"], "previously allocated devices are no longer healthy; cannot allocate unhealthy devices r"),
    ):
        with pytest.raises(AllocationError, match=text):
            check(have, "r", held)
    assert check(half, "r", ["b"]) is half


def test_a_new_list_tells_whose_health_changed() -> None:
    have = pool(a=(), b=())
    assert have.replace([Device("a", False), Device("b", True), Device("c", True)]) == {"a", "c"}
    assert have.fail() == {"b", "c"}
    assert have.healthy == set()


def test_hints_name_every_set_of_nodes_and_prefer_the_smallest() -> None:
    have = pool(a=(0,), b=(0,), c=(1,))
    machine = (0, 1)
    one, two, both = frozenset({0}), frozenset({1}), frozenset({0, 1})
    assert hints_of(have, 1, (), machine=machine) == [(one, True), (two, True), (both, False)]
    assert hints_of(have, 2, (), machine=machine) == [(one, True), (both, False)]
    assert hints_of(have, 2, ("a",), machine=machine) == [(both, False)]
    assert hints_of(have, 3, ("a",), machine=machine) == []
    assert hints_of(have, 1, (), held=("c",), machine=machine) == [(two, True), (both, False)]
    assert hints_of(pool(a=(), b=()), 1, ()) is None
