"""Whatever the input, compiling raises CompileError or nothing, running EvaluationError or CostExceeded or nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiphys.api.cel import (
    DYN,
    INT,
    STRING,
    Budget,
    CompileError,
    CostExceeded,
    Environment,
    EvaluationError,
    list_of,
    map_of,
)

ENVIRONMENT = Environment.kubernetes().with_variables(
    {"x": INT, "s": STRING, "l": list_of(INT), "m": map_of(STRING, DYN), "d": DYN}
)
VALUES: dict[str, Any] = {
    "x": 1,
    "s": "a" * 50,
    "l": list(range(50)),
    "m": {"a": 1, "b": [True, None]},
    "d": {"a": {"b": [1, 2.5, "x", None, {}]}},
}


def attempt(source: str, values: dict[str, Any] | None = None) -> str:
    """How it ended; anything but CEL's own errors comes through."""
    try:
        program = ENVIRONMENT.compile(source)
    except CompileError as error:
        return str(error)
    program.estimated_cost()
    try:
        program.run(VALUES if values is None else values, Budget())
    except (EvaluationError, CostExceeded) as error:
        return str(error)
    return "ran"


LIMIT = "expression recursion limit exceeded: 250"
EXCEEDED = "operation cancelled: actual cost limit exceeded"

HOSTILE = {
    "parentheses": ("(" * 50_000, LIMIT),
    "parentheses within the limit": ("(" * 245 + "1" + ")" * 245, "ran"),
    "lists within lists": ("[" * 240 + "]" * 240, "ran"),
    "long sum": ("+".join(["x"] * 1000), LIMIT),
    "sum within the limit": ("+".join(["x"] * 240), "ran"),
    "negations": ("!" * 90_000 + "true", "ran"),
    "conjunction of thousands": (" && ".join(["x == 1"] * 3000), "ran"),
    "nested conditionals": ("d.a == 1 ? (" * 100 + "3" + ") : 4" * 100, "ran"),
    "nested comprehensions": ("l.all(i, " * 30 + "d.a > 0" + ")" * 30, EXCEEDED),
    "nested comprehensions that fail": ("l.exists(i, " * 12 + "d.z" + ")" * 12, EXCEEDED),
    "comprehensions and conditionals": ("(l.all(i, x == 1 && (" * 15 + "d.a > 0" + ") ? d.z : true))" * 15, EXCEEDED),
    "selections": ("d" + ".a" * 200, "no such key: a"),
    "long number": ("9" * 99_000, "invalid int literal"),
    "long text": ("'" + "a" * 99_000 + "'", "ran"),
    "too long": ("'" + "a" * 100_000 + "'", "expression code point size exceeds limit: size: 100002, limit 100000"),
    "doubling texts": ("s" + "".join(".split('').join('aaaaaaaaaa')" for _ in range(9)), ""),
    "doubling optionals": ("optional.of(l)" + "".join(f".optMap(a{i}, a{i} + a{i})" for i in range(60)), "too large"),
    "pattern that backtracks": ("s.matches('^(a+)+$b')", "ran"),
    "pattern too large": ("s.matches('((a{100}){100}){100}')", "invalid matches argument"),
    "look-ahead": ("s.matches('(?=a)b')", "invalid matches argument"),
    "unclosed text": ("'" + "\\q" * 4000, "token recognition error"),
    "quotes": ('"""' * 3000, "Syntax error"),
    "dots": ("." * 50_000, "no viable alternative"),
    "python": ("__import__('os')", "undeclared reference to '__import__'"),
    "attributes": ("d.__class__", "no such key: __class__"),
    "code in a text": ("'\"; raise SystemExit; \"' == s", "ran"),
    "name like a variable of the compiler": ("l.all(t1, t1 == 't1' || true) || 'c' == s", "found no matching overload"),
    "long duration": ("duration('" + "9" * 90_000 + "s')", "invalid duration argument"),
    "time zone path": ("timestamp(0).getHours('../../etc/passwd')", "unknown time zone"),
    "duplicate keys": ("{" + ", ".join(f"'k{i % 7}': {i}" for i in range(3000)) + "}", "ran"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.timeout(30)
def test_hostile_expression(name: str) -> None:
    source, outcome = HOSTILE[name]

    assert outcome in attempt(source)


def test_deep_values_are_an_error_not_a_crash() -> None:
    def deep() -> Any:
        value: Any = []
        for _ in range(100_000):
            value = [value]
        return value

    assert attempt("dyn(l) == d", {"d": deep(), "l": deep()}) == "value is nested too deeply"


PIECES = [
    *("x", "s", "l", "m", "d", "1", "0", "-1", "2u", "1.5", "'a'", "b'a'", "true", "null", "[]", "{}", "[1, 2]", "i"),
    *(
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ".",
        ",",
        "?",
        ":",
        "+",
        "-",
        "*",
        "/",
        "%",
        "!",
        "&&",
        "||",
        "==",
        "!=",
        "<",
        ">=",
    ),
    *(" in ", ".a", ".?a", "[0]", "[?0]", "has(d.a)", ".all(i, ", ".map(i, ", ".exists(i, ", ".filter(i, ", "size("),
    *("string(", "int(", "type(", "duration('1s')", "timestamp(0)", ".orValue(", "optional.of(", ".optMap(v, ", "v"),
    *(".startsWith(", ".matches(", ".transformMap(k, v, ", "dyn(", "'", '"', "\\", "`", "//", "\n", "é", "\x00"),
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_pieces_of_the_language_in_any_order(pieces: list[str]) -> None:
    attempt("".join(pieces))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_any_text(source: str) -> None:
    attempt(source)


LEAVES = st.sampled_from(
    ["x", "s", "l", "m", "d", "d.a.b", "m.a", "l[0]", "1", "0", "2u", "1.5", "'a'", "true", "null"]
)


def _compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operator = st.sampled_from(["+", "-", "*", "/", "%", "==", "!=", "<", "<=", "&&", "||", "in"])
    macro = st.sampled_from(["all", "exists", "exists_one", "map", "filter"])
    function = st.sampled_from(["dyn", "size", "string", "int", "type", "double", "optional.of"])
    return st.one_of(
        st.builds("(dyn({}) {} dyn({}))".format, inner, operator, inner),
        st.builds("({} {} {})".format, inner, operator, inner),
        st.builds("(dyn({}) ? {} : dyn({}))".format, inner, inner, inner),
        st.builds("dyn({}).{}(i, {})".format, inner, macro, inner),
        st.builds("{}({})".format, function, inner),
        st.builds("[{}, dyn({})]".format, inner, inner),
        st.builds("{{dyn({}): {}}}".format, inner, inner),
        st.builds("dyn({})[dyn({})]".format, inner, inner),
        st.builds("dyn({}).?a.orValue(dyn({}))".format, inner, inner),
        st.builds("!dyn({})".format, inner),
    )


@settings(max_examples=400, deadline=None)
@given(st.recursive(LEAVES, _compound, max_leaves=12))
def test_expressions_that_mostly_compile(source: str) -> None:
    attempt(source)


NUMBERS = st.sampled_from(["x", "l[0]", "size(s)", "m.?a.optMap(v, 2).orValue(3)", "1", "7"])


def _numeric(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    sign = st.sampled_from(["+", "-", "*", "/", "%"])
    order = st.sampled_from(["<", "==", ">="])
    return st.one_of(
        st.builds("({} {} {})".format, inner, sign, inner),
        st.builds("({} {} {} ? {} : {})".format, inner, order, inner, inner, inner),
        st.builds("(l.all(i, i {} {}) && {} > 0 || {} < 0 ? {} : 1)".format, order, inner, inner, inner, inner),
        st.builds("size(l.filter(i, i {} {}).map(i, i {} {}))".format, order, inner, sign, inner),
        st.builds("m.?z.optMap(v, {}).orValue({})".format, inner, inner),
        st.builds("l[{}]".format, inner),
    )


@settings(max_examples=300, deadline=None)
@given(st.recursive(NUMBERS, _numeric, max_leaves=25))
def test_long_expressions_of_known_types(source: str) -> None:
    assert "ERROR" not in attempt(source)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(JSON, JSON, st.recursive(LEAVES, _compound, max_leaves=6))
def test_any_json_for_variables_of_any_type(first: Any, second: Any, source: str) -> None:
    attempt(source, {"x": first, "s": second, "l": first, "m": second, "d": [first, second]})
