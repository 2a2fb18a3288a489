"""Waiting until the cache shows the EndpointSlices that a controller wrote: they have generated names, so a decision
on an older state would make a second set of them.

What is tracked is the generation of each slice, as upstream does it, which tells our own changes from other people's
too: only those of others are a reason to look again.
"""

from __future__ import annotations

from collections.abc import Iterable

from tiphys.client.types import Object
from tiphys.controllers.objects import deleting, int_of, uid

_GONE = -1


class SliceTracker:
    """Generations of slices by the key of their owner and their uid."""

    def __init__(self) -> None:
        self._generations: dict[str, dict[str, int]] = {}

    def wrote(self, key: str, held: Object) -> None:
        """The server answered a write with this."""
        self._generations.setdefault(key, {})[uid(held)] = _generation(held)

    def deleted(self, key: str, held: Object) -> None:
        """We deleted it."""
        self._generations.setdefault(key, {})[uid(held)] = _GONE

    def forget(self, key: str) -> None:
        self._generations.pop(key, None)

    def behind(self, key: str, cached: Iterable[Object]) -> bool:
        """Whether these are not yet the slices that we left behind."""
        known = self._generations.get(key)
        if not known:
            return False
        shown = set()
        for each in cached:
            shown.add(uid(each))
            generation = known.get(uid(each))
            if generation is None or deleting(each):
                continue
            if generation == _GONE or generation > _generation(each):
                return True
        return any(generation != _GONE and identity not in shown for identity, generation in known.items())

    def changed_by_others(self, key: str, held: Object) -> bool:
        """Whether a slice that was added or updated shows more than we wrote."""
        return _generation(held) > self._generations.get(key, {}).get(uid(held), 0)

    def removed_by_others(self, key: str, held: Object) -> bool:
        """Take note that a slice has gone; whether that was not us."""
        return self._generations.get(key, {}).pop(uid(held), _GONE) != _GONE


def _generation(held: Object) -> int:
    return int_of(held["metadata"].get("generation"))
