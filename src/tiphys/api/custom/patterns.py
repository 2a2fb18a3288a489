"""Regular expressions of schemas: RE2's syntax, and no pattern that takes more than linear time.

Patterns that Python reads just as RE2 does, and cannot take long over, go to `re`, which is faster.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from tiphys.api.cel.libraries.re2 import PatternError as Re2Error
from tiphys.api.cel.libraries.re2 import compile_pattern
from tiphys.api.cel.types import CostExceeded

_CLASS = r"(?:\[\^?[A-Za-z0-9_.:/ +*@#%&=,;!~'\"()-]+\]|[A-Za-z0-9_/:@ -]|\\[.\-/\[\](){}+*?|^$\\])"
_COUNTED = rf"{_CLASS}(?:\{{[0-9]{{1,3}}(?:,[0-9]{{1,3}})?\}}|[?+*])?"
_SIMPLE = re.compile(rf"\^?(?:{_COUNTED}){{0,40}}\$?")
_UNBOUNDED = re.compile(r"[+*](?![^\[]*\])")
_MOST_UNBOUNDED = 2


class PatternError(ValueError):
    """Not a regular expression of RE2; the text is Go's."""


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> Callable[[str], bool]:
    """Whether the pattern occurs in a text. Raises PatternError."""
    if _SIMPLE.fullmatch(pattern) and len(_UNBOUNDED.findall(pattern)) <= _MOST_UNBOUNDED:
        return _python(pattern)
    try:
        matches = compile_pattern(pattern).matches
    except Re2Error as error:
        raise PatternError(str(error)) from error

    def search(text: str) -> bool:
        try:
            return bool(matches(text))
        except CostExceeded:
            return False

    return search


def _python(pattern: str) -> Callable[[str], bool]:
    text = pattern[:-1] + r"\Z" if pattern.endswith("$") and not pattern.endswith("\\$") else pattern
    find = re.compile(text, re.ASCII).search
    return lambda value: find(value) is not None
