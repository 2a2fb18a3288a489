"""The shim's way to start a container by an OCI runtime: create, start, and delete at its end.

The container's first process becomes the shim's child (the runtime's own processes end at once), so that the shim
watches it like any other. Its root file system is mounted in a mount namespace of the shim's, which nobody must clean
up. Imported by the helper: keep it small.
"""

from __future__ import annotations

import array
import json
import os
import socket

from tiphys.runtime import processes, rootfs, syscalls, users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

CONFIG = "config.json"
_LOG = "oci.log"
_CONSOLE = "console.sock"
_CREATE_FAILURE = "unable to start container process: "


class OciFailure(Exception):
    """The OCI runtime did not start the container; its own words."""


def start(directory: str, bundle: dict[str, Any], streams: list[int]) -> tuple[int, int]:
    """(pid, the terminal's master side or -1). Raises OciFailure, OSError."""
    handler = bundle["oci"]
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("", "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
    rootfs.mount_at(bundle, bundle["rootfs"])
    _complete(directory, bundle)
    console = _listen(directory) if bundle["tty"] else None
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    pid_file = os.path.join(directory, "oci.pid")
    arguments = ["create", "--bundle", directory, "--pid-file", pid_file]
    if console is not None:
        arguments += ["--console-socket", _CONSOLE]  # in the bundle, which it makes its working directory
    try:
        _run(directory, handler, [*arguments, bundle["id"]], streams, bundle)
        terminal = _receive(console) if console is not None else -1
        with open(pid_file, "rb") as file:
            pid = int(file.read())
        _run(directory, handler, ["start", bundle["id"]], [-1, -1, -1], None)
    except (OSError, OciFailure):
        delete(directory, bundle)
        raise
    finally:
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 0)
        if console is not None:
            console.close()
            os.unlink(os.path.join(directory, _CONSOLE))
    return pid, terminal


def code(text: str) -> int:
    """The exit code that an OCI runtime's words stand for, as in confine.CannotExec."""
    if text.startswith("exec") and ("not found" in text or "no such file" in text):
        return 127
    return 126 if text.startswith("exec") else 128


def is_apart(bundle: dict[str, Any]) -> bool:
    """Whether only the OCI runtime reaches the container's processes: see handlers.OciHandler."""
    return bool((bundle.get("oci") or {}).get("apart"))


def wait(directory: str, bundle: dict[str, Any]) -> tuple[int, int]:
    """(pid of a process that ends with the container, where it then tells the exit code). Raises OSError."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(directory, bundle["oci"], ["wait", bundle["id"]], [-1, write_end, -1])
    os.close(write_end)
    return pid, read_end


def result(waiter: tuple[int, int]) -> int:
    """The exit code as of waitstatus_to_exitcode; that of SIGKILL when nobody told it."""
    pid, read_end = waiter
    text = b""
    while piece := os.read(read_end, 4096):
        text += piece
    os.close(read_end)
    os.waitpid(pid, 0)
    try:
        code = int(json.loads(text)["exitStatus"])
    except (ValueError, KeyError, TypeError):
        return -9
    return 128 - code if 128 < code < 160 else code


def kill(directory: str, bundle: dict[str, Any], number: int) -> None:
    """A signal by the runtime; harmless when the container has ended."""
    try:
        _run(directory, bundle["oci"], ["kill", bundle["id"], str(number)], [-1, -1, -1], None)
    except (OSError, OciFailure):
        return


def execute(directory: str, bundle: dict[str, Any], argv: list[str]) -> NoReturn:
    """Become the runtime's exec of a program, as the container's own user. Raises OSError."""
    with open(os.path.join(directory, CONFIG), "rb") as file:
        process = json.loads(file.read())["process"]
    user = process["user"]
    words = ["exec", "--cwd", process["cwd"], "--user", f"{user['uid']}:{user['gid']}"]
    for pair in process["env"]:
        words += ["--env", pair]
    os.chdir(directory)
    _exec(directory, bundle["oci"], [*words, bundle["id"], *argv])


def delete(directory: str, bundle: dict[str, Any]) -> None:
    """Have the runtime forget the container; what it says about that is of no use to anybody."""
    try:
        _run(directory, bundle["oci"], ["delete", "--force", bundle["id"]], [-1, -1, -1], None)
    except (OSError, OciFailure):
        return


def bury(directory: str, bundle: dict[str, Any]) -> None:
    """The shim's own way to do that: meanwhile it reaps all its children, for whose end the runtime waits."""
    pid = os.fork()
    if pid == 0:
        _become(directory, bundle["oci"], ["delete", "--force", bundle["id"]], [-1, -1, -1])
    while os.waitpid(-1, 0)[0] != pid:
        continue


def _complete(directory: str, bundle: dict[str, Any]) -> None:
    """Fill in the user, as the container's own files name it."""
    path = os.path.join(directory, CONFIG)
    with open(path, "rb") as file:
        config: dict[str, Any] = json.loads(file.read())
    root = os.open(bundle["rootfs"], os.O_PATH | os.O_CLOEXEC)
    try:
        identity = users.lookup(bundle["user"], _inside(root, "/etc/passwd"), _inside(root, "/etc/group"))
    except ValueError as error:
        raise OciFailure(str(error)) from error
    finally:
        os.close(root)
    groups = [] if bundle.get("strict_groups") else identity.groups
    extra = sorted({*groups, *bundle["groups"]})
    config["process"]["user"] = {"uid": identity.uid, "gid": identity.gid, "additionalGids": extra}
    if not any(pair.startswith("HOME=") for pair in config["process"]["env"]):
        config["process"]["env"].append(f"HOME={identity.home}")
    with open(path, "wb") as file:
        file.write(json.dumps(config).encode())


def _inside(root: int, path: str) -> str:
    """A path that opens the file at `path` below `root`, wherever its symlinks lead; the descriptor stays open."""
    try:
        return f"/proc/self/fd/{syscalls.openat2(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)}"
    except OSError:
        return ""


def _run(
    directory: str, handler: dict[str, Any], arguments: list[str], streams: list[int], bundle: dict[str, Any] | None
) -> None:
    """The runtime's command to its end. `bundle` is given for the one whose child is the container."""
    pid = os.fork()
    if pid == 0:
        _become(directory, handler, arguments, streams, bundle)
    _, status = os.waitpid(pid, 0)
    if status:
        raise OciFailure(_last_error(os.path.join(directory, _LOG)) or f"{handler['path']} {arguments[0]} failed")


def _become(
    directory: str,
    handler: dict[str, Any],
    arguments: list[str],
    streams: list[int],
    bundle: dict[str, Any] | None = None,
) -> NoReturn:
    """In a child: become the runtime's command; what stands in the way is written where the runtime's own words go."""
    try:
        if bundle is not None:
            processes.set_oom_score("self", bundle["oom_score_adj"])
            _own(streams, bundle)
        _use(streams)
        os.chdir(directory)
        _exec(directory, handler, arguments)
    except OSError as error:
        with open(os.path.join(directory, _LOG), "a", encoding="utf-8") as file:
            file.write(json.dumps({"level": "error", "msg": processes.describe(error)}) + "\n")
    os._exit(127)


def _exec(directory: str, handler: dict[str, Any], arguments: list[str]) -> NoReturn:
    log = os.path.join(directory, _LOG)
    command = [handler["path"], *handler["options"], "--root", handler["root"], "--log", log, "--log-format", "json"]
    syscalls.close_range_on_exec(3)
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    os.execve(command[0], [*command, *arguments], {"PATH": path})  # noqa: S606 - that is its purpose


def _own(streams: list[int], bundle: dict[str, Any]) -> None:
    """Let the program open /dev/stdout again: its pipes belong to its user (the runtime does that for terminals)."""
    with open(os.path.join(os.path.dirname(bundle["rootfs"]), CONFIG), "rb") as file:
        uid = json.loads(file.read())["process"]["user"]["uid"]
    for stream in {*streams} - {-1}:
        os.fchown(stream, uid, -1)


def _use(streams: list[int]) -> None:
    nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for number, stream in enumerate(streams):
        os.dup2(nothing if stream < 0 else stream, number)


def _last_error(log: str) -> str:
    """What the runtime said last, without what our own message says already."""
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry.get("level") in ("error", "fatal"):
            return str(entry.get("msg", "")).rpartition(_CREATE_FAILURE)[2]
    return ""


def _listen(directory: str) -> socket.socket:
    """Where the runtime sends the terminal. By way of /proc: such paths may be 107 bytes long at most."""
    handle = os.open(directory, os.O_PATH | os.O_CLOEXEC)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        made.bind(f"/proc/self/fd/{handle}/{_CONSOLE}")
        made.listen(1)
    finally:
        os.close(handle)
    return made


def _receive(console: socket.socket) -> int:
    console.settimeout(10)
    try:
        connection, _ = console.accept()
    except TimeoutError as error:
        raise OciFailure("the runtime sent no terminal") from error
    with connection:
        _, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
    for _, _, data in ancillary:
        found = array.array("i", data)
        return int(found[0])
    raise OciFailure("the runtime sent no terminal")
