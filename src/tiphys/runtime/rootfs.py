"""A container's file system: overlay of image layers, kernel file systems, volumes, devices, masks, pivot_root.

Runs in the container's first process, already inside its namespaces. Everything below the new root is reached by
openat2 with RESOLVE_IN_ROOT: whatever symlinks an image contains, nothing outside is touched.
"""

from __future__ import annotations

import errno
import os
import stat

from tiphys.runtime import syscalls, userns
from tiphys.runtime.syscalls import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_RDONLY,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

NODES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
PROC_FILES = frozenset(
    f"/proc/{name}"
    for name in (
        "cpuinfo", "diskstats", "loadavg", "meminfo", "slabinfo", "stat", "swaps", "uptime",
        "sys/crypto/fips_enabled", "sys/kernel/ns_last_pid",
    )
)  # fmt: skip
"""All below /proc that may be mounted over (as runc): nothing decides about confinement by them."""
LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}


def gather(bundle: dict[str, Any], users: int = -1) -> dict[str, Any]:
    """Take all that is the host's as detached mounts, in a mount namespace of one's own. `users`: the container's
    user namespace, if that is another. Raises OSError naming the step and the path."""
    # Copies are taken while shared mounts are still shared: that is what rshared needs.
    trees = {number: _volume(mount, users) for number, mount in enumerate(bundle["mounts"]) if not mount.get("layers")}
    syscalls.mount("", "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
    if users >= 0:
        userns.stage(bundle, users)
    for number, mount in enumerate(bundle["mounts"]):
        if mount.get("layers"):
            trees[number] = _image(mount, bundle["rootfs"])
    shm = syscalls.open_tree(bundle["shm"], recursive=False) if bundle["shm"] else -1
    devices = _device_trees(bundle) if users >= 0 or not userns.is_initial() else None
    return {"root": _overlay(bundle), "volumes": trees, "shm": shm, "devices": devices}


def build(bundle: dict[str, Any], trees: dict[str, Any]) -> None:
    """Mount what `gather` took and make it the root. Raises OSError naming the step and the path."""
    target = os.open("/", os.O_PATH | os.O_CLOEXEC)
    syscalls.move_mount(trees["root"], target)
    os.close(target)
    root = trees["root"]
    _kernel_filesystems(root, bundle, trees)
    for number, mount in enumerate(bundle["mounts"]):
        _attach(root, mount, trees["volumes"][number], anywhere=bundle["privileged"])
    if trees["devices"] is None:
        for device in bundle["devices"]:
            _device(root, device)
    os.close(_make_directory(root, bundle["cwd"]))
    os.fchdir(root)
    syscalls.pivot_root(".", ".")
    syscalls.umount(".")
    os.chdir("/")
    _protect(bundle)


def mount_at(bundle: dict[str, Any], target: str) -> None:
    """The container's root file system at a directory, for who builds the rest himself (see oci_shim)."""
    tree, place = _overlay(bundle), os.open(target, os.O_PATH | os.O_CLOEXEC)
    try:
        syscalls.move_mount(tree, place)
    finally:
        os.close(place)
        os.close(tree)


def _overlay(bundle: dict[str, Any]) -> int:
    """A detached overlay mount over the image's layers, topmost first."""
    written = [("upperdir", bundle["upper"]), ("workdir", bundle["work"])]
    options = [("source", "overlay"), *(("lowerdir+", path) for path in bundle["layers"]), *written]
    if not userns.is_initial():
        options.append(("userxattr", None))
    try:
        return syscalls.new_filesystem("overlay", options)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    # Before Linux 6.5 all layers are one option of at most a page: name them relative to what they share.
    common = os.path.commonpath(bundle["layers"])
    os.chdir(common)
    lower = ":".join(os.path.relpath(path, common).replace(":", "\\:") for path in bundle["layers"])
    data = f"lowerdir={lower},upperdir={bundle['upper']},workdir={bundle['work']}"
    syscalls.mount("overlay", bundle["rootfs"], "overlay", 0, data)
    return syscalls.open_tree(bundle["rootfs"], recursive=False)


def _kernel_filesystems(root: int, bundle: dict[str, Any], trees: dict[str, Any]) -> None:
    plain = MS_NOSUID | MS_NODEV | MS_NOEXEC
    _mount(root, "/proc", "proc", plain)
    _mount(root, "/sys", "sysfs", plain | (0 if bundle["privileged"] else MS_RDONLY))
    _control_groups(root, bundle)
    _mount(root, "/dev", "tmpfs", MS_NOSUID | syscalls.MS_STRICTATIME, "mode=755,size=65536k")
    _terminals(root)
    _mount(root, "/dev/mqueue", "mqueue", plain)
    if trees["shm"] >= 0:
        _attach(root, {"target": "/dev/shm"}, trees["shm"])  # noqa: S108 - a mount point
    else:
        _mount(root, "/dev/shm", "tmpfs", plain, "mode=1777,size=65536k")  # noqa: S108 - a mount point
    _links(root)
    if trees["devices"] is None:
        _nodes(root, bundle)
    else:
        for path, tree in trees["devices"]:
            _attach(root, {"target": path}, tree)


def _control_groups(root: int, bundle: dict[str, Any]) -> None:
    """Only the hierarchies that the container's own cgroup is in: its cgroup namespace hides the rest of those."""
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | (0 if bundle["privileged"] else MS_RDONLY)
    controllers: list[str] | None = bundle["cgroup_controllers"]
    if controllers is None:  # the host has none for us
        return
    if not controllers:
        _mount(root, "/sys/fs/cgroup", "cgroup2", flags)
        return
    _mount(root, "/sys/fs/cgroup", "tmpfs", flags & ~MS_RDONLY, "mode=755")
    for name in controllers:
        _mount(root, f"/sys/fs/cgroup/{name}", "cgroup", flags, name)
    if flags & MS_RDONLY:
        handle = syscalls.openat2(root, "/sys/fs/cgroup", os.O_PATH)
        syscalls.mount_setattr(handle, recursive=False, attributes=syscalls.MOUNT_ATTR_RDONLY)
        os.close(handle)


def _terminals(root: int) -> None:
    options = "newinstance,ptmxmode=0666,mode=0620"
    try:
        _mount(root, "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, f"{options},gid=5")
    except OSError as error:
        if error.errno != errno.EINVAL:  # no such group in a namespace of one user's IDs
            raise
        _mount(root, "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, options)


def _links(root: int) -> None:
    directory = syscalls.openat2(root, "/dev", os.O_RDONLY | os.O_DIRECTORY)
    for name, goal in LINKS.items():
        os.symlink(goal, name, dir_fd=directory)
    os.close(directory)


def _nodes(root: int, bundle: dict[str, Any]) -> None:
    directory = syscalls.openat2(root, "/dev", os.O_RDONLY | os.O_DIRECTORY)
    mask = os.umask(0)
    for name, (major, minor) in NODES.items():
        os.mknod(name, 0o666 | stat.S_IFCHR, os.makedev(major, minor), dir_fd=directory)
    os.umask(mask)
    os.close(directory)
    for path in host_devices() if bundle["privileged"] else ():
        _device(root, {"source": path, "target": path})


def _device_trees(bundle: dict[str, Any]) -> list[tuple[str, int]]:
    """The nodes as mounts of the host's own: in a user namespace nobody can make any (mknod(2))."""
    wanted = {f"/dev/{name}": f"/dev/{name}" for name in NODES}
    wanted |= {path: path for path in (host_devices() if bundle["privileged"] else ())}
    wanted |= {device["target"]: device["source"] for device in bundle["devices"]}
    return [(target, syscalls.open_tree(source, recursive=False)) for target, source in wanted.items()]


def host_devices() -> Iterator[str]:
    """All device nodes of the host, as a privileged container has them."""
    for base, directories, names in os.walk("/dev"):
        directories[:] = [name for name in directories if name not in ("pts", "shm", "mqueue", "fd")]
        for name in names:
            path = os.path.join(base, name)
            if name not in ("console", "tty", "ptmx") and stat.S_IFMT(os.lstat(path).st_mode) in (
                stat.S_IFBLK,
                stat.S_IFCHR,
            ):
                yield path


def _mount(root: int, path: str, kind: str, flags: int, data: str | None = None) -> None:
    handle = _make_directory(root, path)
    try:
        if _place(root, handle) != path:
            # Elsewhere the container could replace it, and be believed at the next exec (CVE-2023-27561).
            raise OSError(errno.ELOOP, f"{kind} must be mounted on an ordinary directory", path)
        syscalls.mount(kind, f"/proc/self/fd/{handle}", kind, flags, data)
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(handle)


def _place(root: int, handle: int) -> str:
    """Where an open file is, seen from the root that is being built."""
    base = os.readlink(f"/proc/self/fd/{root}").rstrip("/")
    return os.readlink(f"/proc/self/fd/{handle}").removeprefix(base) or "/"


def _volume(mount: dict[str, Any], users: int) -> int:
    """A detached mount for a volume: a copy of the source's mounts, or a tmpfs."""
    if not mount["source"]:
        size: list[tuple[str, str | None]] = [("size", str(mount["size"]))] if mount["size"] else []
        tree = syscalls.new_filesystem("tmpfs", [*size, ("mode", "1777")])
    else:
        open_tree = syscalls.open_resolved_tree if mount.get("source_resolved") else syscalls.open_tree
        tree = open_tree(mount["source"], recursive=True)
    if users >= 0:
        userns.translate(tree, users, mount["source"])
    kinds = {"rslave": syscalls.MS_SLAVE, "rshared": syscalls.MS_SHARED}
    syscalls.mount_setattr(tree, recursive=True, propagation=kinds.get(mount["propagation"], syscalls.MS_PRIVATE))
    attributes = _attributes(mount["options"])
    if attributes:
        syscalls.mount_setattr(tree, recursive=True, attributes=attributes)
    if mount["readonly"]:
        recursive = bool(mount["recursive_readonly"])
        syscalls.mount_setattr(tree, recursive=recursive, attributes=syscalls.MOUNT_ATTR_RDONLY)
    return tree


def _image(mount: dict[str, Any], empty: str) -> int:
    """A detached read-only mount of what `source` names in an image. `empty` is an empty directory: an overlay without
    an upper one needs two layers, and until Linux 6.15 only a mount that is attached somewhere can be copied."""
    place = os.open(empty, os.O_PATH | os.O_CLOEXEC)
    syscalls.move_mount(_overlay_of([*mount["layers"], empty]), place)
    os.close(place)
    inside = os.open(empty, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        part = syscalls.openat2(inside, mount["source"] or ".", os.O_PATH)
        tree = syscalls.open_tree_at(part)
        os.close(part)
    finally:
        os.close(inside)
        syscalls.umount(empty)
    wanted = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | _attributes(mount["options"])
    syscalls.mount_setattr(tree, recursive=True, attributes=wanted, propagation=syscalls.MS_PRIVATE)
    return tree


def _overlay_of(layers: list[str]) -> int:
    """A detached overlay mount of layers, topmost first, that cannot be written."""
    try:
        return syscalls.new_filesystem("overlay", [("lowerdir+", path) for path in layers])
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    common = os.path.commonpath(layers)
    os.chdir(common)
    lower = ":".join(os.path.relpath(path, common).replace(":", "\\:") for path in layers)
    return syscalls.new_filesystem("overlay", [("lowerdir", lower)])


def _attributes(options: list[str]) -> int:
    known = {
        "noexec": syscalls.MOUNT_ATTR_NOEXEC,
        "nosuid": syscalls.MOUNT_ATTR_NOSUID,
        "nodev": syscalls.MOUNT_ATTR_NODEV,
    }
    return sum(known.get(option, 0) for option in set(options))


def _attach(root: int, mount: dict[str, Any], tree: int, *, anywhere: bool = True) -> None:
    """Attach a detached mount at its target, which is created if need be: a directory or an empty file. `anywhere`:
    also inside /proc, which an unprivileged container must not be able to forge (CVE-2019-16884)."""
    if stat.S_ISDIR(os.fstat(tree).st_mode):
        target = _make_directory(root, mount["target"])
    else:
        target = _make_file(root, mount["target"])
    place = _place(root, target)
    if not anywhere and f"{place}/".startswith("/proc/") and place not in PROC_FILES:
        raise OSError(errno.EPERM, f'"{mount["target"]}" cannot be mounted because it is inside /proc')
    syscalls.move_mount(tree, target)
    os.close(target)
    os.close(tree)


def _make_directory(root: int, path: str, mode: int = 0o755) -> int:
    """Open the directory `path` below `root`, making what is missing."""
    try:
        return syscalls.openat2(root, path, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
    parent_path, name = os.path.split(path.rstrip("/"))
    parent = _make_directory(root, parent_path or "/")
    try:
        os.mkdir(name, mode, dir_fd=parent)
    except FileExistsError:
        # A symlink to what is not there: make that, within the root.
        goal = os.readlink(name, dir_fd=parent)
        os.close(_make_directory(root, os.path.join(parent_path, goal), mode))
    finally:
        os.close(parent)
    return syscalls.openat2(root, path, os.O_PATH | os.O_DIRECTORY)


def _make_file(root: int, path: str) -> int:
    """Open the file `path` below `root`, making an empty one if it is missing."""
    try:
        return syscalls.openat2(root, path, os.O_PATH)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
    os.close(_make_directory(root, os.path.dirname(path)))
    # O_CREAT follows a dangling symlink within the root only.
    os.close(syscalls.openat2(root, path, os.O_CREAT | os.O_WRONLY, mode=0o644))
    return syscalls.openat2(root, path, os.O_PATH)


def _device(root: int, device: dict[str, Any]) -> None:
    facts = os.stat(device["source"])
    if stat.S_IFMT(facts.st_mode) not in (stat.S_IFBLK, stat.S_IFCHR):
        raise OSError(errno.ENODEV, "not a device node", device["source"])
    parent_path, name = os.path.split(device["target"])
    parent = _make_directory(root, parent_path)
    mask = os.umask(0)
    try:
        os.mknod(name, facts.st_mode, facts.st_rdev, dir_fd=parent)
        os.chown(name, facts.st_uid, facts.st_gid, dir_fd=parent, follow_symlinks=False)
    except FileExistsError:
        pass
    finally:
        os.umask(mask)
        os.close(parent)


def _protect(bundle: dict[str, Any]) -> None:
    """Read-only and masked paths, then the root itself: nothing may be mounted after that."""
    for path in bundle["readonly_paths"]:
        try:
            tree = syscalls.open_tree(path, recursive=True)
        except OSError as error:
            if error.errno == errno.ENOENT:
                continue
            raise
        syscalls.mount_setattr(tree, recursive=True, attributes=syscalls.MOUNT_ATTR_RDONLY)
        _cover(tree, path)
    for path in bundle["masked_paths"]:
        _mask(path)
    if bundle["readonly_rootfs"]:
        handle = os.open("/", os.O_PATH | os.O_CLOEXEC)
        syscalls.mount_setattr(handle, recursive=False, attributes=syscalls.MOUNT_ATTR_RDONLY)
        os.close(handle)


def _mask(path: str) -> None:
    try:
        directory = stat.S_ISDIR(os.stat(path).st_mode)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return
        raise
    if directory:
        syscalls.mount("tmpfs", path, "tmpfs", MS_RDONLY, "size=0k")
        return
    null = syscalls.open_tree("/dev/null", recursive=False)
    if not is_null(null):  # a volume at /dev may have anything there (CVE-2025-31133)
        raise OSError(errno.ENODEV, "not the null device", "/dev/null")
    _cover(null, path)


def is_null(handle: int) -> bool:
    """Whether an open file is the null device, whatever its name."""
    facts = os.fstat(handle)
    return stat.S_ISCHR(facts.st_mode) and facts.st_rdev == os.makedev(*NODES["null"])


def _cover(tree: int, path: str) -> None:
    target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    syscalls.move_mount(tree, target)
    os.close(target)
    os.close(tree)
