"""User namespaces: a sandbox's own, and how a container's first process and its file trees come into it.

A sandbox with one owns its net, ipc, uts and pid namespaces by it (user_namespaces(7)); its containers' mount and
cgroup namespaces are made inside. What only the host's root can do is done before entering, by a process between the
shim and the container's first one: taking volumes, devices and image layers as mounts that translate IDs
(mount_setattr(2), MOUNT_ATTR_IDMAP), so that no file changes its owner.
"""

from __future__ import annotations

import errno
import fcntl
import os

from tiphys.runtime import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NS_GET_USERNS = 0xB701


def is_initial() -> bool:
    """Whether this process is in the machine's first user namespace: root of it is root of the machine."""
    with open("/proc/self/uid_map", encoding="utf-8") as file:
        return file.read().split() == ["0", "0", "4294967295"]


def last_group() -> int:
    """The highest group ID that this namespace has without a gap from 0 on, 2**31 - 1 at most."""
    with open("/proc/self/gid_map", encoding="utf-8") as file:
        ranges = sorted((int(inside), int(length)) for inside, _, length in map(str.split, file))
    end = 0
    for inside, length in ranges:
        if inside == end:
            end += length
    return min(end, 2**31) - 1


def set_groups(groups: list[int]) -> None:
    """setgroups(2), where it is allowed: a namespace of one user's IDs alone has no groups to give or to take."""
    try:
        os.setgroups(groups)
    except PermissionError:
        if is_initial() or set(groups) - {0}:
            raise


def enter_new(first: int, length: int) -> None:
    """Become root of a new user namespace, whose IDs from 0 on are the host's from `first` on."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write_end)
        os._exit(_map(os.getppid(), first, length) if os.read(read_end, 1) else 0)
    os.close(read_end)
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    os.write(write_end, b"1")
    os.close(write_end)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(code, f"map user namespace {first}:{length}: {os.strerror(code)}")
    become_root()


def _map(pid: int, first: int, length: int) -> int:
    """Write the namespace's maps from outside, where the host's IDs can be given; 0 or an errno."""
    try:
        for name in ("uid_map", "gid_map"):
            handle = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
            os.write(handle, f"0 {first} {length}\n".encode())
            os.close(handle)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def become_root() -> None:
    """Root of the user namespace that the process is in, and nothing of what it was outside."""
    set_groups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)


def owner(namespace: str) -> int:
    """The user namespace that owns the namespace at a path, open (ioctl_ns(2))."""
    handle = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return fcntl.ioctl(handle, _NS_GET_USERNS)
    finally:
        os.close(handle)


def translate(tree: int, users: int, source: str) -> None:
    """Let a detached mount show its owners as the user namespace `users` numbers them. Raises OSError, in runc's
    words, where its file system cannot."""
    try:
        syscalls.mount_setattr(tree, recursive=False, attributes=syscalls.MOUNT_ATTR_IDMAP, users=users)
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        if error.errno == errno.EINVAL:
            why += " (maybe the filesystem used doesn't support idmap mounts on this kernel?)"
        raise OSError(error.errno, f"failed to set MOUNT_ATTR_IDMAP on {source}: {why}") from error


def stage(bundle: dict[str, Any], users: int) -> None:
    """Put translated mounts of all image layers in place of the layers, on a tmpfs over the root's mount point: of
    detached ones overlayfs can be made only since Linux 6.15. What is written is the container's root's."""
    place: str = bundle["rootfs"]
    made: dict[str, str] = {}
    syscalls.mount("layers", place, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755")

    def moved(layer: str) -> str:
        if layer not in made:
            path = made[layer] = os.path.join(place, str(len(made)))
            os.mkdir(path)
            tree = syscalls.open_tree(layer, recursive=False)
            translate(tree, users, layer)
            target = os.open(path, os.O_PATH | os.O_CLOEXEC)
            syscalls.move_mount(tree, target)
            os.close(target)
            os.close(tree)
        return made[layer]

    for holder in (bundle, *bundle["mounts"]):
        if holder.get("layers"):
            holder["layers"] = [moved(layer) for layer in holder["layers"]]
    bundle["rootfs"] = os.path.join(place, "empty")
    os.mkdir(bundle["rootfs"])
    first = bundle["user_namespace"][0]
    os.chown(bundle["upper"], first, first)


def identity(who: list[Any] | None, first: int) -> list[Any] | None:
    """[uid, gid, [group ...]] of a process, as its user namespace numbers them."""
    if who is None:
        return None
    uid, gid, groups = who
    return [uid - first, gid - first, [group - first for group in groups if group >= first]]
