"""The last steps before a container's program runs, the same for its first process and for every exec.

Order matters: the bounding set before the user changes, seccomp before capabilities go unless no_new_privs lets it
be loaded last, the working directory as the user, signals and descriptors right before execve.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat

from tiphys.runtime import capabilities, syscalls, userns, users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class CannotExec(Exception):
    """The program cannot be run; `code` is the exit code that shells and Docker use for it (126, 127, 128)."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


def execute(bundle: dict[str, Any], argv: list[str], environment: dict[str, str], filter_program: bytes) -> NoReturn:
    """Become the container's program. Raises CannotExec or OSError when that is impossible."""
    try:
        identity = users.lookup(bundle["user"])
    except ValueError as error:
        raise CannotExec(str(error), 128) from error
    environment.setdefault("PATH", DEFAULT_PATH)
    environment.setdefault("HOME", identity.home)
    _own_streams(identity.uid)
    _set_limits(bundle["rlimits"])
    syscalls.new_session_keyring()
    if bundle["apparmor"]:
        _set_apparmor(bundle["apparmor"])
    allowed = bundle["capabilities"] & capabilities.available()
    capabilities.limit_bounding(allowed)
    if filter_program and not bundle["no_new_privileges"]:
        # Without no_new_privs loading a filter needs CAP_SYS_ADMIN, which is about to go.
        syscalls.load_seccomp(filter_program)
    own_groups = [] if bundle.get("strict_groups") else identity.groups
    # The primary group as well: a file that it may not read cannot be reached by giving it up (CVE-2022-36109).
    _become(identity, [identity.gid, *own_groups, *bundle["groups"]], allowed)
    _enter_directory(bundle["cwd"])
    program = find_program(argv[0], environment["PATH"])
    if bundle["no_new_privileges"]:
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        if filter_program:
            syscalls.load_seccomp(filter_program)
    _reset_signals()
    syscalls.close_range_on_exec(3)
    try:
        os.execve(program, argv, environment)  # noqa: S606 - a container runtime does just that
    except OSError as error:
        raise _refused(program, error) from error


def _own_streams(uid: int) -> None:
    """Let the program open /dev/stdout again: its pipes belong to its user. Devices may be the host's own."""
    for descriptor in (0, 1, 2):
        if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
            continue
        try:
            os.fchown(descriptor, uid, -1)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EPERM, errno.EROFS):
                raise


def _set_limits(limits: list[list[Any]]) -> None:
    for name, soft, hard in limits:
        try:
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (soft, hard))
        except ValueError as error:
            raise CannotExec(f"rlimit {name} {soft}:{hard}: {error}", 128) from error


def _set_apparmor(profile: str) -> None:
    # By a mount of our own: at the time of an exec the container's /proc may be its own invention (CVE-2019-16884).
    tree = syscalls.new_filesystem("proc", [])
    handle = syscalls.openat2(tree, "self/attr/apparmor/exec", os.O_WRONLY)
    try:
        os.write(handle, f"exec {profile}".encode())
    finally:
        os.close(handle)
        os.close(tree)


def _become(identity: users.Identity, groups: list[int], allowed: int) -> None:
    syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
    try:
        userns.set_groups(sorted(set(groups)))
        os.setresgid(identity.gid, identity.gid, identity.gid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EPERM):
            raise
        wanted = f"{identity.uid}:{identity.gid} with groups {sorted(set(groups))}"
        raise CannotExec(f"user {wanted} is none of the IDs that this user namespace has", 128) from error
    syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 0)
    capabilities.apply(allowed, identity.uid)


def _enter_directory(path: str) -> None:
    try:
        os.chdir(path or "/")
    except OSError as error:
        raise CannotExec(f'chdir to cwd ("{path}") set in config.json failed: {_lower(error)}', 128) from error
    try:
        inside = os.getcwd().startswith("/")
    except OSError:
        inside = False
    if not inside:  # by a descriptor of ours, say /proc/self/fd/7 (CVE-2024-21626)
        raise CannotExec("current working directory is outside of container mount namespace root", 128)


def find_program(name: str, path: str) -> str:
    """What execvp would run. Raises CannotExec in the words that Docker and containerd show."""
    if "/" in name:
        error = _executable(name)
        if error:
            raise CannotExec(f'exec: "{name}": {error}', 127 if error.startswith("stat ") else 126)
        return name
    for directory in path.split(":"):
        candidate = os.path.join(directory or ".", name)
        if not _executable(candidate):
            return candidate
    raise CannotExec(f'exec: "{name}": executable file not found in $PATH', 127)


def _executable(path: str) -> str:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return f"stat {path}: {_lower(error)}" if error.errno in (errno.ENOENT, errno.ENOTDIR) else _lower(error)
    if mode & 0o170000 == 0o040000:
        return "is a directory"
    if mode & 0o111 == 0 or not os.access(path, os.X_OK):
        return "permission denied"
    return ""


def _refused(program: str, error: OSError) -> CannotExec:
    code = 127 if error.errno == errno.ENOENT else 126
    return CannotExec(f"exec {program}: {_lower(error)}", code)


def _lower(error: OSError) -> str:
    text = os.strerror(error.errno or 0)
    return text[:1].lower() + text[1:]


def _reset_signals() -> None:
    for number in range(1, signal.NSIG):
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):  # SIGKILL, SIGSTOP and those that libc keeps for itself
            continue
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
