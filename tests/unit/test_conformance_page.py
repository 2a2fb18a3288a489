"""docs/conformance.md names tests that exist, for every conformance test of its areas."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "conformance.md"
COUNTS = {
    "api-machinery": 99,
    "apps": 60,
    "auth": 10,
    "cli": 17,
    "architecture": 1,
    "instrumentation": 4,
    "node": 106,
    "network": 47,
}
"""Conformance tests of Kubernetes 1.36 by special interest group."""
NAMED = re.compile(r"\[`[a-z0-9_]+`\]\(\.\./(tests/[\w/]+\.py)\) `(\w+)`")


def rows() -> dict[str, list[tuple[str, str]]]:
    """Group -> (test of the suite, what covers it)."""
    found: dict[str, list[tuple[str, str]]] = {}
    for section in PAGE.read_text().split("\n## sig-")[1:]:
        group, _, body = section.partition("\n")
        lines = [line.strip("| ").split(" | ") for line in body.splitlines() if line.startswith("| ")]
        found[group] = [(name, covered) for name, covered in lines[1:]]
    return found


@cache
def defined_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def test_every_conformance_test_of_the_areas_is_listed_once() -> None:
    found = rows()
    assert {group: len(lines) for group, lines in found.items()} == COUNTS
    names = [name for lines in found.values() for name, _ in lines]
    assert len(names) == len(set(names))


def test_every_conformance_test_is_covered_by_tests_that_exist() -> None:
    for lines in rows().values():
        for name, covered in lines:
            named = NAMED.findall(covered)
            assert len(named) == covered.count("<br>") + 1, name
            for path, test in named:
                assert test in defined_in(path), f"{name}: {path} has no {test}"
