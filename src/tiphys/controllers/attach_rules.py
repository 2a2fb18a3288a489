"""What to attach and to detach: a pure decision about one volume, and the words in which its events are told.

Detaching waits until the node's kubelet does not use the volume any more; a node that is not ready is waited for
six minutes, one with the out-of-service taint not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tiphys.client.types import Object
from tiphys.controllers.attach_volumes import Volume
from tiphys.controllers.attach_world import ATTACH, DETACH, Attachment, Wanted, World
from tiphys.controllers.objects import deleting, name, namespace, spec, status

LONGEST_UNMOUNT = 360.0
"""Seconds after which a volume is taken from a node that is not ready."""
LONGEST_OPERATION = 120.0
"""Seconds that a driver has for attaching or detaching."""
FIRST_LOOK = 0.5
"""Seconds after which an error that a driver left counts for the present try too."""
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of a node; an absent one is not ready."""

    ready: bool = False
    out_of_service: bool = False

    @classmethod
    def of(cls, node: Object | None) -> Health:
        if node is None:
            return cls()
        ready = any(
            each.get("type") == "Ready" and each.get("status") == "True"
            for each in status(node).get("conditions") or ()
        )
        tainted = any(each.get("key") == OUT_OF_SERVICE for each in spec(node).get("taints") or ())
        return cls(ready, tainted)


@dataclass(frozen=True, slots=True)
class Detach:
    node: str
    volume: Volume
    verify: bool
    """Whether the node itself is to be asked first."""


@dataclass(frozen=True, slots=True)
class Attach:
    node: str
    volume: Volume


@dataclass(frozen=True, slots=True)
class Contest:
    """Another node has the volume: its pods are told, once."""

    node: str
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """Decide again after so many seconds."""

    after: float


Step = Detach | Attach | Contest | Look


@dataclass(frozen=True, slots=True)
class Policy:
    """How nodes are treated that do not unmount."""

    force: bool = True


def decide(world: World, unique: str, health: Mapping[str, Health], now: float, policy: Policy) -> list[Step]:
    """Detachments first, so that a volume whose pod has moved comes free."""
    steps: list[Step] = []
    wanted, attached = world.wanted.get(unique, {}), world.attached.get(unique, {})
    busy: set[str] = set()
    for node, attachment in attached.items():
        if node in wanted:
            continue
        step = _detachment(world, node, attachment, health.get(node, Health()), now, policy)
        if isinstance(step, Detach) and not attachment.volume.shared:
            busy.add(unique)
        steps += [step] if step else []
    for node, want in wanted.items():
        if unique in busy:
            break
        step = _attachment(world, node, want, attached, now)
        if isinstance(step, Attach) and not want.volume.shared:
            busy.add(unique)
        steps += [step] if step else []
    return steps


def _detachment(
    world: World, node: str, attachment: Attachment, health: Health, now: float, policy: Policy
) -> Step | None:
    earlier = world.operation(attachment.volume, node)
    blocked = earlier.blocks(DETACH, now) if earlier else 0.0
    if blocked is None:
        return None
    if blocked:
        return Look(blocked)
    waited = now - attachment.unwanted_since if attachment.unwanted_since is not None else 0.0
    expired = waited > LONGEST_UNMOUNT and policy.force
    mounted = attachment.volume.unique in world.in_use.get(node, ())
    if mounted and not (expired and not health.ready) and not health.out_of_service:
        left = LONGEST_UNMOUNT - waited
        return Look(left + 0.001) if not health.ready and policy.force and left >= 0 else None
    return Detach(node, attachment.volume, verify=not expired and not health.out_of_service)


def _attachment(world: World, node: str, want: Wanted, attached: Mapping[str, Attachment], now: float) -> Step | None:
    earlier = world.operation(want.volume, node)
    blocked = earlier.blocks(ATTACH, now) if earlier else 0.0
    if blocked is None or (node in attached and attached[node].confirmed):
        return None
    if not want.volume.shared:
        others = tuple(other for other, each in attached.items() if each.confirmed)
        if others:
            return None if want.contested else Contest(node, others)
    return Look(blocked) if blocked else Attach(node, want.volume)


def touch(world: World, unique: str, now: float) -> None:
    """Note since when attachments are unwanted; one that is wanted again starts anew."""
    wanted = world.wanted.get(unique, {})
    for node, attachment in world.attached.get(unique, {}).items():
        if node not in wanted:
            attachment.unwanted_since = now if attachment.unwanted_since is None else attachment.unwanted_since
        elif attachment.confirmed:
            attachment.unwanted_since = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an operation stands: `done`, failed with `error`, or neither: look again in `after` seconds at the latest."""

    done: bool = False
    error: str = ""
    after: float = 0.0


def attach_outcome(attachment: Object | None, volume: Volume, started: float, now: float) -> Outcome:
    """What a VolumeAttachment says of the attaching that began at `started`."""
    left = LONGEST_OPERATION - (now - started)
    if attachment is not None:
        if deleting(attachment):
            return _failed("volume attachment is being deleted", started, now)
        if status(attachment).get("attached"):
            return Outcome(done=True)
        if (error := status(attachment).get("attachError")) is not None:
            return _failed(str(error.get("message") or ""), started, now)
    return _late("attach", volume.driver, volume.handle, left)


def detach_outcome(attachment: Object | None, volume: Volume, started: float, now: float) -> Outcome:
    """What a VolumeAttachment, or its absence, says of the detaching that began at `started`."""
    left = LONGEST_OPERATION - (now - started)
    if attachment is None:
        return Outcome(done=True)
    if (error := status(attachment).get("detachError")) is not None:
        return _failed(str(error.get("message") or ""), started, now)
    return _late("detach", "unknown", volume.handle, left)


def _failed(message: str, started: float, now: float) -> Outcome:
    left = FIRST_LOOK - (now - started)
    return Outcome(after=left) if left > 0 else Outcome(error=message)


def _late(what: str, driver: str, handle: str, left: float) -> Outcome:
    if left > 0:
        return Outcome(after=left)
    return Outcome(error=f"timed out waiting for external-attacher of {driver} CSI driver to {what} volume {handle}")


def attached_message(volume: Volume) -> str:
    return f'AttachVolume.Attach succeeded for volume "{volume.name}" '


def failed_message(volume: Volume, error: str) -> str:
    return f'AttachVolume.Attach failed for volume "{volume.name}" : {error}'


def contest_message(volume: Volume, pod: Object, holders: list[Object]) -> str:
    """Why `pod` waits: the pods that have the volume, by name only in its own namespace."""
    prefix = f'Multi-Attach error for volume "{volume.name}"'
    if not holders:
        return f"{prefix} Volume is already exclusively attached to one node and can't be attached to another"
    near = [name(each) for each in holders if namespace(each) == namespace(pod)]
    far = len(holders) - len(near)
    if not near:
        return f"{prefix} Volume is already used by {far} pod(s) in different namespaces"
    elsewhere = f" and {far} pod(s) in different namespaces" if far else ""
    return f"{prefix} Volume is already used by pod(s) {', '.join(near)}{elsewhere}"
