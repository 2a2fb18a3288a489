"""What is said while a big volume is given to a pod's group: after half a minute why, then each minute how far."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tiphys.base.clock import Clock
from tiphys.kubelet.volumes.ownership import Count

FIRST, NEXT = 30.0, 60.0
"""Seconds."""
_ADVICE = (
    "is taking longer than expected, consider using OnRootMismatch - https://kubernetes.io/docs/tasks/"
    "configure-pod-container/security-context/#configure-volume-permission-and-ownership-change-policy-for-pods"
)

Say = Callable[[str, str], None]
"""Records a Warning about the pod: its reason and message."""

Made = TypeVar("Made")


async def with_progress(work: Awaitable[Made], place: str, count: Count, clock: Clock, say: Say) -> Made:
    """The result of `work`, which gives files of `place` to a group."""
    async with asyncio.TaskGroup() as group:
        telling = group.create_task(_tell(place, count, clock, say))
        try:
            return await work
        finally:
            telling.cancel()


async def _tell(place: str, count: Count, clock: Clock, say: Say) -> None:
    reason = "VolumePermissionChangeInProgress"
    await clock.sleep(FIRST)
    say(reason, f"Setting volume ownership for {place} {_ADVICE}")
    while True:
        await clock.sleep(NEXT)
        say(reason, f"Setting volume ownership for {place}, processed {count.files} files.")
