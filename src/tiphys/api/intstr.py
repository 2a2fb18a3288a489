"""IntOrString values: numbers, or percentages of a total ("25%")."""

from __future__ import annotations

import re
from typing import Any

_PERCENT = re.compile(r"([0-9]+)%")


def scaled(value: Any, total: int, *, round_up: bool) -> int:
    """The number that `value` stands for, a percentage being that part of `total`. Raises ValueError."""
    if isinstance(value, int):
        return value
    match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"invalid value for IntOrString: invalid type: string is not a percentage: {value!r}")
    parts = int(match[1]) * total
    return -(-parts // 100) if round_up else parts // 100


def is_percent(value: Any) -> bool:
    return isinstance(value, str) and _PERCENT.fullmatch(value) is not None


def number_or(value: Any, default: int) -> int:
    """The number itself; `default` for text (a port's name)."""
    return value if isinstance(value, int) else default
