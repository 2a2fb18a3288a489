"""Regular expressions in linear time, as RE2 matches them: no pattern, however it nests, can burn more than its share.

Python's `re` backtracks, and one short pattern can keep it busy for hours. Here a pattern becomes a nondeterministic
automaton whose states are explored as texts come along (a lazy DFA): a character costs one dictionary lookup once its
transition is known. Threads are kept in order of preference, so that matches are the leftmost, and of these the ones
that Perl would choose. Where a match begins is found by running the reversed automaton backwards from its end.

`compile_pattern(text)` raises `PatternError` with Go's words. Source: Russ Cox, "Regular Expression Matching in the
Wild".
"""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache

from tiphys.api.cel.libraries.re2_program import BEGIN, END, LINE, OTHER, WORD, Program, build
from tiphys.api.cel.libraries.re2_syntax import PatternError, parse
from tiphys.api.cel.types import CostExceeded

__all__ = ["Pattern", "PatternError", "compile_pattern"]

_LONGEST = 100_000
"""Characters of a pattern."""
_MOST_STATES = 4000
_MOST_THREADS = 50_000
"""States, and threads in them all, that one automaton remembers."""
_MOST_WORK = 1_500_000
"""Steps of the automaton that one search may take while it builds new transitions."""

Threads = tuple[int, ...]
State = tuple[Threads, int]
"""Threads before the assertions at this place, and what kind of character was passed last."""


class Pattern:
    """A compiled pattern; safe to share."""

    def __init__(self, text: str) -> None:
        if len(text) > _LONGEST:
            raise PatternError("expression too large", "")
        tree = parse(text)
        self.text = text
        self._forward = _Automaton(build(tree, unanchored=True))
        self._backward = _Automaton(build(tree, backward=True))

    def matches(self, text: str) -> bool:
        """Whether it matches anywhere in `text`. Raises CostExceeded."""
        return self._forward.run(text, 0, first=True) >= 0

    def find(self, text: str, start: int = 0) -> tuple[int, int] | None:
        """The first match at or after `start`, as a slice. Raises CostExceeded."""
        end = self._forward.run(text, start)
        if end < 0:
            return None
        return self._backward.run_back(text, end, start), end

    def find_all(self, text: str, limit: int = -1) -> list[str]:
        """All matches that do not overlap, at most `limit` when that is not negative."""
        found: list[str] = []
        position, last_end = 0, -1
        while position <= len(text) and len(found) != limit:
            match = self.find(text, position)
            if match is None:
                break
            start, end = match
            # An empty match right after another one does not count.
            if end > start or start != last_end:
                found.append(text[start:end])
            position, last_end = (end, end) if end > start else (end + 1, end)
        return found


@lru_cache(maxsize=128)
def compile_pattern(text: str) -> Pattern:
    """Raises PatternError."""
    return Pattern(text)


def _kind(char: str) -> int:
    if char == "\n":
        return LINE
    return WORD if char == "_" or (char.isascii() and char.isalnum()) else OTHER


class _Automaton:
    """A program and the part of its DFA that texts have asked for."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._breaks = program.breaks()
        self._classes: dict[str, tuple[int, int]] = {}
        self._known: dict[State, dict[tuple[int, int], tuple[bool, State]]] = {}
        self._work = self._threads = 0

    def _class_of(self, char: str) -> tuple[int, int]:
        """Characters that no part of the program tells apart have the same class; and the kind for assertions."""
        found = (bisect_right(self._breaks, ord(char)), _kind(char))
        if len(self._classes) < _MOST_STATES:
            self._classes[char] = found
        return found

    def run(self, text: str, start: int, *, first: bool = False) -> int:
        """Where the preferred match that begins at or after `start` ends; -1 if there is none."""
        self._work = 0
        state: State = ((self._program.start,), BEGIN if start == 0 else _kind(text[start - 1]))
        classes, known, end = self._classes, self._known, -1
        for position in range(start, len(text)):
            char = text[position]
            kind = classes.get(char) or self._class_of(char)
            step = known.get(state, _NOTHING).get(kind) or self._step(state, kind)
            matched, state = step
            if matched:
                end = position
                if first:
                    return end
            if not state[0]:
                return end
        return len(text) if self._program.accepts(state[0], state[1], END) else end

    def run_back(self, text: str, end: int, limit: int) -> int:
        """The leftmost place at or after `limit` from which `text` matches up to `end`."""
        self._work = 0
        state: State = ((self._program.start,), END if end == len(text) else _kind(text[end]))
        found = end
        for position in range(end - 1, limit - 1, -1):
            kind = self._classes.get(text[position]) or self._class_of(text[position])
            step = self._known.get(state, _NOTHING).get(kind) or self._step(state, kind)
            matched, state = step
            if matched:
                found = position + 1
            if not state[0]:
                return found
        before = BEGIN if limit == 0 else _kind(text[limit - 1])
        return limit if self._program.accepts(state[0], before, state[1]) else found

    def _step(self, state: State, kind: tuple[int, int]) -> tuple[bool, State]:
        threads, passed = state
        program = self._program
        sides = (kind[1], passed) if program.backward else (passed, kind[1])
        matched, following, work = program.step(threads, sides, self._sample(kind[0]))
        self._work += work
        if self._work > _MOST_WORK:
            raise CostExceeded
        self._threads += len(following)
        if len(self._known) > _MOST_STATES or self._threads > _MOST_THREADS:
            self._known.clear()
            self._threads = 0
        step = (matched, (following, kind[1]))
        self._known.setdefault(state, {})[kind] = step
        return step

    def _sample(self, group: int) -> int:
        """A code point of a class."""
        return self._breaks[group - 1] if group else 0


_NOTHING: dict[tuple[int, int], tuple[bool, State]] = {}
