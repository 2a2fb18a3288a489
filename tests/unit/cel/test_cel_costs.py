"""Costs: what a run counts, what is estimated before, and what happens when it is too much."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.api.cel import (
    BOOL,
    DYN,
    INT,
    STRING,
    Budget,
    CostExceeded,
    Environment,
    EvaluationError,
    list_of,
    map_of,
)
from tiphys.api.cel.costs import MAX, Range

ENVIRONMENT = Environment.kubernetes().with_variables(
    {
        "a": BOOL,
        "b": BOOL,
        "x": INT,
        "s": STRING.with_size(100),
        "items": list_of(INT, 10),
        "texts": list_of(STRING.with_size(20), 5),
        "m": map_of(STRING, INT, 7),
        "d": DYN,
    }
)
VALUES: dict[str, Any] = {
    "a": True,
    "b": False,
    "x": 5,
    "s": "a" * 25,
    "items": [1, 2, 3],
    "texts": ["ab", "c" * 15],
    "m": {"k": 1},
    "d": {"k": {"v": [1]}},
}

RUN_COSTS = [
    ("1", 0),
    ("'text'", 0),
    ("x", 1),
    ("x + 1", 2),
    ("m.k", 2),
    ("m['k']", 2),
    ("items[0]", 2),
    ("items[x - 5]", 4),
    ("m[texts[0] == '' ? 'k' : 'k']", 3),
    ("d.k.v[0]", 4),
    ("has(m.k)", 1),
    ("has(d.k.v)", 2),
    ("[x]", 11),
    ("[1, 2]", 0),
    ("{'a': 1}", 0),
    ("{'a': x}", 31),
    ("a ? x : 1", 1),
    ("a ? x + 1 : 1", 3),
    ("a && b", 2),
    ("b && a", 1),
    ("a || b", 1),
    ("!a", 2),
    ("s == 'abc'", 2),
    ("s == s", 5),
    ("s != ''", 1),
    ("s + s", 7),
    ("s.contains('aaa')", 4),
    ("s.startsWith('aaa')", 4),
    ("s.matches('^a*$')", 4),
    ("size(s)", 2),
    ("x in items", 5),
    ("x in [1, 5]", 1),
    ("x in []", 0),
    ("'k' in m", 2),
    ("items + items", 3),
    ("int('5')", 0),
    ("int(s + '') == 1 || true", 6),
    ("timestamp('2020-01-01T00:00:00Z').getHours()", 1),
    ("items.all(i, i > 0)", 17),
    ("items.exists(i, i == 1)", 11),
    ("items.exists_one(i, i == 1)", 11),
    ("items.map(i, i)", 41),
    ("items.filter(i, i > 1)", 34),
    ("m.?k", 2),
    ("m.?z", 1),
    ("m.?z.orValue(1)", 1),
    ("d.?z['y'].hasValue()", 2),
    ("d.?k['v'].hasValue()", 4),
]


@pytest.mark.parametrize(("source", "cost"), RUN_COSTS)
def test_cost_of_a_run(source: str, cost: int) -> None:
    budget = Budget(1000)

    try:
        ENVIRONMENT.compile(source).run(VALUES, budget)
    except EvaluationError:
        pytest.fail(f"{source} has no value")

    assert budget.spent == cost


ESTIMATES = [
    ("1", Range(0, 0)),
    ("x + 1", Range(2, 2)),
    ("m.k", Range(2, 2)),
    ("has(m.k)", Range(1, 1)),
    ("[1, 2, 3]", Range(10, 10)),
    ("{'a': 1}", Range(30, 30)),
    ("a && b", Range(1, 2)),
    ("a ? 1 : x + 1", Range(1, 3)),
    ("s == 'abc'", Range(2, 2)),
    ("s.contains('abc')", Range(1, 11)),
    ("s.matches('^a*$')", Range(2, 12)),
    ("items.all(i, i > 0)", Range(2, 52)),
    ("m.all(k, m[k] > 0)", Range(2, 51)),
    ("texts.map(t, t + 'b')", Range(12, 92)),
    ("'a' in texts", Range(1, 6)),
    ("[1, 2, 3].all(i, true)", Range(20, 20)),
    ("d.k == s", Range(3, 12)),
    ("string(x) == s", Range(4, 13)),
]


@pytest.mark.parametrize(("source", "estimate"), ESTIMATES)
def test_estimated_cost(source: str, estimate: Range) -> None:
    assert ENVIRONMENT.compile(source).estimated_cost() == estimate


def test_estimate_without_sizes_is_unbounded() -> None:
    environment = Environment.kubernetes().with_variables({"l": list_of(STRING)})

    assert environment.compile("l.all(a, l.all(b, a != b))").estimated_cost().maximum == MAX


def test_run_stops_at_its_limit_and_takes_it_from_the_budget() -> None:
    program = ENVIRONMENT.compile("items.all(a, items.all(b, items.all(c, a + b + c >= 0)))")
    budget = Budget()

    with pytest.raises(CostExceeded) as caught:
        program.run({"items": list(range(200))}, budget)

    assert str(caught.value) == "operation cancelled: actual cost limit exceeded"
    assert not caught.value.shared
    assert 1_000_000 < budget.spent < 1_010_000


def test_budget_is_shared_by_runs() -> None:
    program = ENVIRONMENT.compile("x + 1 > 2")
    budget = Budget(7)

    program.run(VALUES, budget)
    program.run(VALUES, budget)
    with pytest.raises(CostExceeded) as caught:
        program.run(VALUES, budget)

    assert caught.value.shared
    assert budget.remaining == -2


def test_failed_run_costs_too() -> None:
    budget = Budget(100)

    with pytest.raises(EvaluationError):
        ENVIRONMENT.compile("m.missing == 1").run(VALUES, budget)

    assert budget.spent == 3


def test_failing_items_of_a_comprehension_cost_what_others_cost() -> None:
    environment = Environment.kubernetes().with_variables({"l": list_of(map_of(STRING, STRING))})
    budget = Budget(1000)

    assert environment.compile("l.exists(m, m.v == 'z')").run({"l": [{}, {}, {"v": "z"}]}, budget) is True
    assert budget.spent == 1 + 3 * (3 + 1 + 3) + 1
