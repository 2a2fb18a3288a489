"""Regular expressions of schemas: RE2's syntax, and no pattern that takes more than linear time."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache


class PatternError(ValueError):
    """Not a regular expression of RE2; the text is Go's."""


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> Callable[[str], bool]:
    """Whether the pattern occurs in a text. Raises PatternError."""
    try:
        search = re.compile(pattern.replace("$", r"\Z") if pattern.endswith("$") else pattern, re.ASCII).search
    except re.error as error:
        raise PatternError(f"error parsing regexp: {error.msg}: `{pattern}`") from error
    return lambda text: search(text) is not None
