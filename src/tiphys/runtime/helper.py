"""The warm helper: a small Python process that forks what a container needs, in under a millisecond.

Starting an interpreter for each container would cost 10 ms and 10 MB; a fork of this process shares its pages
and is ready at once. It listens on `helper.sock` in the runtime's directory; each connection brings one request,
and the forked child answers on that same connection, which stays its control connection. So the helper itself
does nothing but accept and fork, and when it dies nobody notices: shims and pause processes are their own
masters, and the next request starts a new helper.

Run as `python -I -S -c ...` by `launcher.py`, from a read-only mount of the interpreter.
"""

from __future__ import annotations

import fcntl
import gc
import os
import select
import signal
import socket
import sys
import traceback

from tiphys.runtime import execute, pause, pause_program, protocol, shim, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SOCKET = "helper.sock"
SANDBOX = bytes([protocol.SANDBOX])


def main(directory: str, ready: int) -> None:
    """Serve `directory` until told to stop; one byte on descriptor `ready` tells that connections are taken."""
    if os.fork():  # detached for good: init is our parent, whoever started us need not wait
        return
    os.setsid()
    if not _only_one(directory):
        os.write(ready, b"1")
        return
    os.chdir("/")
    os.umask(0o022)
    # Nobody in a container may look into our memory or at our executable.
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    syscalls.set_name("tiphys-helper")
    program = pause_program.make()
    listener = protocol.listen(directory, SOCKET)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # After pivot_root a late import would run code of the container's with our rights: all is loaded, import no more.
    sys.path.clear()
    sys.meta_path[:] = [finder for finder in sys.meta_path if getattr(finder, "__name__", "") != "PathFinder"]
    # Collect now and never again: a collection in a child would touch, and so copy, every shared page.
    gc.collect()
    gc.disable()
    gc.freeze()
    os.write(ready, b"1")
    os.close(ready)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            os._exit(_serve(connection, program, directory))
        connection.close()


def _only_one(directory: str) -> bool:
    """Take the lock that a living helper holds; it is let go by the kernel when the process ends."""
    handle = os.open(os.path.join(directory, "helper.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # A POSIX lock is not inherited by forks: it dies with the helper, not with the last shim.
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if os.path.exists(os.path.join(directory, SOCKET)):
            return False
        fcntl.lockf(handle, fcntl.LOCK_EX)  # the helper before, told to stop and on its way out
    return True


def _serve(connection: socket.socket, program: int, directory: str) -> int:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        if connection.recv(protocol.HEADER.size, socket.MSG_PEEK | socket.MSG_WAITALL)[4:] == SANDBOX:
            pause.run(connection, program, directory)
        else:
            _dispatch(connection, protocol.receive(connection))
    except EOFError:
        return 0
    except BaseException:  # noqa: BLE001 - the process's outermost boundary: say what happened and end
        print(traceback.format_exc(), file=sys.stderr, flush=True)
        return 1
    return 0


def _stop(directory: str) -> None:
    """End the helper; returns when it has ended. Nobody may find it once it is doomed."""
    helper = os.pidfd_open(os.getppid())
    os.unlink(os.path.join(directory, SOCKET))
    signal.pidfd_send_signal(helper, signal.SIGTERM)
    select.select([helper], [], [])


def _dispatch(connection: socket.socket, request: dict[str, Any]) -> None:
    operation = request["op"]
    if operation == "start":
        shim.run(connection, request)
    elif operation == "exec":
        execute.run(connection, request)
    elif operation == "stop":
        _stop(request["directory"])
        protocol.send(connection, {})
    else:
        protocol.send(connection, {"error": f"unknown operation {operation!r}"})
