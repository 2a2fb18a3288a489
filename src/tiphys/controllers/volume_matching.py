"""Which volume a claim gets: the one that is kept for it, else the smallest that fits.

Pure. Volumes are tried by their sets of access modes, the smallest set first: a claim does not take a volume that can
do more than it asks for while there is another. Source: "Persistent Volumes", Binding, in the documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from tiphys.api.quantity import Quantity
from tiphys.api.selectors import LabelSelector, from_object
from tiphys.client.types import Object
from tiphys.controllers.objects import deleting, labels, name, namespace, spec, status
from tiphys.controllers.volumes import (
    AVAILABLE,
    access_modes,
    attributes_class,
    capacity,
    claim_ref,
    class_of_claim,
    class_of_volume,
    is_bound_to,
    requested,
    volume_mode,
)


def misfit(volume: Object, claim: Object) -> str | None:
    """Why the volume that a claim names cannot be its volume; None if it can. The texts are those of events."""
    if deleting(volume):
        return f'the volume is marked for deletion "{name(volume)}"'
    if capacity(volume).value < requested(claim).value:
        return "requested PV is too small"
    if class_of_volume(volume) != class_of_claim(claim):
        return "storageClassName does not match"
    if attributes_class(volume) != attributes_class(claim):
        return "volumeAttributesClassName does not match"
    if volume_mode(volume) != volume_mode(claim):
        return "incompatible volumeMode"
    if not set(spec(claim).get("accessModes") or ()) <= set(spec(volume).get("accessModes") or ()):
        return "incompatible accessMode"
    return None


class Shape(NamedTuple):
    """What a volume is to claims; equal ones differ by name and labels only."""

    modes: tuple[str, ...]
    capacity: Quantity
    mode: str
    attributes: str

    @property
    def group(self) -> tuple[int, tuple[str, ...]]:
        """Where volumes with these access modes come among all that fit."""
        return len(self.modes), self.modes


class FreeVolumes:
    """Volumes that claims may choose, by class and shape; those of one shape in the order in which they became free."""

    def __init__(self, volumes: Iterable[Object] = ()) -> None:
        self._classes: dict[str, dict[Shape, dict[str, Object]]] = {}
        self._places: dict[str, tuple[str, Shape]] = {}
        for volume in volumes:
            self.put(volume)

    def put(self, volume: Object) -> None:
        """Take the volume as it is now."""
        if claim_ref(volume) or deleting(volume) or status(volume).get("phase") != AVAILABLE:
            self.drop(name(volume))
            return
        place = class_of_volume(volume), shape_of(volume)
        if self._places.get(name(volume)) != place:
            self.drop(name(volume))
            self._places[name(volume)] = place
        self._classes.setdefault(place[0], {}).setdefault(place[1], {})[name(volume)] = volume

    def drop(self, volume: str) -> None:
        """The volume of that name cannot be chosen any more."""
        place = self._places.pop(volume, None)
        if place is None:
            return
        shapes = self._classes[place[0]]
        del shapes[place[1]][volume]
        if not shapes[place[1]]:
            del shapes[place[1]]
        if not shapes:
            del self._classes[place[0]]

    def __contains__(self, volume: str) -> bool:
        return volume in self._places

    def of(self, storage_class: str) -> Mapping[Shape, Mapping[str, Object]]:
        """The volumes of a class by name, by their shapes."""
        return self._classes.get(storage_class, {})


Usable = Callable[[str], bool]
"""Whether the volume of that name may be chosen."""


def shape_of(volume: Object) -> Shape:
    return Shape(access_modes(volume), capacity(volume), volume_mode(volume), attributes_class(volume))


def best_match(
    claim: Object, kept: Iterable[Object], free: FreeVolumes, usable: Usable = lambda volume: True
) -> Object | None:
    """The volume for a claim that names none.

    `kept` are volumes that refer to a claim of its name, `free` those that may be chosen (none where binding waits for
    the first consumer: the scheduler chooses then). Raises ValueError if the claim's selector cannot be read.
    """
    selector = _selector(claim)
    mine = [each for each in kept if is_bound_to(each, claim) and _fits(shape_of(each), claim) and not deleting(each)]
    best = min(mine, key=lambda each: (shape_of(each).group, name(each)), default=None)
    shapes = free.of(class_of_claim(claim))
    for shape in sorted((each for each in shapes if _fits(each, claim)), key=lambda each: (each.group, each.capacity)):
        if best is not None and shape_of(best).group <= shape.group:
            break
        for volume in shapes[shape].values():
            if usable(name(volume)) and (selector is None or selector.matches(labels(volume))):
                return volume
    return best


def pair(claims: Iterable[Object], free: FreeVolumes, storage_class: str, usable: Usable) -> list[tuple[Object, str]]:
    """Claims of a class that wait, the oldest first, each with the name of another volume that it may choose."""
    gone: set[str] = set()
    left = sum(usable(volume) for volumes in free.of(storage_class).values() for volume in volumes)
    pairs: list[tuple[Object, str]] = []
    for claim in sorted(claims, key=_age) if left else ():
        if len(gone) == left:
            break
        try:
            volume = best_match(claim, (), free, lambda each: each not in gone and usable(each))
        except ValueError:
            continue  # the claim's own turn says so
        if volume is not None:
            gone.add(name(volume))
            pairs.append((claim, name(volume)))
    return pairs


def _age(claim: Object) -> tuple[str, str, str]:
    return str(claim["metadata"].get("creationTimestamp") or ""), namespace(claim), name(claim)


def _selector(claim: Object) -> LabelSelector | None:
    selector = spec(claim).get("selector")
    return None if selector is None else from_object(selector)


def _fits(shape: Shape, claim: Object) -> bool:
    return (
        shape.capacity >= requested(claim)
        and shape.mode == volume_mode(claim)
        and shape.attributes == attributes_class(claim)
        and set(spec(claim).get("accessModes") or ()) <= set(shape.modes)
    )
