"""Tells of processes that the kernel killed because the whole machine ran out of memory: event SystemOOM of the node.

The kernel says so in its log (/dev/kmsg). What is killed because a cgroup is at its limit is no such case: containers
tell of that themselves.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

from tiphys.client.events import EventRecorder

log = logging.getLogger(__name__)

_BEGINS = "invoked oom-killer:"
_IN_CGROUP = re.compile(
    r"oom-kill:constraint=.*,nodemask=.*,cpuset=.*,mems_allowed=.*,"
    r"oom_memcg=(.*),task_memcg=(.*),task=(.*),pid=(\d+),uid=.*"
)
_KILLED = re.compile(r"Killed process (\d+) \((.+)\)")
_RECORD = 8192
"""Bytes that the kernel's longest record fits in (kmsg(4))."""


@dataclass(frozen=True, slots=True)
class Kill:
    """A process that was killed. `cgroup` is the one that ran out of memory, / for the machine."""

    pid: int
    name: str
    cgroup: str


class KernelLog:
    """Finds kills in the kernel's records, fed one by one."""

    def __init__(self) -> None:
        self._open = False

    def feed(self, record: str) -> Kill | None:
        """A kill, when this record completes one."""
        text = record.partition(";")[2] or record
        if not self._open:
            self._open = _BEGINS in text
            return None
        if found := _IN_CGROUP.search(text):
            self._open = False
            return Kill(int(found[4]), found[3], found[1])
        if found := _KILLED.search(text):
            self._open = False
            return Kill(int(found[1]), found[2], "/")
        return None


class OomWatch:
    """Of one node; wakes only when the kernel writes something."""

    def __init__(self, path: Path, node_name: str, recorder: EventRecorder) -> None:
        self._path, self._node, self._recorder = path, node_name, recorder
        self._log = KernelLog()

    async def run(self) -> None:
        """Until cancelled; ends at once where the log cannot be read."""
        try:
            handle = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            log.warning("no events SystemOOM: %s: %s", self._path, error.strerror)
            return
        loop = asyncio.get_running_loop()
        try:
            os.lseek(handle, 0, os.SEEK_END)
            loop.add_reader(handle, self._read, handle)
            await asyncio.Event().wait()
        finally:
            loop.remove_reader(handle)
            os.close(handle)

    def _read(self, handle: int) -> None:
        while True:
            try:
                record = os.read(handle, _RECORD)
            except BlockingIOError:
                return
            except BrokenPipeError:
                continue  # records were overwritten before they were read: go on with the oldest
            except OSError as error:
                log.warning("%s cannot be read any more: %s", self._path, error.strerror)
                asyncio.get_running_loop().remove_reader(handle)
                return
            if not record:
                return
            self.note(record.decode(errors="replace"))

    def note(self, record: str) -> None:
        """Take one record of the log."""
        kill = self._log.feed(record)
        if kill is None or kill.cgroup != "/":
            return
        about = {"kind": "Node", "name": self._node, "uid": self._node, "apiVersion": "v1"}
        message = f"System OOM encountered, victim process: {kill.name}, pid: {kill.pid}"
        self._recorder.about(about, "Warning", "SystemOOM", message)
