"""What is to be done about a claim or a volume: pure decisions of the binder.

A claim is unbound until its annotation says that binding was completed; what it names then says less than what the
volume refers to. A volume that refers to a claim by uid belongs to that claim until the claim has gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from tiphys.client.events import NORMAL, WARNING
from tiphys.client.types import Object
from tiphys.controllers.objects import annotations_of, name, namespace, spec, status, uid
from tiphys.controllers.volume_matching import misfit
from tiphys.controllers.volumes import (
    AVAILABLE,
    BIND_COMPLETED,
    BOUND,
    BOUND_BY_CONTROLLER,
    DELETE,
    FAILED,
    LOST,
    PENDING,
    PROVISIONED_BY,
    RELEASED,
    SELECTED_NODE,
    claim_key,
    claim_ref,
    class_of_claim,
    has_class,
    is_bound_to,
    volume_mode,
    waits_for_consumer,
)


@dataclass(frozen=True, slots=True)
class Bind:
    """Bind the claim to this volume: first the volume is written, then the claim."""

    volume: Object


@dataclass(frozen=True, slots=True)
class ClaimPhase:
    """The claim enters a phase without a volume; the event goes out only if it was in another one."""

    phase: str
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class AssignClass:
    """The claim gets the default class, which did not exist when it was made."""

    storage_class: str


@dataclass(frozen=True, slots=True)
class Tell:
    """An event about `about`."""

    about: Object
    type: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Something that must not be: an error, tried again later."""

    message: str


@dataclass(frozen=True, slots=True)
class VolumePhase:
    """The volume enters a phase."""

    phase: str


class Do(Enum):
    """What needs no more words."""

    PROVISION = "have a volume made for the claim"
    RECLAIM = "the claim has gone: the volume is released, and its policy followed"
    UNBIND = "take the volume's reference to the claim back"
    ASK_CLAIM = "it is the claim's turn"


Step = Bind | ClaimPhase | AssignClass | Tell | Refuse | VolumePhase | Do


class View(Protocol):
    """What is known of the cluster; answers at once."""

    def volume(self, name: str) -> Object | None: ...

    def match(self, claim: Object, *, delayed: bool) -> Object | None:
        """The best volume; if binding is delayed, only one that is kept for the claim. Raises ValueError."""
        ...

    def storage_class(self, name: str) -> Object | None: ...

    def default_class(self) -> Object | None: ...

    def waiting_pods(self, claim: Object) -> Sequence[str]:
        """Names of pods that use the claim and have no node yet."""
        ...


def decide_claim(claim: Object, view: View) -> Sequence[Step]:
    """The steps for a claim as it is."""
    if BIND_COMPLETED in annotations_of(claim):
        return _bound(claim, view)
    if spec(claim).get("volumeName"):
        return _named(claim, view)
    return _unbound(claim, view)


def decide_volume(volume: Object, claim: Object | None) -> Sequence[Step]:
    """The steps for a volume; `claim` is the one that it refers to by uid, None if that has gone."""
    if not (claim_ref(volume) or {}).get("uid"):
        return (VolumePhase(AVAILABLE),)
    if claim is None:
        return (Do.RECLAIM,)
    named = spec(claim).get("volumeName")
    if named == name(volume):
        return (VolumePhase(BOUND),)
    if named:
        provisioned = PROVISIONED_BY in annotations_of(volume)
        delete = spec(volume).get("persistentVolumeReclaimPolicy") == DELETE
        return (Do.RECLAIM,) if provisioned and delete else (Do.UNBIND,)
    if volume_mode(claim) != volume_mode(volume):
        return _modes_differ(volume, claim)
    return (Do.ASK_CLAIM,)


def released(volume: Object, claim: Object | None) -> bool:
    """Whether the volume's data are nobody's; `claim` is what exists under the name that it refers to."""
    ref = claim_ref(volume)
    if ref is None or not ref.get("uid"):
        return False
    if claim is None or uid(claim) != ref["uid"]:
        return True
    return (spec(claim).get("volumeName") or name(volume)) != name(volume)


def keeps_phase(volume: Object) -> bool:
    """Whether a released volume keeps its phase: what failed stays visible while it is tried again."""
    return status(volume).get("phase") in (RELEASED, FAILED)


def _unbound(claim: Object, view: View) -> Sequence[Step]:
    storage_class = class_of_claim(claim)
    delayed = bool(storage_class) and waits_for_consumer(view.storage_class(storage_class))
    try:
        volume = view.match(claim, delayed=delayed)
    except ValueError as error:
        key = f"{namespace(claim)}/{name(claim)}"
        return (
            Refuse(f'error finding PV for claim "{key}": error creating internal label selector for claim: {error}'),
        )
    if volume is not None:
        return (Bind(volume),)
    default = None if has_class(claim) else view.default_class()
    if default is not None:
        return (AssignClass(name(default)),)
    if delayed and SELECTED_NODE not in annotations_of(claim):
        return (_waiting(claim, view), ClaimPhase(PENDING))
    if storage_class:
        return (Do.PROVISION,)
    message = "no persistent volumes available for this claim and no storage class is set"
    return (Tell(claim, NORMAL, "FailedBinding", message), ClaimPhase(PENDING))


def _waiting(claim: Object, view: View) -> Tell:
    pods = view.waiting_pods(claim)
    if not pods:
        message = "waiting for first consumer to be created before binding"
        return Tell(claim, NORMAL, "WaitForFirstConsumer", message)
    noun = "pods" if len(pods) > 1 else "pod"
    return Tell(claim, NORMAL, "WaitForPodScheduled", f"waiting for {noun} {','.join(pods)} to be scheduled")


def _named(claim: Object, view: View) -> Sequence[Step]:
    volume = view.volume(spec(claim)["volumeName"])
    if volume is None:
        return (ClaimPhase(PENDING),)
    if is_bound_to(volume, claim):
        return (Bind(volume),)
    if claim_ref(volume) is None:
        why = misfit(volume, claim)
        if why is None:
            return (Bind(volume),)
        message = f'Cannot bind to requested volume "{name(volume)}": {why}'
        return (Tell(claim, WARNING, "VolumeMismatch", message), ClaimPhase(PENDING))
    message = f'volume "{name(volume)}" already bound to a different claim.'
    told = Tell(claim, WARNING, "FailedBinding", message)
    if BOUND_BY_CONTROLLER not in annotations_of(claim):
        return (told, ClaimPhase(PENDING))
    key = f"{namespace(claim)}/{name(claim)}"
    return (
        told,
        Refuse(
            f'invalid binding of claim "{key}" to volume "{name(volume)}": '
            f'volume already claimed by "{claim_key(volume)}"'
        ),
    )


def _bound(claim: Object, view: View) -> Sequence[Step]:
    named = spec(claim).get("volumeName")
    if not named:
        message = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
        return (ClaimPhase(LOST, "ClaimLost", message),)
    volume = view.volume(named)
    if volume is None:
        message = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
        return (ClaimPhase(LOST, "ClaimLost", message),)
    ref = claim_ref(volume)
    if ref is None or ref.get("uid") == uid(claim):
        return (Bind(volume),)
    message = "Two claims are bound to the same volume, this one is bound incorrectly"
    return (ClaimPhase(LOST, "ClaimMisbound", message),)


def _modes_differ(volume: Object, claim: Object) -> Sequence[Step]:
    due = "due to incompatible volumeMode."
    return (
        Tell(
            volume,
            WARNING,
            "VolumeMismatch",
            f'Cannot bind PersistentVolume to requested PersistentVolumeClaim "{name(claim)}" {due}',
        ),
        Tell(
            claim,
            WARNING,
            "VolumeMismatch",
            f'Cannot bind PersistentVolume "{name(volume)}" to requested PersistentVolumeClaim {due}',
        ),
    )
