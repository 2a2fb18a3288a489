"""From what is and what should be to commands."""

from __future__ import annotations

from tiphys.proxy.services.rules import Rules
from tiphys.proxy.services.table import Actual, Desired, Touched, sweep_commands

TABLE = "ip t"


def rules(chain: str, *keys: str, since: str = "", sets: dict[str, str] | None = None) -> Rules:
    """A chain, and elements of the map m that lead to it."""
    elements = {("m", key): f"goto {chain}" for key in keys}
    return Rules({chain: ("accept",)}, sets or {}, elements, (since, chain))


def bring(desired: Desired, actual: Actual, touched: Touched) -> list[str]:
    change = desired.difference(touched, actual)
    actual.note(change)
    return change.commands(TABLE)


def test_chains_come_before_what_leads_to_them() -> None:
    desired, actual = Desired(), Actual()
    touched = desired.put("a", rules("a-1", "1", "2", sets={"s": "{ type ipv4_addr; }"}))
    first, second, third, elements = bring(desired, actual, touched)
    assert (first, second, third) == (
        "add set ip t s { type ipv4_addr; }",
        "add chain ip t a-1",
        "add rule ip t a-1 accept",
    )
    assert elements in (
        "add element ip t m { 1 : goto a-1, 2 : goto a-1 }",
        "add element ip t m { 2 : goto a-1, 1 : goto a-1 }",
    )


def test_nothing_is_done_twice() -> None:
    desired, actual = Desired(), Actual()
    bring(desired, actual, desired.put("a", rules("a-1", "1")))
    assert bring(desired, actual, desired.put("a", rules("a-1", "1"))) == []
    assert bring(desired, actual, desired.everything(actual)) == []


def test_a_changed_element_is_replaced_in_the_same_transaction() -> None:
    desired, actual = Desired(), Actual()
    bring(desired, actual, desired.put("a", rules("a-1", "1")))
    assert bring(desired, actual, desired.put("a", rules("a-2", "1"))) == [
        "add chain ip t a-2",
        "add rule ip t a-2 accept",
        "delete element ip t m { 1 }",
        "add element ip t m { 1 : goto a-2 }",
    ]
    assert not desired.is_tidy(actual)
    assert sweep_commands(desired.stale(actual), TABLE) == ["flush chain ip t a-1", "delete chain ip t a-1"]


def test_what_nobody_wants_any_more_goes() -> None:
    desired, actual = Desired(), Actual()
    bring(desired, actual, desired.put("a", rules("a-1", "1", sets={"s": "{}"})))
    assert bring(desired, actual, desired.put("a", Rules())) == ["delete element ip t m { 1 }"]
    assert sweep_commands(desired.stale(actual), TABLE) == [
        "flush chain ip t a-1",
        "delete chain ip t a-1",
        "delete set ip t s",
    ]
    assert desired.owners() == []


def test_a_chain_that_is_wanted_again_before_it_was_taken_away_is_still_there() -> None:
    desired, actual = Desired(), Actual()
    bring(desired, actual, desired.put("a", rules("a-1", "1")))
    bring(desired, actual, desired.put("a", rules("a-2", "1")))
    assert bring(desired, actual, desired.put("a", rules("a-1", "1"))) == [
        "delete element ip t m { 1 }",
        "add element ip t m { 1 : goto a-1 }",
    ]


def test_several_owners_may_want_the_same_element() -> None:
    desired, actual = Desired(), Actual()
    hairpin = Rules(elements={("s", "x"): ""})
    assert bring(desired, actual, desired.put("a", hairpin)) == ["add element ip t s { x }"]
    assert bring(desired, actual, desired.put("b", Rules(elements={("s", "x"): ""}))) == []
    assert bring(desired, actual, desired.put("a", Rules())) == []
    assert bring(desired, actual, desired.put("b", Rules())) == ["delete element ip t s { x }"]


def test_of_two_who_claim_an_address_the_older_one_has_it() -> None:
    desired, actual = Desired(), Actual()
    bring(desired, actual, desired.put("young", rules("young", "1", since="2026-02-01T00:00:00Z")))
    touched = desired.put("old", rules("old", "1", since="2026-01-01T00:00:00Z"))
    assert bring(desired, actual, touched)[-1] == "add element ip t m { 1 : goto old }"
    assert bring(desired, actual, desired.put("young", rules("young", "1", since="2026-02-01T00:00:00Z"))) == []
    assert bring(desired, actual, desired.put("old", Rules()))[-1] == "add element ip t m { 1 : goto young }"


def test_a_service_of_the_same_name_made_anew_is_as_young_as_it_is() -> None:
    desired, actual = Desired(), Actual()
    for owner, since in (("a", "1"), ("b", "2")):
        bring(desired, actual, desired.put(owner, rules(owner, "1", since=since)))
    touched = desired.put("a", rules("a", "1", since="3"))
    assert bring(desired, actual, touched)[-1] == "add element ip t m { 1 : goto b }"


def test_what_was_found_and_is_not_wanted_goes() -> None:
    desired = Desired()
    desired.put("a", rules("a-1", "1", "2"))
    actual = Actual({"a-1", "b-1"}, {"s"}, {("m", "1"): "goto a-1", ("m", "2"): "goto b-1", ("m", "3"): "goto b-1"})
    (deleted, added) = bring(desired, actual, desired.everything(actual))
    assert deleted in ("delete element ip t m { 2, 3 }", "delete element ip t m { 3, 2 }")
    assert added == "add element ip t m { 2 : goto a-1 }"
    assert desired.stale(actual) == Actual({"b-1"}, {"s"})


def test_some_owners_at_a_time_come_to_the_same() -> None:
    desired = Desired()
    for owner in "abc":
        desired.put(owner, rules(f"{owner}-1", owner))
    actual = Actual(set(), set(), {("m", "x"): "goto gone"})
    commands = bring(desired, actual, desired.leftover(actual))
    for part in (["a", "b"], ["c"]):
        commands += bring(desired, actual, desired.of(part))
    assert commands[0] == "delete element ip t m { x }"
    assert bring(desired, actual, desired.everything(actual)) == []
