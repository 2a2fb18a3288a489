"""Regular expressions in linear time."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiphys.api.cel import CostExceeded
from tiphys.api.cel.libraries.re2 import PatternError, compile_pattern

ATOMS = [
    "a",
    "b",
    ".",
    "[ab]",
    "[^a]",
    "(a|b)",
    "(?:ab)",
    "a*",
    "b+",
    "c?",
    "(a|bc)*",
    "a{2}",
    "b{1,2}",
    "a*?",
    "b+?",
    "^",
]


@given(
    st.lists(st.sampled_from([*ATOMS, r"\b", "(b|)", "a|", r"\w", r"\d*"]), min_size=1, max_size=5), st.text("abc -\n1")
)
def test_finds_what_a_backtracking_engine_finds(atoms: list[str], text: str) -> None:
    pattern = "".join(atoms)
    try:
        expected = re.search(pattern, text, re.ASCII)
    except re.error:
        return
    assert compile_pattern(pattern).find(text) == (expected.span() if expected else None)


@pytest.mark.parametrize(
    "pattern", ["(a*)*b", "(a+)+b", "(a|a)*b", "(.*)*x", "(a|aa)+$b", "((a*)*)*c", "a*a*a*a*a*a*b"]
)
def test_no_pattern_takes_exponential_time(pattern: str) -> None:
    assert not compile_pattern(pattern).matches("a" * 20_000)


def test_what_explodes_is_given_up() -> None:
    text = "".join(random.Random(1).choices("ab", k=20_000))
    with pytest.raises(CostExceeded):
        compile_pattern("(a|b)*a(a|b){900}c").matches(text)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (r"(?i)straße", "STRASSE Straße", (8, 14)),
        (r"\p{Lu}+", "abCDe", (2, 4)),
        (r"[[:alpha:]]+", "12ab", (2, 4)),
        (r"\x41\x{1F600}", "A😀", (0, 2)),
        (r"\Qa.b\E+", "a.bb", (0, 4)),
        (r"(?m)^b$", "a\nb\nc", (2, 3)),
        (r"(?s)a.b", "a\nb", (0, 3)),
        (r"(?U)a+", "aaa", (0, 1)),
        (r"(?P<n>a)(?<m>b)", "ab", (0, 2)),
        (r"a$", "a\n", None),
        (r"\z", "ab", (2, 2)),
    ],
)
def test_syntax_of_re2(pattern: str, text: str, found: tuple[int, int] | None) -> None:
    assert compile_pattern(pattern).find(text) == found


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("[a", "missing closing ]: `[a`"),
        ("(a", "missing closing ): `(a`"),
        ("a)", "unexpected ): `a)`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a\\", "trailing backslash at end of expression"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("[b-a]", "invalid character class range: `b-a`"),
        (r"\8", r"invalid escape sequence: `\8`"),
        ("(" * 2000, "expression nests too deeply: `" + "(" * 2000 + "`"),
        ("((a{100}){100}){100}", "expression too large"),
    ],
)
def test_what_is_wrong_is_said_in_go_s_words(pattern: str, text: str) -> None:
    with pytest.raises(PatternError) as raised:
        compile_pattern(pattern)
    assert str(raised.value) == f"error parsing regexp: {text}"
