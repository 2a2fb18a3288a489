"""The keys of a cache in order, for lists.

A key that is added is put in its place when somebody looks: while many objects are created, moving tens of thousands of
keys for each of them would cost more than the rest of the cache's work.
"""

from __future__ import annotations

from bisect import bisect_left, insort

FEW = 32
"""New keys up to this number are inserted one by one; more are merged by sorting."""


class Keys:
    """Distinct keys; the owner sees to that."""

    __slots__ = ("_fresh", "_sorted")

    def __init__(self) -> None:
        self._sorted: list[str] = []
        self._fresh: list[str] = []

    def add(self, key: str) -> None:
        self._fresh.append(key)

    def remove(self, key: str) -> None:
        """Take away a key that is there."""
        keys = self.sorted()
        del keys[bisect_left(keys, key)]

    def clear(self) -> None:
        self._sorted, self._fresh = [], []

    def sorted(self) -> list[str]:
        """All keys in order; the caller must not change the list, and not keep it."""
        fresh = self._fresh
        if fresh:
            if len(fresh) <= FEW:
                for key in fresh:
                    insort(self._sorted, key)
            else:
                self._sorted += fresh
                self._sorted.sort()
            fresh.clear()
        return self._sorted
