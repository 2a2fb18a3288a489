"""Which volume a claim gets: the one that is kept for it, else the smallest that fits.

Pure. Volumes are tried by their sets of access modes, the smallest set first: a claim does not take a volume that can
do more than it asks for while there is another. Source: "Persistent Volumes", Binding, in the documentation.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from tiphys.api.selectors import LabelSelector, from_object
from tiphys.client.types import Object
from tiphys.controllers.objects import created, deleting, labels, name, namespace, spec, status
from tiphys.controllers.volumes import (
    AVAILABLE,
    access_modes,
    attributes_class,
    capacity,
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


def best_match(
    claim: Object, kept: Iterable[Object], free: Iterable[Object], taken: Collection[str] = ()
) -> Object | None:
    """The volume for a claim that names none.

    `kept` are volumes that refer to a claim of its name, `free` those that refer to none (nothing where binding waits
    for the first consumer: the scheduler chooses then); `taken` are names of volumes that are being bound.
    Raises ValueError if the claim's selector cannot be read.
    """
    selector = _selector(claim)
    wanted = set(spec(claim).get("accessModes") or ())
    groups: dict[tuple[str, ...], list[Object]] = {}
    for volume in (*kept, *free):
        modes = access_modes(volume)
        if wanted <= set(modes) and name(volume) not in taken and _has_room(volume, claim):
            groups.setdefault(modes, []).append(volume)
    for modes in sorted(groups, key=lambda each: (len(each), each)):
        found = _best_of(claim, groups[modes], selector)
        if found is not None:
            return found
    return None


def pair(claims: Iterable[Object], free: Sequence[Object], taken: Collection[str] = ()) -> list[tuple[Object, Object]]:
    """Claims that wait, the oldest first, each with another free volume that fits; claims that cannot be read, none."""
    gone, pairs = set(taken), []
    for claim in sorted(claims, key=lambda each: (created(each), namespace(each), name(each))):
        if len(gone) >= len(free) + len(taken):
            break
        try:
            volume = best_match(claim, (), free, gone)
        except ValueError:
            continue
        if volume is not None:
            gone.add(name(volume))
            pairs.append((claim, volume))
    return pairs


def _selector(claim: Object) -> LabelSelector | None:
    selector = spec(claim).get("selector")
    return None if selector is None else from_object(selector)


def _has_room(volume: Object, claim: Object) -> bool:
    return (
        capacity(volume) >= requested(claim)
        and volume_mode(volume) == volume_mode(claim)
        and attributes_class(volume) == attributes_class(claim)
        and not deleting(volume)
    )


def _best_of(claim: Object, volumes: Sequence[Object], selector: LabelSelector | None) -> Object | None:
    kept = next((each for each in volumes if is_bound_to(each, claim)), None)
    if kept is not None:
        return kept
    asked = class_of_claim(claim)
    fitting = (
        each
        for each in volumes
        if not spec(each).get("claimRef")
        and status(each).get("phase") == AVAILABLE
        and class_of_volume(each) == asked
        and (selector is None or selector.matches(labels(each)))
    )
    return min(fitting, key=lambda each: (capacity(each), name(each)), default=None)
