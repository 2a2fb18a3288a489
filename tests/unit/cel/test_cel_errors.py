"""Compile errors: the words and the place in the source are upstream's."""

from __future__ import annotations

import pytest

from tiphys.api.cel import BOOL, DYN, INT, STRING, CompileError, Environment, ProgramError, list_of

ENVIRONMENT = Environment.kubernetes().with_variables({"x": INT, "s": STRING, "items": list_of(INT), "d": DYN})
START = (
    "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}"
)

ERRORS = [
    ("y", "ERROR: <input>:1:1: undeclared reference to 'y' (in container '')\n | y\n | ^"),
    ("1 + y", "ERROR: <input>:1:5: undeclared reference to 'y' (in container '')\n | 1 + y\n | ....^"),
    ("foo(x)", "ERROR: <input>:1:4: undeclared reference to 'foo' (in container '')\n | foo(x)\n | ...^"),
    ("s.foo(x)", "ERROR: <input>:1:6: undeclared reference to 'foo' (in container '')\n | s.foo(x)\n | .....^"),
    (
        "1 + 'a'",
        "ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'\n | 1 + 'a'\n | ..^",
    ),
    (
        "x == 1\n  && s == 2",
        "ERROR: <input>:2:8: found no matching overload for '_==_' applied to '(string, int)'\n"
        " |   && s == 2\n | .......^",
    ),
    (
        "s.startsWith(1)",
        "ERROR: <input>:1:13: found no matching overload for 'startsWith' applied to 'string.(int)'\n"
        " | s.startsWith(1)\n | ............^",
    ),
    ("x && true", "ERROR: <input>:1:1: expected type 'bool' but found 'int'\n | x && true\n | ^"),
    ("s.foo", "ERROR: <input>:1:2: type 'string' does not support field selection\n | s.foo\n | .^"),
    (
        "x.all(i, i > 0)",
        "ERROR: <input>:1:1: expression of type 'int' cannot be range of a comprehension "
        "(must be list, map, or dynamic)\n | x.all(i, i > 0)\n | ^",
    ),
    ("[1, 'a']", "ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a']\n | ....^"),
    ("has(x)", "ERROR: <input>:1:5: invalid argument to has() macro\n | has(x)\n | ....^"),
    (
        "items.all(1, true)",
        "ERROR: <input>:1:11: argument must be a simple name\n | items.all(1, true)\n | ..........^",
    ),
    ("items.map(1, x)", "ERROR: <input>:1:11: argument is not an identifier\n | items.map(1, x)\n | ..........^"),
    ("package", "ERROR: <input>:1:1: reserved identifier: package\n | package\n | ^"),
    ("9223372036854775808", "ERROR: <input>:1:1: invalid int literal\n | 9223372036854775808\n | ^"),
    ("18446744073709551616u", "ERROR: <input>:1:1: invalid uint literal\n | 18446744073709551616u\n | ^"),
    ("1e999", "ERROR: <input>:1:1: invalid double literal\n | 1e999\n | ^"),
    ("'\\ud800'", "ERROR: <input>:1:1: invalid unicode code point\n | '\\ud800'\n | ^"),
    (
        "x +",
        f"ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>' expecting {START}\n | x +\n | ...^",
    ),
    ("x x", "ERROR: <input>:1:3: Syntax error: extraneous input 'x' expecting <EOF>\n | x x\n | ..^"),
    ("(x", "ERROR: <input>:1:3: Syntax error: missing ')' at '<EOF>'\n | (x\n | ..^"),
    ("s.", "ERROR: <input>:1:3: Syntax error: no viable alternative at input '.'\n | s.\n | ..^"),
    ("s.true", "ERROR: <input>:1:3: Syntax error: mismatched input 'true' expecting IDENTIFIER\n | s.true\n | ..^"),
    (
        "'é' == 1",
        "ERROR: <input>:1:5: found no matching overload for '_==_' applied to '(string, int)'\n | 'é' == 1\n | .．..^",
    ),
    ("d.`a-b`", "ERROR: <input>:1:3: unsupported syntax: '`'\n | d.`a-b`\n | ..^"),
    ("duration('1x')", "ERROR: <input>:1:10: invalid duration argument\n | duration('1x')\n | .........^"),
    ("timestamp('no')", "ERROR: <input>:1:11: invalid timestamp argument\n | timestamp('no')\n | ..........^"),
    ("s.matches('(')", "ERROR: <input>:1:11: invalid matches argument\n | s.matches('(')\n | ..........^"),
    (
        "s.matches('(a)\\\\1')",
        "ERROR: <input>:1:11: invalid matches argument\n | s.matches('(a)\\\\1')\n | ..........^",
    ),
    (
        "cel.bind(a, 1, a)",
        "ERROR: <input>:1:1: undeclared reference to 'cel' (in container '')\n | cel.bind(a, 1, a)\n | ^\n"
        "ERROR: <input>:1:9: undeclared reference to 'bind' (in container '')\n | cel.bind(a, 1, a)\n | ........^\n"
        "ERROR: <input>:1:10: undeclared reference to 'a' (in container '')\n | cel.bind(a, 1, a)\n | .........^\n"
        "ERROR: <input>:1:16: undeclared reference to 'a' (in container '')\n | cel.bind(a, 1, a)\n | ...............^",
    ),
]


@pytest.mark.parametrize(("source", "message"), ERRORS)
def test_compile_error_is_upstreams(source: str, message: str) -> None:
    with pytest.raises(CompileError) as caught:
        ENVIRONMENT.compile(source)

    assert str(caught.value) == message


def test_every_error_is_listed_in_the_order_of_the_source() -> None:
    with pytest.raises(CompileError) as caught:
        ENVIRONMENT.compile("b + a + c")

    assert [issue[2].split("'")[1] for issue in caught.value.issues] == ["b", "a", "c"]


@pytest.mark.parametrize("source", ["int('a')", "s.find('(')", "bool('x')"])
def test_constants_without_a_value_make_no_program(source: str) -> None:
    with pytest.raises(ProgramError):
        ENVIRONMENT.compile(source)


def test_expected_type_is_required() -> None:
    with pytest.raises(CompileError, match="must evaluate to bool"):
        ENVIRONMENT.compile("x", expect=BOOL)
    with pytest.raises(CompileError, match="must evaluate to bool"):
        ENVIRONMENT.compile("d.x", expect=BOOL)
    ENVIRONMENT.compile("d.x", expect=(BOOL, DYN))
    ENVIRONMENT.compile("s", expect=(BOOL, STRING))


@pytest.mark.parametrize(
    ("version", "source"), [((1, 27), "d.?x"), ((1, 31), "items.all(i, v, v > 0)"), ((1, 32), "semver('1.0.0')")]
)
def test_older_versions_lack_what_came_later(version: tuple[int, int], source: str) -> None:
    ENVIRONMENT.compile(source)

    with pytest.raises(CompileError):
        Environment.kubernetes(version).with_variables(ENVIRONMENT.variables).compile(source)
