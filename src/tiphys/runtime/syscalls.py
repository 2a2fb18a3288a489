"""The system calls that Python lacks, by ctypes.

The helper and everything it forks import this module, so it pulls in nothing but ctypes and os. Every function
raises OSError whose text begins with the step's name, so that an error tells which of the many steps failed.
Sources: mount(2), open_tree(2), mount_setattr(2), fsopen(2), setns(2), prctl(2), capset(2), seccomp(2), openat2(2).
"""

from __future__ import annotations

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
_long = libc.syscall
_long.restype = ctypes.c_long

ARM = os.uname().machine == "aarch64"
_CAPGET, _CAPSET = (90, 91) if ARM else (125, 126)
_KEYCTL = 219 if ARM else 250
_SECCOMP = 277 if ARM else 317
# From 424 on a number means the same call on every architecture.
_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 428, 429, 430, 431, 432
_CLOSE_RANGE, _OPENAT2, _MOUNT_SETATTR = 436, 437, 442

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_MOVE, MS_REC = 32, 4096, 8192, 16384
MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_RELATIME, MS_STRICTATIME = 1 << 18, 1 << 19, 1 << 20, 1 << 21, 1 << 24
MNT_DETACH = 2

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 1, 2, 4, 8
MOUNT_ATTR_IDMAP = 0x100000
RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH, RESOLVE_IN_ROOT = 2, 4, 8, 16

PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NAME = 4, 8, 15
PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER = 23, 24, 36
PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4


def _check(result: int, step: str, path: str | bytes | None = None) -> int:
    if result >= 0:
        return result
    code = ctypes.get_errno()
    text = f"{step}: {os.strerror(code)}"
    raise OSError(code, text) if path is None else OSError(code, text, os.fsdecode(path))


def _text(value: str | None) -> bytes | None:
    return None if value is None else os.fsencode(value)


def mount(source: str, target: str, kind: str | None, flags: int = 0, data: str | None = None) -> None:
    """mount(2). A failure names `target`."""
    result = libc.mount(_text(source), _text(target), _text(kind), ctypes.c_ulong(flags), _text(data))
    _check(result, f"mount {kind or source}", target)


def umount(target: str, flags: int = MNT_DETACH) -> None:
    """umount2(2), lazily unless told otherwise."""
    _check(libc.umount2(_text(target), flags), "umount", target)


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2)."""
    _check(libc.pivot_root(_text(new), _text(old)), "pivot_root", new)


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(libc.unshare(flags), f"unshare {flags:#x}")


def setns(fd: int, flags: int) -> None:
    """setns(2); `fd` is a namespace or, with several flags, a pidfd. os.setns exists only from Python 3.12 on."""
    _check(libc.setns(fd, flags), f"setns {flags:#x}")


def prctl(option: int, second: int = 0, third: int = 0) -> int:
    """prctl(2) with the unused arguments zero."""
    arguments = [ctypes.c_ulong(value) for value in (second, third, 0, 0)]
    return _check(libc.prctl(option, *arguments), f"prctl {option}")


def set_name(name: str) -> None:
    """The process's name as ps and top show it, 15 bytes."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    libc.prctl(PR_SET_NAME, buffer, 0, 0, 0)


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2), version 3; each argument is a bit mask."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    low = [mask & 0xFFFFFFFF for mask in (effective, permitted, inheritable)]
    high = [mask >> 32 for mask in (effective, permitted, inheritable)]
    _check(_long(_CAPSET, header, (ctypes.c_uint32 * 6)(*low, *high)), "capset")


def permitted() -> int:
    """The permitted capabilities of the calling process, as a bit mask (capget(2))."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    _check(_long(_CAPGET, header, sets), "capget")
    return sets[1] | sets[4] << 32


def new_session_keyring() -> None:
    """Leave the parent's session keyring. Harmless where the kernel has no keyrings."""
    _long(_KEYCTL, 1, None)


def load_seccomp(program: bytes) -> None:
    """Install a filter: an array of struct sock_filter. Needs no_new_privs or CAP_SYS_ADMIN."""
    code = ctypes.create_string_buffer(program, len(program))

    class SockFprog(ctypes.Structure):
        _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    argument = SockFprog(len(program) // 8, ctypes.addressof(code))
    _check(_long(_SECCOMP, 1, 0, ctypes.byref(argument)), "seccomp")


def close_range_on_exec(first: int) -> None:
    """Mark every descriptor from `first` on close-on-exec."""
    if _long(_CLOSE_RANGE, first, ctypes.c_uint(0xFFFFFFFF), 4) < 0:
        for name in os.listdir("/proc/self/fd"):
            if int(name) >= first:
                try:
                    os.set_inheritable(int(name), False)
                except OSError:  # the listing's own descriptor
                    continue


def openat2(directory: int, path: str, flags: int, resolve: int = RESOLVE_IN_ROOT, mode: int = 0) -> int:
    """openat2(2). The default confines `path`, its symlinks included, to `directory` as if it were the root."""
    how = (ctypes.c_uint64 * 3)(flags | os.O_CLOEXEC, mode, resolve)
    return _check(_long(_OPENAT2, directory, _text(path), how, ctypes.c_size_t(24)), "openat2", path)


def open_tree(path: str, recursive: bool) -> int:
    """A detached copy of the mounts at `path`: it stays a peer of shared mounts until attached elsewhere."""
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (AT_RECURSIVE if recursive else 0)
    return _check(_long(_OPEN_TREE, AT_FDCWD, _text(path), flags), "bind", path)


def open_resolved_tree(path: str, recursive: bool) -> int:
    """`open_tree` of an absolute path without symlinks. One that has got a symlink since is refused (ELOOP)."""
    handle = openat2(AT_FDCWD, path, os.O_PATH, RESOLVE_NO_SYMLINKS)
    try:
        flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
        return _check(_long(_OPEN_TREE, handle, b"", flags), "bind", path)
    finally:
        os.close(handle)


def open_tree_at(handle: int) -> int:
    """`open_tree` of an open file or directory, without the mounts below it."""
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH
    return _check(_long(_OPEN_TREE, handle, b"", flags), "bind", os.readlink(f"/proc/self/fd/{handle}"))


def move_mount(tree: int, target: int) -> None:
    """Attach the detached mount `tree` over the open directory or file `target`."""
    _check(
        _long(_MOVE_MOUNT, tree, b"", target, b"", 0x04 | 0x40), "move_mount", os.readlink(f"/proc/self/fd/{target}")
    )


def mount_setattr(mount_fd: int, recursive: bool, *, attributes: int = 0, propagation: int = 0, users: int = 0) -> None:
    """Set `attributes` (MOUNT_ATTR_*) and the propagation type (MS_*) of a mount, or of the whole tree. `users`: an
    open user namespace, for MOUNT_ATTR_IDMAP."""
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    argument = (ctypes.c_uint64 * 4)(attributes, 0, propagation, users)
    _check(_long(_MOUNT_SETATTR, mount_fd, b"", flags, argument, ctypes.c_size_t(32)), "mount_setattr")


def new_filesystem(kind: str, options: list[tuple[str, str | None]]) -> int:
    """A detached mount of a new file system (fsopen, fsconfig, fsmount); None as value sets a flag."""
    context = _check(_long(_FSOPEN, _text(kind), 1), "fsopen", kind)
    try:
        for name, value in options:
            command = 0 if value is None else 1
            _check(_long(_FSCONFIG, context, command, _text(name), _text(value), 0), f"{kind} {name}={value}")
        _check(_long(_FSCONFIG, context, 6, None, None, 0), f"create {kind}")
        return _check(_long(_FSMOUNT, context, 1, 0), f"fsmount {kind}")
    finally:
        os.close(context)
