"""Removes unused images when their file system fills up or they are too old; every five minutes, and when asked to.

The content store belongs to all nodes of the machine: an image that a container of any of them uses stays.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from tiphys.base.clock import Clock
from tiphys.base.errors import TiphysError
from tiphys.base.metrics import Counter
from tiphys.client.events import EventRecorder
from tiphys.kubelet.collecting.image_policy import (
    ImagePolicy,
    ImageRecord,
    ImageRecords,
    expired,
    is_old_enough,
    shortage,
    to_free,
)
from tiphys.kubelet.eviction.figures import Room
from tiphys.kubelet.podspec import Object
from tiphys.runtime.types import ImageInUse, NoSuchImage, Runtime

log = logging.getLogger(__name__)

PERIOD = 300.0


class CollectionFailed(TiphysError):
    """Images could not be removed, or removing them was not enough."""


class ImageCollector:
    """`room` tells the present state of the images' file system, in bytes; `collected` counts by reason."""

    def __init__(
        self,
        policy: ImagePolicy,
        runtime: Runtime,
        clock: Clock,
        recorder: EventRecorder,
        node: Object,
        room: Callable[[], Room],
        collected: Counter,
    ) -> None:
        self._policy = policy
        self._runtime = runtime
        self._clock = clock
        self._recorder = recorder
        self._node = node
        self._room = room
        self._records = ImageRecords()
        self._began = clock.monotonic()
        self._collected = collected

    async def run(self) -> None:
        """Until cancelled."""
        failed = False
        while True:
            try:
                await (self.collect() if self._policy.enabled else self._look())
            except (TiphysError, OSError) as error:
                log.warning("images cannot be collected: %s", error)
                if failed:  # once may be a coincidence
                    self._warn("ImageGCFailed", str(error))
                failed = True
            except Exception:  # what goes wrong here must not end the node
                log.exception("images could not be collected")
            else:
                failed = False
            await self._clock.sleep(PERIOD)

    async def collect(self) -> None:
        """Remove what is too old, then what it takes to get from above the high threshold to the low one."""
        now = self._clock.monotonic()
        waiting = []
        failures = []
        for record in await self._look():
            if not expired(record, self._policy, now, self._began):
                waiting.append(record)
            elif error := await self._remove(record, "age"):
                failures.append(error)
        if failures:
            raise CollectionFailed(f"wanted to free images older than {self._policy.maximum_age:g}s: {_all(failures)}")
        room = self._room()
        if room.capacity == 0:
            self._warn("InvalidDiskCapacity", "invalid capacity 0 on image filesystem")
            raise CollectionFailed("invalid capacity 0 on image filesystem")
        used, wanted = to_free(self._policy, room.capacity, room.available)
        if wanted > 0:
            log.info("%d %% of the images' file system is used, to be freed: %d bytes", used, wanted)
            freed = await self._free(waiting, wanted, now)
            if freed < wanted:
                message = shortage(used, room.capacity, freed)
                self._warn("FreeDiskSpaceFailed", message)
                raise CollectionFailed(message)

    async def remove_unused(self) -> None:
        """All that may go."""
        await self._free(await self._look(), None, self._clock.monotonic())

    async def _look(self) -> list[ImageRecord]:
        """Candidates in order."""
        images = await self._runtime.images.list()
        used = set()
        for container in await self._runtime.containers():
            used |= {container.spec.image, *(mount.image for mount in container.spec.mounts if mount.image)}
        self._records.observe(images, used, self._clock.monotonic())
        return self._records.candidates(used)

    async def _free(self, candidates: list[ImageRecord], wanted: int | None, now: float) -> int:
        """Bytes freed, by removing candidates until it is `wanted`; None: all of them. Raises CollectionFailed."""
        freed = 0
        failures = []
        for record in candidates:
            if wanted is not None and freed >= wanted:
                break
            if not is_old_enough(record, self._policy, now):
                continue
            if error := await self._remove(record, "space"):
                failures.append(error)
            else:
                freed += record.size
        if failures:
            text = f"wanted to free {wanted} bytes, but freed {freed} bytes space with errors in image deletion"
            raise CollectionFailed(f"{text}: {_all(failures)}")
        return freed

    async def _remove(self, record: ImageRecord, reason: str) -> str:
        """Why it could not be removed, or "". Another node's image counts as removed nowhere, and is no failure."""
        try:
            await self._runtime.images.remove(record.id)
        except ImageInUse:
            record.size, record.last_used = 0, self._clock.monotonic()
            return ""
        except NoSuchImage:
            self._records.forget(record.id)
            return ""
        except (TiphysError, OSError) as error:
            return str(error)
        log.info("image %s of %d bytes was removed for want of use", record.id, record.size)
        self._records.forget(record.id)
        self._collected.inc(reason)
        return ""

    def _warn(self, reason: str, message: str) -> None:
        self._recorder.about(self._node, "Warning", reason, message)


def _all(failures: list[str]) -> str:
    return failures[0] if len(failures) == 1 else f"[{', '.join(failures)}]"
