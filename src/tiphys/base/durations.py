"""Durations as Go writes and reads them: 1m30s, 300ms. Pure."""

from __future__ import annotations

import re

from tiphys.base.errors import Permanent

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|m|us|ns|s)")


def parse_duration(text: str) -> float:
    """Seconds of a Go duration: 1m30s, 300ms, -5s, 0. Raises Permanent."""
    sign, rest = (-1.0, str(text)[1:]) if str(text).startswith("-") else (1.0, str(text).removeprefix("+"))
    if rest == "0":
        return 0.0
    parts = _PART.findall(rest)
    if "".join(number + unit for number, unit in parts) != rest or not parts:
        raise Permanent(f"{text!r} is not a duration such as 1m30s")
    return sign * sum(float(number) * _UNITS[unit] for number, unit in parts)


def format_duration(seconds: float) -> str:
    """As Go prints it: 0s, 300ms, 10s, 1m20s, 5m0s, 24h0m0s."""
    if 0 < abs(seconds) < 1:
        return f"{seconds * 1000:g}ms"
    sign = "-" if seconds < 0 else ""
    minutes, rest = divmod(abs(seconds), 60)
    hours, left = divmod(int(minutes), 60)
    text = f"{rest:.9f}".rstrip("0").rstrip(".") + "s"
    if hours or left:
        text = f"{left}m{text}"
    return sign + (f"{hours}h{text}" if hours else text)
