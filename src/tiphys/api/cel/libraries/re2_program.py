"""Patterns as programs: a list of instructions with threads of execution (Thompson's construction)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tiphys.api.cel.libraries.re2_classes import ANY, Ranges
from tiphys.api.cel.libraries.re2_syntax import Node, PatternError

BEGIN, END, LINE, WORD, OTHER = range(5)
"""What is next to a place in a text: its begin, its end, a newline, a word's character, any other one."""

_LARGEST = 50_000
"""Instructions of one program."""

Sides = tuple[int, int]
"""What is before and after a place."""


@dataclass(slots=True)
class Instruction:
    """`chars` set: take one of them and go on; `assertion` set: go on if it holds; else go on with all of `next`, in
    order of preference; nowhere to go: a match."""

    next: list[int]
    chars: Ranges | None = None
    assertion: str = ""


@dataclass(slots=True)
class Program:
    """Instructions, where they begin, and whether texts are read backwards."""

    code: list[Instruction] = field(default_factory=list)
    start: int = 0
    backward: bool = False

    def breaks(self) -> list[int]:
        """The code points at which some instruction begins or ends to take characters."""
        edges = {edge for one in self.code for low, high in one.chars or () for edge in (low, high + 1)}
        return sorted(edges)

    def step(self, threads: tuple[int, ...], sides: Sides, code_point: int) -> tuple[bool, tuple[int, ...], int]:
        """Whether a match ends here, the threads that are left after the character, and the work done."""
        taking, matched = self._closure(threads, sides)
        code = self.code
        following = dict.fromkeys(
            code[one].next[0] for one in taking if any(low <= code_point <= high for low, high in code[one].chars or ())
        )
        return matched, tuple(following), len(taking) + len(following) + 8

    def accepts(self, threads: tuple[int, ...], before: int, after: int) -> bool:
        """Whether a match ends here, between these two."""
        return self._closure(threads, (before, after))[1]

    def _closure(self, threads: tuple[int, ...], sides: Sides) -> tuple[list[int], bool]:
        """The instructions that wait for a character, in order of preference; those after a match do not count.

        Backwards the longest match is wanted, not the preferred one, and all count."""
        code, seen, taking = self.code, set[int](), list[int]()
        stack, matched = list(reversed(threads)), False
        while stack:
            at = stack.pop()
            if at in seen:
                continue
            seen.add(at)
            one = code[at]
            if one.chars is not None:
                taking.append(at)
            elif not one.next:
                matched = True
                if not self.backward:
                    break
            elif not one.assertion or _holds(one.assertion, sides):
                stack += reversed(one.next)
        return taking, matched


def _holds(assertion: str, sides: Sides) -> bool:
    before, after = sides
    if assertion == "begin":
        return before == BEGIN
    if assertion == "end":
        return after == END
    if assertion == "line_begin":
        return before in (BEGIN, LINE)
    if assertion == "line_end":
        return after in (END, LINE)
    return ((before == WORD) != (after == WORD)) == (assertion == "word")


def build(tree: Node, *, unanchored: bool = False, backward: bool = False) -> Program:
    """The program of a tree; an `unanchored` one may skip what comes before a match. Raises PatternError."""
    program = Program(backward=backward)
    builder = _Builder(program)
    match = builder.add(Instruction([]))
    program.start = builder.node(tree, match)
    if unanchored:
        loop = builder.add(Instruction([]))
        skip = builder.add(Instruction([loop], ANY))
        program.code[loop].next = [program.start, skip]
        program.start = loop
    return program


class _Builder:
    """Builds from the end: each part is given where to go on and returns where it begins."""

    def __init__(self, program: Program) -> None:
        self._code = program.code
        self._backward = program.backward

    def add(self, instruction: Instruction) -> int:
        if len(self._code) >= _LARGEST:
            raise PatternError("expression too large", "")
        self._code.append(instruction)
        return len(self._code) - 1

    def node(self, node: Node, then: int) -> int:
        kind: Any = node[0]
        parts: Any = node[1] if len(node) > 1 else ()
        if kind == "chars":
            return self.add(Instruction([then], parts))
        if kind == "assert":
            return self.add(Instruction([then], assertion=parts))
        if kind == "cat":
            for part in parts if self._backward else reversed(parts):
                then = self.node(part, then)
            return then
        if kind == "alt":
            return self.add(Instruction([self.node(part, then) for part in parts]))
        return self._repeat(node, then) if kind == "repeat" else then

    def _repeat(self, node: Node, then: int) -> int:
        part: Any = node[1]
        least: Any = node[2]
        most: Any = node[3]
        greedy = bool(node[4])
        if most is None:
            loop = self.add(Instruction([]))
            body = self.node(part, loop)
            self._code[loop].next = [body, then] if greedy else [then, body]
            then = loop
        else:
            out = then
            for _ in range(most - least):
                body = self.node(part, then)
                then = self.add(Instruction([body, out] if greedy else [out, body]))
        for _ in range(least):
            then = self.node(part, then)
        return then
