"""$(NAME) references in commands, arguments, values and paths. Pure.

$(NAME) is replaced when NAME is known and kept as it is when not; $$ is one $ (core/v1 Container.command).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")


def expand(text: str, *known: Mapping[str, str]) -> str:
    """`text` with its references replaced; earlier mappings win."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name is None:
            return "$"
        return next((mapping[name] for mapping in known if name in mapping), match.group(0))

    return _REFERENCE.sub(value, text)


def expand_strictly(text: str, known: Mapping[str, str]) -> str:
    """As `expand`; raises KeyError with the names that are not known or empty, comma-separated (subPathExpr)."""
    names = {match.group(1) for match in _REFERENCE.finditer(text) if match.group(1) is not None}
    if missing := sorted(name for name in names if not known.get(name)):
        raise KeyError(", ".join(missing))
    return expand(text, known)
