"""What is measured for eviction, of the node and of pods. Plain data; sizes in bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tiphys.api.quantity import Quantity, from_units
from tiphys.kubelet.eviction import signals


@dataclass(frozen=True, slots=True)
class Room:
    """How much of something there is and what of it is left."""

    available: int
    capacity: int


@dataclass(frozen=True, slots=True)
class FileSystem:
    space: Room
    inodes: Room


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """Of the whole node; None is what could not be measured."""

    memory: Room | None = None
    allocatable: Room | None = None
    """What pods together may use."""
    nodefs: FileSystem | None = None
    imagefs: FileSystem | None = None
    containerfs: FileSystem | None = None
    pids: Room | None = None


@dataclass(frozen=True, slots=True)
class Used:
    """On a disk."""

    bytes: int = 0
    inodes: int = 0

    def __add__(self, other: Used) -> Used:
        return Used(self.bytes + other.bytes, self.inodes + other.inodes)


NOTHING = Used()


@dataclass(frozen=True, slots=True)
class ContainerFigures:
    memory: int | None = None
    """Its working set."""
    rootfs: Used | None = None
    """What it has written to its own root."""
    logs: Used | None = None


@dataclass(frozen=True, slots=True)
class PodFigures:
    memory: int = 0
    """Its working set."""
    processes: int = 0
    containers: Mapping[str, ContainerFigures] = field(default_factory=dict)
    volumes: Mapping[str, Used] = field(default_factory=dict)
    """By name, those that use the node's disk and were measured."""
    storage: Used | None = None
    """All of the node's disk that it uses; None: not measured."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One signal at one moment; `at` in seconds of the monotonic clock."""

    available: Quantity
    capacity: int
    at: float


Observations = Mapping[str, Observation]


def observations(figures: NodeFigures, at: float) -> dict[str, Observation]:
    """Signal by signal."""
    rooms: dict[str, Room | None] = {
        signals.MEMORY: figures.memory,
        signals.ALLOCATABLE_MEMORY: figures.allocatable,
        signals.PIDS: figures.pids,
    }
    for space, inodes, found in (
        (signals.NODEFS, signals.NODEFS_INODES, figures.nodefs),
        (signals.IMAGEFS, signals.IMAGEFS_INODES, figures.imagefs),
        (signals.CONTAINERFS, signals.CONTAINERFS_INODES, figures.containerfs),
    ):
        rooms[space] = found.space if found is not None else None
        rooms[inodes] = found.inodes if found is not None and found.inodes.capacity else None
    return {signal: _observed(signal, room, at) for signal, room in rooms.items() if room is not None}


def _observed(signal: str, room: Room, at: float) -> Observation:
    counted = signals.RESOURCES[signal] in ("inodes", "pids")
    return Observation(from_units(room.available, "decimal" if counted else "binary"), room.capacity, at)
