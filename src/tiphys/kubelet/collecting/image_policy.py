"""Which images go, and in what order. Pure; times in seconds of the monotonic clock.

An image's age counts from when this kubelet first saw it, its last use from when a container was last seen with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from tiphys.runtime.types import Image


@dataclass(slots=True)
class ImageRecord:
    """What is known of one image."""

    id: str
    first_seen: float
    last_used: float = float("-inf")
    size: int = 0
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class ImagePolicy:
    """Percentages of the images' file system, ages in seconds; `maximum_age` 0 is none."""

    high: int = 85
    low: int = 80
    minimum_age: float = 120.0
    maximum_age: float = 0.0

    @property
    def enabled(self) -> bool:
        return self.high < 100 or self.maximum_age > 0


class ImageRecords:
    """All images of the machine as this node sees them."""

    def __init__(self) -> None:
        self._records: dict[str, ImageRecord] = {}

    def observe(self, images: Iterable[Image], used: Collection[str], now: float) -> None:
        """`used` has the IDs of images of containers, running or not."""
        known, self._records = self._records, {}
        for image in images:
            record = known.get(image.id) or ImageRecord(image.id, now)
            record.size, record.pinned = image.size, image.pinned
            if image.id in used:
                record.last_used = now
            self._records[image.id] = record

    def candidates(self, used: Collection[str]) -> list[ImageRecord]:
        """Those that may go, the longest unused first."""
        free = [one for one in self._records.values() if one.id not in used and not one.pinned]
        return sorted(free, key=lambda one: (one.last_used, one.first_seen))

    def forget(self, id: str) -> None:
        self._records.pop(id, None)


def expired(record: ImageRecord, policy: ImagePolicy, now: float, began: float) -> bool:
    """Whether its age alone is reason to go; not before the kubelet has watched for that long itself."""
    if not policy.maximum_age or now - began <= policy.maximum_age:
        return False
    return now - max(record.last_used, record.first_seen) > policy.maximum_age


def is_old_enough(record: ImageRecord, policy: ImagePolicy, now: float) -> bool:
    """An image that has just come may be about to be used."""
    return record.last_used < now and now - record.first_seen >= policy.minimum_age


def to_free(policy: ImagePolicy, capacity: int, available: int) -> tuple[int, int]:
    """(percent used, bytes to free: 0 below the high threshold)."""
    used = 100 - min(available, capacity) * 100 // capacity
    if used < policy.high:
        return used, 0
    return used, capacity * (100 - policy.low) // 100 - min(available, capacity)


def shortage(used: int, capacity: int, freed: int) -> str:
    """What to say when deleting images was not enough."""
    return (
        f"Insufficient free disk space on the node's image filesystem ({used}% of {_size(capacity)} used). "
        f"Failed to free sufficient space by deleting unused images (freed {freed} bytes). "
        "Investigate disk usage, as it could be used by active images, logs, volumes, or other data."
    )


def _size(count: int) -> str:
    if count < 1024:
        return f"{count} B"
    size = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} TiB"
