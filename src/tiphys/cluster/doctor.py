"""What this machine must have for clusters to run, looked at without changing anything."""

from __future__ import annotations

import ctypes.util
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tiphys.cluster import paths

LEAST_FREE = 1 << 30
"""Bytes that the data directory's file system should have free."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `needed` is False for what Tiphys can do without; `advice` says how to get it."""

    name: str
    ok: bool
    detail: str
    advice: str = ""
    needed: bool = True

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def examine() -> list[Finding]:
    """All findings, in the order in which they should be mended."""
    return [check() for check in CHECKS]


def _system() -> Finding:
    ok = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")
    return Finding(
        "system", ok, f"{sys.platform} on {platform.machine()}", "containers need Linux on x86_64 or aarch64"
    )


def _kernel() -> Finding:
    release = platform.release()
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    return Finding("kernel", numbers >= (5, 10), release, "Linux 5.10 or newer is needed")


def _root() -> Finding:
    return Finding("root", os.geteuid() == 0, f"uid {os.geteuid()}", "run tiphys as root (sudo)")


def _namespaces() -> Finding:
    wanted = ("mnt", "pid", "net", "ipc", "uts")
    lacking = [name for name in wanted if not Path(f"/proc/self/ns/{name}").exists()]
    return Finding(
        "namespaces",
        not lacking,
        f"lacks {', '.join(lacking)}" if lacking else ", ".join(wanted),
        "a kernel with CONFIG_NAMESPACES and its parts",
    )


def _overlay() -> Finding:
    known = "\toverlay\n" in Path("/proc/filesystems").read_text()
    module = Path(f"/lib/modules/{platform.release()}/kernel/fs/overlayfs").exists()
    detail = "overlay" if known else "a module, not loaded yet" if module else "unknown to the kernel"
    return Finding("overlayfs", known or module, detail, "modprobe overlay, or a kernel with CONFIG_OVERLAY_FS")


def _cgroups() -> Finding:
    root = Path("/sys/fs/cgroup")
    unified = root / "cgroup.controllers"
    if unified.exists():
        have, kind = set(unified.read_text().split()), "v2"
    else:
        have, kind = {entry.name for entry in root.iterdir()} if root.is_dir() else set(), "v1"
    lacking = [name for name in ("cpu", "memory", "pids") if name not in have]
    detail = f"{kind}, lacks {', '.join(lacking)}" if lacking else f"{kind} with cpu, memory, pids"
    return Finding("cgroups", not lacking, detail, "mount cgroups (systemd does) with cpu, memory and pids")


def _seccomp() -> Finding:
    ok = Path("/proc/sys/kernel/seccomp/actions_avail").exists()
    return Finding("seccomp", ok, "filters" if ok else "no filters", "a kernel with CONFIG_SECCOMP_FILTER")


def _effective() -> int:
    """This process's effective capabilities, a bit each (capabilities(7))."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff"))


def _capabilities() -> Finding:
    effective = _effective()
    needed = {"NET_ADMIN": 12, "SYS_CHROOT": 18, "SYS_ADMIN": 21, "MKNOD": 27}
    lacking = [name for name, bit in needed.items() if not effective >> bit & 1]
    return Finding(
        "capabilities",
        not lacking,
        f"lacks {', '.join(lacking)}" if lacking else ", ".join(needed),
        "run outside a confined container, or give it --privileged",
    )


def _priority() -> Finding:
    ok = bool(_effective() >> 24 & 1)
    return Finding(
        "resource limits",
        ok,
        "may be raised" if ok else "cannot be raised (no CAP_SYS_RESOURCE)",
        "containers get no lower oom_score_adj and no higher rlimits than tiphys itself has",
        needed=False,
    )


def _forwarding() -> Finding:
    path = Path("/proc/sys/net/ipv4/ip_forward")
    ok = os.access(path, os.W_OK) or path.read_text().strip() == "1"
    return Finding("IPv4 forwarding", ok, path.read_text().strip(), "sysctl net.ipv4.ip_forward=1")


def _nftables() -> Finding:
    found = ctypes.util.find_library("nftables")
    return Finding(
        "libnftables",
        found is not None,
        found or "not found",
        "apt-get install libnftables1: pods reach other machines through it",
        needed=False,
    )


def _space() -> Finding:
    directory = paths.home()
    while not directory.exists():
        directory = directory.parent
    free = shutil.disk_usage(directory).free
    return Finding(
        "disk space", free >= LEAST_FREE, f"{free / 2**30:.1f} GiB free in {directory}", "free 1 GiB or more", False
    )


CHECKS: tuple[Callable[[], Finding], ...] = (
    _system,
    _kernel,
    _root,
    _capabilities,
    _namespaces,
    _overlay,
    _cgroups,
    _seccomp,
    _forwarding,
    _nftables,
    _priority,
    _space,
)
