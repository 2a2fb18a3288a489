"""Lists of CPUs and memory nodes as the kernel writes them: 0-2,7 (cpuset(7), list format). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def parse_cpus(text: str) -> frozenset[int]:
    """The numbers in a list; raises ValueError for what is none."""
    return frozenset(number for part in text.strip().split(",") if part for number in _range(part))


def _range(part: str) -> Iterable[int]:
    first, dash, last = part.partition("-")
    if not dash:
        return (int(first),)
    if int(last) < int(first):
        raise ValueError(f"invalid range {part!r}")
    return range(int(first), int(last) + 1)


def format_cpus(numbers: Iterable[int]) -> str:
    """The shortest list of these numbers."""
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in _runs(sorted(set(numbers))))


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    start = 0
    for index, number in enumerate(numbers):
        if index + 1 == len(numbers) or numbers[index + 1] != number + 1:
            yield numbers[start], number
            start = index + 1
