"""What this machine may have besides what clusters need: each with what follows where it is missing."""

from __future__ import annotations

import os
import platform
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tiphys.base.errors import TiphysError
from tiphys.cluster import paths
from tiphys.cluster.findings import Finding
from tiphys.kubelet import userns as pod_ids
from tiphys.kubelet.config import KubeletConfig
from tiphys.runtime import apparmor, netns, syscalls, userns

ROOT = Path("/")
LEAST_FILES, LEAST_WATCHES, LEAST_INSTANCES = 4096, 8192, 128
_HOLDER = (
    "import ctypes, sys; sys.exit(1) if ctypes.CDLL(None).unshare(0x10000000) else None; "
    "print(1, flush=True); sys.stdin.read()"
)


def _read(path: str) -> str:
    """The text of a file; "" where it is missing."""
    try:
        return (ROOT / path).read_text().strip()
    except OSError:
        return ""


def _system_calls() -> Finding:
    """pidfds, openat2, mount_setattr: what containers are made with."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2])
    lacking = [name for name, since in (("openat2", (5, 6)), ("mount_setattr", (5, 12))) if numbers < since]
    return Finding(
        "system calls",
        not lacking,
        f"lacks {', '.join(lacking)}" if lacking else "pidfd, openat2, mount_setattr",
        "Linux 5.12 or newer",
    )


@contextmanager
def _user_namespace() -> Iterator[int]:
    """A user namespace with one range of IDs, open. Raises OSError."""
    command = [sys.executable, "-I", "-S", "-c", _HOLDER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        try:
            if not holder.stdout.readline():
                raise OSError(0, "user namespaces cannot be made")
            for name in ("uid_map", "gid_map"):
                Path("/proc", str(holder.pid), name).write_text("0 65536 65536\n")
            handle = os.open(f"/proc/{holder.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            try:
                yield handle
            finally:
                os.close(handle)
        finally:
            holder.stdin.close()


def _user_namespaces() -> Finding:
    """Whether pods with hostUsers: false can run on the file system that holds them."""
    effect = "pods with hostUsers: false are refused"
    advice = "Linux 6.3 or newer, user.max_user_namespaces above 0, and a file system with ID-mapped mounts (ext4, xfs)"
    directory = next(place for place in (paths.home(), *paths.home().parents) if place.is_dir())
    if os.geteuid():
        return Finding(
            "user namespaces", False, "none for pods without root", "run tiphys as root (sudo)", False, effect
        )

    def translate() -> None:
        with _user_namespace() as users:
            tree = syscalls.open_tree(str(directory), recursive=False)
            try:
                userns.translate(tree, users, str(directory))
            finally:
                os.close(tree)

    try:
        netns.inside("/proc/self/ns/net", translate)
    except OSError as error:
        return Finding("user namespaces", False, str(error.strerror), advice, False, effect)
    if not pod_ids.supported():
        return Finding("user namespaces", False, f"too old a kernel: {platform.release()}", advice, False, effect)
    return Finding("user namespaces", True, f"with ID-mapped mounts in {directory}", needed=False)


def _subordinate_ids() -> Finding:
    try:
        first, length = pod_ids.node_range(KubeletConfig("doctor", Path("/nonexistent")))
    except TiphysError as error:
        advice = "give the user kubelet one range in /etc/subuid, the same in /etc/subgid: kubelet:65536:7208960"
        return Finding("pods' IDs", False, str(error), advice, False, "pods with hostUsers: false are refused")
    return Finding("pods' IDs", True, f"{first} to {first + length - 1}, 65536 for each pod", needed=False)


def _apparmor() -> Finding:
    ok = apparmor.supported()
    enabled = apparmor.enabled()
    detail = "profiles can be loaded" if ok else "no apparmor_parser" if enabled else "not enabled in the kernel"
    advice = "apt-get install apparmor" if enabled else "a kernel with CONFIG_SECURITY_APPARMOR, booted with apparmor=1"
    return Finding("AppArmor", ok, detail, advice, False, "pods that ask for a profile are refused")


def _selinux() -> Finding:
    enforcing = (ROOT / "sys/fs/selinux/enforce").exists()
    detail = "on: containers get no labels" if enforcing else "not enabled: seLinuxOptions mean nothing"
    advice = "boot with selinux=0, or run containers with another runtime"
    return Finding("SELinux", not enforcing, detail, advice, False, "containers with seLinuxOptions are refused")


def _swap() -> Finding:
    v1, v2 = ROOT / "sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", ROOT / "sys/fs/cgroup"
    unified = [place for place in (v2, *v2.glob("*")) if (place / "memory.swap.max").exists()]
    ok = v1.exists() or bool(unified)
    detail = "can be limited" if ok else "cannot be limited"
    return Finding("swap", ok, detail, "boot with swapaccount=1", False, "memorySwap LimitedSwap has no effect")


def _controllers() -> Finding:
    root = ROOT / "sys/fs/cgroup"
    unified = _read("sys/fs/cgroup/cgroup.controllers").split()
    names = unified or [entry.name for entry in root.iterdir()] if root.is_dir() else []
    effects = {"cpuset": "pods cannot have CPUs of their own", "hugetlb": "huge pages are not limited"}
    lacking = [name for name in effects if not any(name in item.split(",") for item in names)]
    return Finding(
        "more cgroup controllers",
        not lacking,
        f"lacks {', '.join(lacking)}" if lacking else ", ".join(effects),
        "a kernel with CONFIG_CPUSETS and CONFIG_CGROUP_HUGETLB, and their hierarchies mounted",
        False,
        ", ".join(effects[name] for name in lacking),
    )


def _kernel_log() -> Finding:
    ok = os.access(ROOT / "dev/kmsg", os.R_OK)
    effect = "out-of-memory kills outside of containers are not told as events of the node"
    return Finding("kernel log", ok, "readable" if ok else "not readable", "make /dev/kmsg readable", False, effect)


def _watches() -> Finding:
    places = {"max_user_watches": LEAST_WATCHES, "max_user_instances": LEAST_INSTANCES}
    found = {name: int(_read(f"proc/sys/fs/inotify/{name}") or 0) for name in places}
    low = [name for name, least in places.items() if found[name] < least]
    return Finding(
        "inotify",
        not low,
        ", ".join(f"{name} {value}" for name, value in found.items()),
        " ".join(f"sysctl fs.inotify.{name}={places[name]}" for name in low),
        False,
        "containers that watch many files fail with ENOSPC or EMFILE",
    )


def _files() -> Finding:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    ok = hard in (resource.RLIM_INFINITY,) or hard >= LEAST_FILES
    detail = "any number" if hard == resource.RLIM_INFINITY else f"at most {hard} a process"
    return Finding("open files", ok, detail, f"ulimit -Hn {LEAST_FILES}", False, "busy servers run out of descriptors")


CHECKS: Mapping[str, Callable[[], Finding]] = {
    "system calls": _system_calls,
    "user namespaces": _user_namespaces,
    "pods' IDs": _subordinate_ids,
    "AppArmor": _apparmor,
    "SELinux": _selinux,
    "more cgroup controllers": _controllers,
    "swap": _swap,
    "kernel log": _kernel_log,
    "inotify": _watches,
    "open files": _files,
}
