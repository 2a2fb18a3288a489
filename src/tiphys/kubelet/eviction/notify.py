"""Has the kernel tell when memory becomes scarce, so that eviction need not wait for its next look.

cgroup v1: an eventfd on memory.usage_in_bytes (Documentation/admin-guide/cgroup-v1/memory.rst, 9), set to where the
working set would cross a threshold and set again as file cache comes and goes. v2 has no such thing: there a trigger
on memory.pressure tells that tasks wait for memory (Documentation/accounting/psi.rst).
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
from collections.abc import Callable, Iterable
from pathlib import Path

from tiphys.kubelet.eviction.figures import NodeFigures, Room
from tiphys.kubelet.eviction.signals import ALLOCATABLE_MEMORY, MEMORY, Threshold
from tiphys.runtime.cgroups import Layout, read

log = logging.getLogger(__name__)

_TRIGGER = b"some 150000 2000000\0"
"""150 ms of waiting within 2 s."""


class MemoryWatch:
    """Calls `wake`; `own` is the node's cgroup, "" when the whole machine is its."""

    def __init__(self, layout: Layout, own: str, pods: str, thresholds: Iterable[Threshold], wake: Callable[[], None]):
        self._layout = layout
        self._paths = {MEMORY: own, ALLOCATABLE_MEMORY: pods}
        self._thresholds = [one for one in thresholds if one.signal in self._paths]
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._watched: dict[Threshold, tuple[int, ...]] = {}

    def update(self, figures: NodeFigures) -> None:
        """Set the thresholds anew, from what is used and free now."""
        for threshold in self._thresholds:
            room = figures.memory if threshold.signal == MEMORY else figures.allocatable
            if room is None or (self._layout.v2 and threshold in self._watched):
                continue
            self._forget(threshold)
            try:
                self._watched[threshold] = self._watch(threshold, room)
            except OSError as error:
                log.debug("the kernel does not tell when memory is scarce: %s", error)

    def _watch(self, threshold: Threshold, room: Room) -> tuple[int, ...]:
        path = self._paths[threshold.signal]
        if self._layout.v2:
            return self._pressure(os.path.join(self._layout.v2, path, "memory.pressure") if path else _WHOLE)
        directory = os.path.join(self._layout.v1.get("memory", ""), path)
        limit = room.capacity - threshold.value.of(room.capacity).value + _inactive(directory)
        return self._usage(directory, max(limit, 0))

    def _usage(self, directory: str, limit: int) -> tuple[int, ...]:
        event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            watched = os.open(os.path.join(directory, "memory.usage_in_bytes"), os.O_RDONLY | os.O_CLOEXEC)
            try:
                control = Path(directory, "cgroup.event_control")
                descriptor = os.open(control, os.O_WRONLY | os.O_CLOEXEC)
                try:
                    os.write(descriptor, f"{event} {watched} {limit}".encode())
                finally:
                    os.close(descriptor)
            finally:
                os.close(watched)
        except OSError:
            os.close(event)
            raise
        self._loop.add_reader(event, self._told, event)
        return (event,)

    def _told(self, event: int) -> None:
        try:
            os.eventfd_read(event)
        except BlockingIOError:
            return
        self._wake()

    def _pressure(self, file: str) -> tuple[int, ...]:
        trigger = os.open(file, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(trigger, _TRIGGER)
            poller = select.epoll()
            poller.register(trigger, select.EPOLLPRI)
        except OSError:
            os.close(trigger)
            raise
        handle = os.dup(poller.fileno())
        poller.close()
        self._loop.add_reader(handle, self._pressed, handle)
        return (handle, trigger)

    def _pressed(self, handle: int) -> None:
        with select.epoll.fromfd(os.dup(handle)) as poller:
            poller.poll(0)
        self._wake()

    def _forget(self, threshold: Threshold) -> None:
        descriptors = self._watched.pop(threshold, ())
        if descriptors:
            self._loop.remove_reader(descriptors[0])
        for descriptor in descriptors:
            os.close(descriptor)

    def close(self) -> None:
        for threshold in list(self._watched):
            self._forget(threshold)


_WHOLE = "/proc/pressure/memory"


def _inactive(directory: str) -> int:
    for line in read(directory, "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name == "total_inactive_file":
            return int(value)
    return 0
