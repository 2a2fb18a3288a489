"""What a runtime directory holds, read as warily as anything that a crash, a full disk or a person may have touched.

A file that is torn or says nonsense costs at most the sandbox or container that it tells of, never the start.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import signal
import socket
import struct
from pathlib import Path
from typing import Any

from tiphys.base.files import remove_tree
from tiphys.runtime import cgroups, processes, protocol, spec, syscalls
from tiphys.runtime.records import ContainerRecord, SandboxRecord
from tiphys.runtime.shim import SOCKET, STATE

log = logging.getLogger(__name__)

_PREPARED = {"created_at", "image", "user", "stop_signal"}
_PATIENCE, _PAUSE = 10.0, 0.01
"""Seconds for a shim to answer or a process to end, and between two looks."""
_NONSENSE = (KeyError, TypeError, ValueError, AttributeError)


def container(directory: Path) -> ContainerRecord | None:
    """The container in `directory`; None when what is there is none."""
    content, prepared = spec.load(directory / "spec.json"), spec.load(directory / "prepared.json")
    if content is None or prepared is None or not prepared.keys() >= _PREPARED:
        return None
    try:
        record = ContainerRecord(spec.container(content), directory, prepared)
    except _NONSENSE as error:
        log.warning("container in %s cannot be read and is removed: %s", directory, error)
        return None
    return record if record.spec.id == directory.name else None


def state(directory: Path) -> dict[str, Any] | None:
    """What a shim wrote last; None when it wrote nothing, or nothing that makes sense."""
    content = spec.load(directory / STATE)
    if content is None or content.get("state") not in ("running", "exited"):
        return None
    numbers = ("pid", "exit_code", "signal", "started_at", "finished_at")
    return content if all(isinstance(content.get(name, 0), int | float) for name in numbers) else None


def sandbox(directory: Path) -> SandboxRecord | None:
    """The sandbox in `directory`; None when what is there is none."""
    content, found = spec.load(directory / "spec.json"), spec.load(directory / "state.json") or {}
    if content is None:
        return None
    if found and not (isinstance(found.get("pid"), int) and isinstance(found.get("start_time"), int)):
        found = {}
    try:
        record = SandboxRecord(spec.sandbox(content), directory, found)
    except _NONSENSE as error:
        log.warning("sandbox in %s cannot be read and is removed: %s", directory, error)
        return None
    return record if record.spec.id == directory.name else None


def cgroup_of(directory: Path) -> list[str]:
    """The directories of a container's cgroup, from its bundle; [] when that cannot be read."""
    try:
        found = (spec.load(directory / "bundle.json") or {})["cgroup"]["directories"]
    except _NONSENSE:
        return []
    return [path for path in found if isinstance(path, str)] if isinstance(found, list) else []


def shim_of(directory: Path) -> int:
    """The process that holds a container's lock: its shim, from before the start to after the end. 0: there is none."""
    try:
        handle = os.open(directory / "shim.lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        asked = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack("hhqqi", fcntl.fcntl(handle, fcntl.F_GETLK, asked))
        return 0 if kind == fcntl.F_UNLCK else int(pid)
    finally:
        os.close(handle)


def first_word(directory: Path) -> tuple[socket.socket, dict[str, Any]] | None:
    """A connection to a container's shim and the state that it tells; None when it has gone.

    A shim that is just starting its container answers when that is done; so this waits, for `_PATIENCE` seconds."""
    connection = None
    for _ in range(int(_PATIENCE / _PAUSE)):
        with contextlib.suppress(OSError):
            connection = protocol.connect(str(directory), SOCKET)
        if connection is not None or not shim_of(directory):
            break
        select.select((), (), (), _PAUSE)  # it holds the lock and does not listen yet
    if connection is None:
        return None
    connection.settimeout(_PATIENCE)
    try:
        told = protocol.receive(connection)
    except (OSError, EOFError):
        connection.close()
        return None
    return connection, told


def _end(pid: int) -> None:
    """SIGKILL, and wait for the end."""
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        select.select((handle,), (), (), _PATIENCE)
    finally:
        os.close(handle)


def discard(directory: Path) -> None:
    """End what may run of a container or sandbox that cannot be read, and remove its files."""
    content = spec.load(directory / "state.json") or {}
    pid, started = content.get("pid"), content.get("start_time")
    same = content.get("boot") == processes.boot_id()
    if isinstance(pid, int) and pid > 1 and same and started and processes.start_time(pid) == started:
        _end(pid)
    if shim := shim_of(directory):
        _end(shim)
    cgroups.remove(cgroup_of(directory))
    with contextlib.suppress(OSError):
        syscalls.umount(str(directory / "shm"))
    try:
        remove_tree(directory)
    except OSError as error:
        log.warning("%s cannot be removed: %s", directory, error)
