"""What the node watches for eviction, and what is to be kept free of it. Pure.

Signals and thresholds are those of "Node-pressure Eviction" in the Kubernetes documentation; texts of errors are
kubelet 1.36's.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from tiphys.api.quantity import Quantity, from_units, parse
from tiphys.base.durations import parse_duration
from tiphys.base.errors import Permanent

MEMORY = "memory.available"
ALLOCATABLE_MEMORY = "allocatableMemory.available"
NODEFS, NODEFS_INODES = "nodefs.available", "nodefs.inodesFree"
IMAGEFS, IMAGEFS_INODES = "imagefs.available", "imagefs.inodesFree"
CONTAINERFS, CONTAINERFS_INODES = "containerfs.available", "containerfs.inodesFree"
PIDS = "pid.available"

STORAGE = "ephemeral-storage"
RESOURCES: Mapping[str, str] = {
    MEMORY: "memory",
    ALLOCATABLE_MEMORY: "memory",
    IMAGEFS: STORAGE,
    IMAGEFS_INODES: "inodes",
    CONTAINERFS: STORAGE,
    CONTAINERFS_INODES: "inodes",
    NODEFS: STORAGE,
    NODEFS_INODES: "inodes",
    PIDS: "pids",
}
"""Signal -> what is starved."""
CONDITIONS: Mapping[str, str] = {
    signal: {"memory": "MemoryPressure", "pids": "PIDPressure"}.get(resource, "DiskPressure")
    for signal, resource in RESOURCES.items()
}
"""Signal -> the node's condition."""
CONDITION_ORDER = ("MemoryPressure", "DiskPressure", "PIDPressure")

DEFAULT_HARD: Mapping[str, str] = {
    MEMORY: "100Mi",
    NODEFS: "10%",
    NODEFS_INODES: "5%",
    IMAGEFS: "15%",
    IMAGEFS_INODES: "5%",
}


class BadThreshold(Permanent):
    """An eviction setting that makes no sense."""


@dataclass(frozen=True, slots=True)
class Amount:
    """A quantity, or a part of the capacity when `quantity` is None."""

    quantity: Quantity | None = None
    part: float = 0.0

    def of(self, capacity: int) -> Quantity:
        return self.quantity if self.quantity is not None else from_units(int(capacity * self.part), "binary")


@dataclass(frozen=True, slots=True)
class Threshold:
    """Less than `value` available for `grace` seconds is too little; 0 is a hard threshold."""

    signal: str
    value: Amount
    grace: float = 0.0
    reclaim: Amount | None = None
    """Once met, how much more than `value` is to be free again."""

    @property
    def hard(self) -> bool:
        return self.grace == 0


@dataclass(frozen=True, slots=True)
class EvictionSettings:
    """The fields of the KubeletConfiguration, as written."""

    hard: Mapping[str, str]
    soft: Mapping[str, str]
    soft_grace: Mapping[str, str]
    minimum_reclaim: Mapping[str, str]


def make_thresholds(settings: EvictionSettings, enforce_allocatable: bool = True) -> list[Threshold]:
    """All thresholds, hard ones first. Raises BadThreshold."""
    graces = {signal: _grace(signal, text) for signal, text in settings.soft_grace.items()}
    reclaims = {signal: _reclaim(signal, text) for signal, text in settings.minimum_reclaim.items()}
    found = _statements(settings.hard, reclaims)
    for one in _statements(settings.soft, reclaims):
        if one.signal not in graces:
            raise BadThreshold(f"grace period must be specified for the soft eviction threshold {one.signal}")
        found.append(Threshold(one.signal, one.value, graces[one.signal], one.reclaim))
    if enforce_allocatable:
        found += [Threshold(ALLOCATABLE_MEMORY, t.value, 0, t.reclaim) for t in found if t.signal == MEMORY and t.hard]
    return found


def add_containerfs(thresholds: list[Threshold], dedicated_images: bool, split: bool) -> list[Threshold]:
    """With those of the containers' file system: those of the one that it is the same as; own ones do not count."""
    same = {IMAGEFS: CONTAINERFS, IMAGEFS_INODES: CONTAINERFS_INODES}
    if not dedicated_images or split:
        same = {NODEFS: CONTAINERFS, NODEFS_INODES: CONTAINERFS_INODES}
    kept = [one for one in thresholds if one.signal not in (CONTAINERFS, CONTAINERFS_INODES)]
    return kept + [Threshold(same[one.signal], one.value, one.grace, one.reclaim) for one in kept if one.signal in same]


def _statements(source: Mapping[str, str], reclaims: Mapping[str, Amount]) -> list[Threshold]:
    found = []
    for signal, text in source.items():
        _check_signal(signal)
        if str(text) in ("0%", "100%"):
            continue
        found.append(Threshold(signal, _threshold(signal, str(text)), 0.0, reclaims.get(signal)))
    return found


def _check_signal(signal: str) -> None:
    if signal not in RESOURCES:
        raise BadThreshold(f"unsupported eviction signal {signal}")


def _threshold(signal: str, text: str) -> Amount:
    if text.endswith("%"):
        part = _part(text)
        if part < 0:
            raise BadThreshold(f"eviction percentage threshold {signal} must be >= 0%: {text}")
        if part > 1:
            raise BadThreshold(f"eviction percentage threshold {signal} must be <= 100%: {text}")
        return Amount(part=part)
    quantity = _quantity(text)
    if quantity.nanos <= 0:
        raise BadThreshold(f"eviction threshold {signal} must be positive: {quantity}")
    return Amount(quantity)


def _reclaim(signal: str, text: str) -> Amount:
    _check_signal(signal)
    if text.endswith("%"):
        part = _part(text)
        if part <= 0:
            raise BadThreshold(f"eviction percentage minimum reclaim {signal} must be positive: {text}")
        return Amount(part=part)
    quantity = _quantity(text)
    if quantity.nanos < 0:
        raise BadThreshold(f"negative eviction minimum reclaim specified for {signal}")
    return Amount(quantity)


def _grace(signal: str, text: str) -> float:
    _check_signal(signal)
    seconds = parse_duration(text)
    if seconds < 0:
        raise BadThreshold(f"invalid eviction grace period specified: {text}, must be a positive value")
    return seconds


def _quantity(text: str) -> Quantity:
    try:
        return parse(text)
    except ValueError as error:
        raise BadThreshold(str(error)) from None


def _part(text: str) -> float:
    """Of a percentage, in single precision: the numbers in messages are what upstream makes of it."""
    number = text.rstrip("%")
    try:
        return _single(_single(float(number)) / 100)
    except (ValueError, OverflowError):
        raise BadThreshold(f'strconv.ParseFloat: parsing "{number}": invalid syntax') from None


def _single(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])
