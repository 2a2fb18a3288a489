"""What a controller may go by: any version of an object from the one that its status says was observed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from component.random.state import Change, generation, observed
from tiphys.client.types import Object
from tiphys.controllers.objects import uid

T = TypeVar("T")


class Versions(Generic[T]):
    """Remembers `read(obj)` of every generation of objects of one resource."""

    def __init__(self, plural: str, read: Callable[[Object], T]) -> None:
        self._plural, self._read = plural, read
        self._known: dict[str, dict[int, T]] = {}

    def note(self, change: Change) -> None:
        """Take over a change of an object."""
        if change.plural != self._plural:
            return
        if change.new is None:
            self._known.pop(uid(change.obj), None)
            return
        known = self._known.setdefault(uid(change.new), {})
        known[generation(change.new)] = self._read(change.new)
        since = max((each for each in known if each <= observed(change.new)), default=0)
        for each in [each for each in known if each < since]:
            del known[each]

    def possible(self, identity: str) -> list[T]:
        """What the controller may take for the present one."""
        return list(self._known.get(identity, {}).values())


def without_lost(pods: list[Object], lost: set[str]) -> list[Object]:
    """Pods of which their creator or deleter was told."""
    return [each for each in pods if uid(each) not in lost]
