"""Regular expressions of routes: RE2's, matched in linear time, since they come from users and the paths from anybody.

Where capture groups are wanted Python's engine takes them out of what matched; patterns over which it could take long
are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

from tiphys.api.cel.libraries.re2 import PatternError, compile_pattern
from tiphys.api.cel.types import CostExceeded

LONGEST = 2048
"""Characters of a path that a pattern is tried on."""
_MOST_UNBOUNDED = 3
_NESTED = re.compile(r"[+*}]\??\)[+*{]")
_UNBOUNDED = re.compile(r"(?<!\\)(?:[+*]|\{[0-9]+,\})")
_GROUP = re.compile(r"\$(?:([0-9])|\{([0-9])\})")


class BadPattern(ValueError):
    """Why a pattern is refused."""


def encoded(path: str) -> str:
    """A part of a decoded path as it may be sent: what is in it must not end the line that it is on."""
    return quote(path.encode("latin-1", "replace"), safe="/!$&'()*+,;=:@~")


def tester(pattern: str) -> Callable[[str], bool]:
    """Whether a whole text matches. Raises BadPattern."""
    return _search(f"^(?:{pattern})$")


def location(pattern: str) -> Callable[[str], bool]:
    """Whether a path begins as the pattern says, in any case, as ingress-nginx does. Raises BadPattern."""
    return _search(f"(?i)^{pattern}")


def _search(pattern: str) -> Callable[[str], bool]:
    try:
        compiled = compile_pattern(pattern)
    except PatternError as error:
        raise BadPattern(str(error)) from error

    def matches(text: str) -> bool:
        if len(text) > LONGEST:
            return False
        try:
            return compiled.matches(text)
        except CostExceeded:
            return False

    return matches


def template(pattern: str, target: str) -> Callable[[str], str | None]:
    """Makes the new path of a path: `target` with $1 ... as ingress-nginx's rewrite-target. Raises BadPattern."""
    matches = location(pattern)
    if "$" not in target:
        return lambda path: target if matches(path) else None
    if len(_UNBOUNDED.findall(pattern)) > _MOST_UNBOUNDED or _NESTED.search(pattern):
        raise BadPattern(f"{pattern!r} is too complex for capture groups")
    try:
        compiled = re.compile(f"^{pattern}", re.IGNORECASE | re.DOTALL)
    except re.error as error:
        raise BadPattern(f"{pattern!r}: {error}") from error

    def rewritten(path: str) -> str | None:
        found = compiled.match(path) if matches(path) else None
        if found is None:
            return None
        groups = (found[0], *(group or "" for group in found.groups()))

        def group(place: re.Match[str]) -> str:
            number = int(place[1] or place[2])
            return encoded(groups[number]) if number < len(groups) else ""

        return _GROUP.sub(group, target)

    return rewritten
