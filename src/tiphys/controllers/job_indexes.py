"""Lists of completion indexes as statuses and success policies write them: "0,2-5". Pure."""

from __future__ import annotations

from collections.abc import Iterable


def parse_indexes(text: str, completions: int) -> set[int]:
    """The indexes that "1,3-5" names, below `completions`; parts that make no sense are ignored."""
    indexes: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        if _is_number(first) and _is_number(last or first):
            indexes.update(range(int(first), min(int(last or first), completions - 1) + 1))
    return indexes


def format_indexes(indexes: Iterable[int]) -> str:
    """ "1,3-5" for {1, 3, 4, 5}; two in a row are listed one by one."""
    ordered = sorted(indexes)
    parts: list[str] = []
    start = 0
    for position, index in enumerate(ordered):
        if position + 1 < len(ordered) and ordered[position + 1] == index + 1:
            continue
        length = position - start
        if length == 0:
            parts.append(str(index))
        else:
            parts.append(f"{ordered[start]}{',' if length == 1 else '-'}{index}")
        start = position + 1
    return ",".join(parts)


def number(text: str | None) -> int | None:
    """A whole number that is not negative and fits 32 bits, as annotations hold it; None for anything else."""
    if text is None or not _is_number(text) or int(text) > 0x7FFFFFFF:
        return None
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10
