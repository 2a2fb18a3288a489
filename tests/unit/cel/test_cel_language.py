"""What expressions mean: one row an expression, its value and its static type."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.api.cel import (
    DYN,
    INT,
    NONE,
    STRING,
    Duration,
    Environment,
    EvaluationError,
    Optional,
    Timestamp,
    Type,
    Uint,
    list_of,
    map_of,
)
from tiphys.api.cel.comprehensions import BINDINGS

ENVIRONMENT = (
    Environment.kubernetes()
    .with_libraries(BINDINGS)
    .with_variables({"x": INT, "s": STRING, "items": list_of(INT), "m": map_of(STRING, INT), "d": DYN})
)
VALUES: dict[str, Any] = {
    "x": 5,
    "s": "héllo",
    "items": [1, 2, 3],
    "m": {"a": 1, "b": 2},
    "d": {"n": 1, "f": 1.0, "t": True, "s": "x", "l": [1, "a"], "null": None},
}

EXPRESSIONS: list[tuple[str, Any]] = [
    ("1 + 2 * 3 - 4 / 2", 5),
    ("-7 / 2", -3),
    ("-7 % 3", -1),
    ("7 % -3", 1),
    ("5u - 3u", Uint(2)),
    ("0x1F", 31),
    ("0xFu", Uint(15)),
    ("1.5e3", 1500.0),
    (".5 + 1.0", 1.5),
    ("-9223372036854775808", -(1 << 63)),
    ("--5", 5),
    ("!!true", True),
    ("1.0 / 0.0 == double('Infinity')", True),
    ("0.0 / 0.0 == 0.0 / 0.0", False),
    # texts
    ("'a' + \"b\"", "ab"),
    ("'''a\n'b'''", "a\n'b"),
    ("r'\\n'", "\\n"),
    ("'\\u00e9\\x41\\101\\U0001F600'", "éAA😀"),
    ("b'\\xff\\303\\277ä'", b"\xff\xc3\xbf\xc3\xa4"),
    ("b'a' + b'b'", b"ab"),
    ("size(s)", 5),
    ("s.size() == size(bytes(s)) - 1", True),
    ("'abc'.startsWith('ab') && 'abc'.endsWith('bc') && 'abc'.contains('b')", True),
    ("'foobar'.matches('o+b')", True),
    ("matches('foobar', '^o')", False),
    ("'b' > 'a' && 'a' <= 'a' && 'Z' < 'a'", True),
    ("'\\U0001F600' > '\\uffff'", True),
    # equality and order across types
    ("dyn(1) == 1.0 && dyn(1u) == 1 && dyn(1.0) == 1u", True),
    ("d.t == d.n", False),
    ("d.n == d.f", True),
    ("dyn(true) == 1", False),
    ("[dyn(1), dyn(true)] == [dyn(1), dyn(1)]", False),
    ("1 < 1.5 && 2u > 1 && 1.0 <= 1", True),
    ("d.s == 1", False),
    ("null == d['null']", True),
    ("{'a': [1, 2]} == {'a': [1, 2]}", True),
    ("{1: 'a'}[dyn(1u)] == 'a' && dyn({1: 'a'})[1.0] == 'a'", True),
    ("true in {true: 1} && !(dyn(1) in {true: 1})", True),
    ("1 in dyn([1.0]) && !(dyn(true) in dyn([1]))", True),
    ("9223372036854775807 == dyn(9223372036854775808.0)", True),
    # lists, maps, selection
    ("items[0] + items[2]", 4),
    ("items + [4]", [1, 2, 3, 4]),
    ("m.a + m['b']", 3),
    ("'a' in m && !('z' in m)", True),
    ("x in [1, 5]", True),
    ("has(m.a) && !has(m.z)", True),
    ("has(d.l) && d.l[1] == 'a'", True),
    ("{'a': 1}.a", 1),
    ("[[1], [2]][1][0]", 2),
    # logic absorbs failures
    ("m.z == 1 || true", True),
    ("false && 1 / 0 == 1", False),
    ("1 / 0 == 1 && false", False),
    ("true ? 1 : 1 / 0", 1),
    ("x > 3 && x < 10 && s != '' && true", True),
    ("x > 9 || s == '' || x == 5", True),
    (
        "((((x > 1 ? items[0] : 1) + size(items)) + items[m.a]) % size('ab')) == m.?a.optMap(v, v + 1).orValue(int(s))",
        False,
    ),
    # macros
    ("items.all(i, i > 0)", True),
    ("items.all(i, i > 1)", False),
    ("[0, 1].all(i, 1 / i > 1)", False),
    ("[0, 2].exists(i, 4 / i == 2)", True),
    ("items.exists(i, i == 2)", True),
    ("items.exists_one(i, i > 2)", True),
    ("items.existsOne(i, i > 1)", False),
    ("items.map(i, i * i)", [1, 4, 9]),
    ("items.map(i, i > 1, i * i)", [4, 9]),
    ("items.filter(i, i % 2 == 1)", [1, 3]),
    ("m.map(k, k)", ["a", "b"]),
    ("items.all(i, v, v == i + 1)", True),
    ("m.exists(k, v, k == 'b' && v == 2)", True),
    ("m.existsOne(k, v, v == 2)", True),
    ("items.transformList(i, v, i * v)", [0, 2, 6]),
    ("items.transformList(i, v, i > 0, v)", [2, 3]),
    ("m.transformMap(k, v, v + 1)", {"a": 2, "b": 3}),
    ("m.transformMap(k, v, k != 'a', v)", {"b": 2}),
    ("items.transformMapEntry(i, v, {string(v): i})", {"1": 0, "2": 1, "3": 2}),
    ("[[1, 2], [3]].map(l, l.map(i, i + size(l)))", [[3, 4], [4]]),
    ("cel.bind(a, x + 1, a * a)", 36),
    ("cel.bind(a, 1 / 0, true || a == 1)", True),
    # optionals
    ("m.?a", Optional(1)),
    ("m.?z", NONE),
    ("m.?z.orValue(9)", 9),
    ("m[?'b'].orValue(1 / 0)", 2),
    ("items[?9].hasValue()", False),
    ("d.?l[1]", Optional("a")),
    ("d.?q.?w.orValue('none')", "none"),
    ("m.?z.or(m.?b).value()", 2),
    ("m.?a.optMap(v, v + 10).value()", 11),
    ("m.?z.optMap(v, v + 10) == optional.none()", True),
    ("m.?a.optFlatMap(v, optional.of(v)).value()", 1),
    ("[?m.?a, ?m.?z, 3]", [1, 3]),
    ("{?'a': m.?a, ?'z': m.?z}", {"a": 1}),
    ("optional.ofNonZeroValue('') == optional.none()", True),
    ("optional.ofNonZeroValue({'a': 1}).hasValue()", True),
    ("[optional.of(1), optional.none()].unwrapOpt()", [1]),
    ("items.first().value() + items.last().value()", 4),
    # conversions
    ("int('-12') + int(3.9) + int(2u)", -7),
    ("int(-3.9)", -3),
    ("uint('7')", Uint(7)),
    ("double('1e3') + double(1)", 1001.0),
    ("string(1.0) + string(1e100) + string(-0.5)", "11e+100-0.5"),
    ("string(1e6) + ' ' + string(123456.0) + ' ' + string(1.5e-7)", "1e+06 123456 1.5e-07"),
    ("string(true) + string(1u) + string(b'ab')", "true1ab"),
    ("bool('True') && !bool('0')", True),
    ("bytes('é')", b"\xc3\xa9"),
    # types
    ("type(1) == int && type(d.n) == int && type(d.f) == double", True),
    ("type('') == string && type([]) == list && type({}) == map && type(null) == null_type", True),
    ("type(type(1)) == type", True),
    ("type(duration('1s')) == google.protobuf.Duration", True),
    # times
    ("timestamp('2020-01-01T00:00:00Z') + duration('25h') == timestamp('2020-01-02T01:00:00Z')", True),
    ("timestamp('2020-01-02T00:00:00Z') - timestamp('2020-01-01T00:00:00Z')", Duration(86_400 * 10**9)),
    ("timestamp(1)", Timestamp(10**9)),
    ("duration('-1.5h') == duration('-90m')", True),
    ("duration('1h1m1.5s').getMilliseconds()", 3_661_500),
    ("string(duration('1m0.5s'))", "60.5s"),
    ("string(timestamp('2020-02-03T04:05:06.070+01:00'))", "2020-02-03T04:05:06.07+01:00"),
    ("timestamp('2020-02-03T04:05:06Z').getDayOfWeek()", 1),
    ("timestamp('2020-02-03T04:05:06Z').getDayOfYear()", 33),
    ("timestamp('2020-02-03T04:05:06Z').getHours('America/New_York')", 23),
    ("timestamp('2020-02-03T04:05:06Z').getDate('-05:00')", 2),
    ("timestamp('2020-02-03T04:05:06Z').getMonth() + 1", 2),
    # comments and names
    ("1 // one\n + 1", 2),
    (".x + x", 10),
]


@pytest.mark.parametrize(("source", "expected"), EXPRESSIONS)
def test_value_of_an_expression(source: str, expected: Any) -> None:
    value = ENVIRONMENT.compile(source).run(VALUES)

    assert value == expected
    assert type(value) is type(expected)


FAILING = [
    ("1 / 0", "division by zero"),
    ("1 % 0", "modulus by zero"),
    ("9223372036854775807 + 1", "integer overflow"),
    ("-(-9223372036854775808)", "integer overflow"),
    ("-9223372036854775808 / -1", "integer overflow"),
    ("1u - 2u", "unsigned integer overflow"),
    ("int(1e30 * double(x))", "integer overflow"),
    ("uint(x - 6)", "unsigned integer overflow"),
    ("m.z", "no such key: z"),
    ("m['z']", "no such key: z"),
    ("{1: 2}[3]", "no such key: 3"),
    ("items[3]", "index out of bounds: 3"),
    ("items[-1]", "index out of bounds: -1"),
    ("d.s + 1", "no such overload"),
    ("d.s < 1", "no such overload"),
    ("d.n && true", "no such overload"),
    ("d.n ? 1 : 2", "no such overload"),
    ("d.n.foo", "no such overload"),
    ("size(d.n)", "no such overload: size(int)"),
    ("d.f.startsWith('a')", "no such overload"),
    ("optional.none().value()", "optional.none() dereference"),
    ("int(s)", "type conversion error from 'string' to 'int'"),
    ("timestamp(s)", "type conversion error from 'string' to 'google.protobuf.Timestamp'"),
    ("string(b'\\xff' + bytes(s))", "invalid UTF-8 in bytes, cannot convert to string"),
    ("timestamp('9999-12-31T23:59:59Z') + duration('1s')", "timestamp overflow"),
    ("[0, 1].all(i, 1 / i > 0)", "division by zero"),
    ("s.matches('(' + s)", "error parsing regexp: missing closing ): `(héllo`"),
    ("0.0 / 0.0 < 1.0", "NaN values cannot be ordered"),
    ("timestamp(0).getHours('Nowhere/Land')", "unknown time zone Nowhere/Land"),
    ("m.transformMapEntry(k, v, {'same': v})", "insert failed: key same already exists"),
]


@pytest.mark.parametrize(("source", "message"), FAILING)
def test_failure_has_upstreams_text(source: str, message: str) -> None:
    program = ENVIRONMENT.compile(source)

    with pytest.raises(EvaluationError) as caught:
        program.run(VALUES)

    assert str(caught.value).startswith(message)


def test_first_failure_of_a_chain_is_reported() -> None:
    with pytest.raises(EvaluationError, match="no such key: y"):
        ENVIRONMENT.compile("m.y == 1 && m.z == 1").run(VALUES)


def test_missing_variable_is_an_error() -> None:
    with pytest.raises(EvaluationError, match=r"no such attribute\(s\): x"):
        ENVIRONMENT.compile("x + 1").run({})


TYPES = [
    ("1", "int"),
    ("[1]", "list(int)"),
    ("{'a': 1.5}", "map(string, double)"),
    ("x > 1 ? [1] : []", "list(int)"),
    ("m.?a", "optional_type(int)"),
    ("items.map(i, string(i))", "list(string)"),
    ("d.x", "dyn"),
    ("type(1)", "type(int)"),
    ("timestamp('2020-01-01T00:00:00Z')", "timestamp"),
    ("{}", "map(dyn, dyn)"),
    ("null", "null"),
]


@pytest.mark.parametrize(("source", "expected"), TYPES)
def test_static_type(source: str, expected: str) -> None:
    program = ENVIRONMENT.compile(source)

    assert isinstance(program.type, Type)
    assert str(program.type) == expected
