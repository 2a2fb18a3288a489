"""Lists of job indexes in text: 0,3-5,7 (KEP-2214)."""

from __future__ import annotations

from tiphys.api.kinds.base import quote


def _number(text: str, completions: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise ValueError(f"cannot convert string to integer for index: {quote(text)}") from None
    if value >= completions:
        raise ValueError(f"too large index: {quote(text)}")
    return value


def interval(text: str, completions: int) -> tuple[int, int]:
    """First and last index of one part. Raises ValueError with the API's words."""
    parts = text.split("-")
    if len(parts) > 2:
        raise ValueError(
            f"the fragment {quote(text)} violates the requirement that an index interval can have at most two parts"
            " separated by '-'"
        )
    first = _number(parts[0], completions)
    if len(parts) == 1:
        return first, first
    last = _number(parts[1], completions)
    if first >= last:
        raise ValueError(f"non-increasing order, previous: {first}, current: {last}")
    return first, last


def interval_count(text: str, completions: int) -> int:
    """How many indexes there are. Raises ValueError when the text is malformed, unordered or out of range."""
    total, previous = 0, -1
    for part in text.split(",") if text else ():
        first, last = interval(part, completions)
        if previous >= first:
            raise ValueError(f"non-increasing order, previous: {previous}, current: {first}")
        total += last - first + 1
        previous = last
    return total


def overlap(one: str, other: str, completions: int) -> int | None:
    """The first index in both lists; malformed parts are passed over."""
    sets: list[set[int]] = [set(), set()]
    for text, known in zip((one, other), sets, strict=True):
        for part in text.split(",") if text else ():
            try:
                first, last = interval(part, completions)
            except ValueError:
                continue
            known.update(range(first, last + 1))
    return min(sets[0] & sets[1], default=None)
