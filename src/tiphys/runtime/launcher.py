"""Starts the helper, or finds the living one. Runs in the process that uses the runtime."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import subprocess
import sys
from pathlib import Path

import tiphys
from tiphys.runtime import protocol, syscalls
from tiphys.runtime.helper import SOCKET
from tiphys.runtime.types import RuntimeFailure

_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from tiphys.runtime.helper import main; "
    "main(sys.argv[2], int(sys.argv[3]))"
)


class Launcher:
    """Connections to the helper of one runtime directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = str(directory)
        self._starting = asyncio.Lock()

    async def connect(self) -> socket.socket:
        """A non-blocking connection to the helper, which is started if there is none."""
        connection = self._try()
        if connection is None:
            async with self._starting:
                connection = self._try()
                if connection is None:
                    await asyncio.to_thread(self._start)
                    connection = self._try()
        if connection is None:
            raise RuntimeFailure(f"the runtime's helper does not answer: see {self._directory}/helper.log")
        return connection

    def _try(self) -> socket.socket | None:
        try:
            connection = protocol.connect(self._directory, SOCKET)
        except OSError:
            return None
        connection.setblocking(False)
        return connection

    def _start(self) -> None:
        """Run the helper detached; returns when it takes connections. One process at a time starts one."""
        with open(os.path.join(self._directory, "launcher.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            connection = self._try()
            if connection is None:
                self._launch()
            else:
                connection.close()

    def _launch(self) -> None:
        read_end, write_end = os.pipe()
        # A read-only mount: no container can ever write to the interpreter through /proc/PID/exe (CVE-2019-5736).
        interpreter = _readonly(os.path.realpath(sys.executable))
        try:
            with open(os.path.join(self._directory, "helper.log"), "ab") as log:
                process = self._spawn(interpreter, write_end, log.fileno())
            os.close(write_end)
            write_end = -1
            answer = os.read(read_end, 1)
            process.wait()
            if not answer:
                raise RuntimeFailure(f"the runtime's helper did not start: see {self._directory}/helper.log")
        finally:
            for descriptor in (read_end, write_end, interpreter):
                if descriptor >= 0:
                    os.close(descriptor)

    def _spawn(self, interpreter: int, ready: int, log: int) -> subprocess.Popen[bytes]:
        source = str(Path(tiphys.__file__).parent.parent)
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM, source, self._directory, str(ready)],
            executable=f"/proc/self/fd/{interpreter}" if interpreter >= 0 else sys.executable,
            pass_fds=(ready, interpreter) if interpreter >= 0 else (ready,),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"},
        )


def _readonly(path: str) -> int:
    """The file on a detached read-only mount; -1 where the kernel cannot (before Linux 5.12)."""
    try:
        tree = syscalls.open_tree(path, recursive=False)
        syscalls.mount_setattr(tree, recursive=False, attributes=syscalls.MOUNT_ATTR_RDONLY)
    except OSError:
        return -1
    return tree
