"""What this machine must have for clusters to run.

What can be tried is tried, in namespaces that end at once, so that nothing of the machine is changed."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tiphys.base.netlink import Netlink
from tiphys.cluster import features, firewall, paths, unprivileged
from tiphys.cluster.config import has_ipv6
from tiphys.cluster.findings import Finding
from tiphys.runtime import netns, nft, syscalls

ROOT = Path("/")
LEAST_FREE = 1 << 30
"""Bytes that the data directory's file system should have free."""
LEAST_KERNEL = (5, 12)


def examine() -> list[Finding]:
    """All findings, in the order in which they should be mended."""
    checks = {**CHECKS, **(unprivileged.CHECKS if os.geteuid() else {})}
    return [_look(name, check) for name, check in checks.items()]


def _look(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except (OSError, ValueError) as error:
        return Finding(name, False, f"cannot be told: {error}", "mount /proc and /sys, and run tiphys as root")


def _system() -> Finding:
    ok = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")
    return Finding(
        "system", ok, f"{sys.platform} on {platform.machine()}", "containers need Linux on x86_64 or aarch64"
    )


def _kernel() -> Finding:
    release = platform.release()
    numbers = tuple(int(part) for part in re.findall(r"\d+", release)[:2])
    return Finding("kernel", numbers >= LEAST_KERNEL, release, "Linux 5.12 or newer is needed")


def _root() -> Finding:
    return Finding("root", os.geteuid() == 0, f"uid {os.geteuid()}", "run tiphys as root (sudo)")


def _namespaces() -> Finding:
    wanted = ("mnt", "pid", "net", "ipc", "uts")
    lacking = [name for name in wanted if not (ROOT / "proc/self/ns" / name).exists()]
    return Finding(
        "namespaces",
        not lacking,
        f"lacks {', '.join(lacking)}" if lacking else ", ".join(wanted),
        "a kernel with CONFIG_NAMESPACES and its parts",
    )


def _overlay() -> Finding:
    known = "\toverlay\n" in (ROOT / "proc/filesystems").read_text()
    module = (ROOT / "lib/modules" / platform.release() / "kernel/fs/overlayfs").exists()
    detail = "overlay" if known else "a module, not loaded yet" if module else "unknown to the kernel"
    return Finding("overlayfs", known or module, detail, "modprobe overlay, or a kernel with CONFIG_OVERLAY_FS")


def _layers() -> Finding:
    """Overlayfs needs more of the file system below it than others give: attributes, and not to be overlayfs."""
    directory = _existing(paths.home())
    advice = "set TIPHYS_HOME to a directory on ext4, xfs, btrfs or tmpfs (a volume, inside of a container)"
    return _trial("image layers", lambda: _mount_overlay(directory), f"can be stacked in {directory}", advice)


def _mount_overlay(directory: Path) -> None:
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    with tempfile.TemporaryDirectory(dir=directory) as place:
        _stack(Path(place))


def _stack(place: Path) -> None:
    for name in ("lower", "upper", "work", "merged"):
        (place / name).mkdir()
    options = ",".join(f"{name}dir={place / name}" for name in ("lower", "upper", "work"))
    syscalls.mount("overlay", str(place / "merged"), "overlay", 0, options)
    (place / "merged" / "file").touch()
    syscalls.umount(str(place / "merged"))


def _cgroups() -> Finding:
    root = ROOT / "sys/fs/cgroup"
    unified = root / "cgroup.controllers"
    if unified.exists():
        have, kind = set(unified.read_text().split()), "v2"
    else:
        names = [entry.name for entry in root.iterdir()] if root.is_dir() else []
        have, kind = {part for name in names for part in name.split(",")}, "v1"
    lacking = [name for name in ("cpu", "memory", "pids") if name not in have]
    detail = f"{kind}, lacks {', '.join(lacking)}" if lacking else f"{kind} with cpu, memory, pids"
    return Finding("cgroups", not lacking, detail, "mount cgroups (systemd does) with cpu, memory and pids")


def _seccomp() -> Finding:
    ok = (ROOT / "proc/sys/kernel/seccomp/actions_avail").exists()
    return Finding("seccomp", ok, "filters" if ok else "no filters", "a kernel with CONFIG_SECCOMP_FILTER")


def _effective() -> int:
    """This process's effective capabilities, a bit each (capabilities(7))."""
    lines = (ROOT / "proc/self/status").read_text().splitlines()
    return next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff")), 0)


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
        "run outside a confined container, or give it CAP_SYS_RESOURCE",
        needed=False,
        effect="containers get no lower oom_score_adj and no higher rlimits than tiphys itself has",
    )


def _forwarding() -> Finding:
    path = ROOT / "proc/sys/net/ipv4/ip_forward"
    on = path.read_text().strip() == "1"
    may = os.access(path, os.W_OK)
    detail = "on" if on else "off, `up` switches it on" if may else "off, and not ours to switch on"
    return Finding("IPv4 forwarding", on or may, detail, "sysctl net.ipv4.ip_forward=1")


def _ipv6() -> Finding:
    ok = has_ipv6()
    return Finding(
        "IPv6",
        ok,
        "on" if ok else "switched off",
        "sysctl net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0, or no ipv6.disable=1 at boot",
        needed=False,
        effect="no clusters with --ip-family ipv6 or dual",
    )


def _bridges() -> Finding:
    def make() -> None:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        with Netlink() as link:
            link.add_bridge("tiphys")

    return _trial("bridges", make, "can be made", "modprobe bridge veth, or a kernel with CONFIG_BRIDGE, CONFIG_VETH")


def _nftables() -> Finding:
    def make() -> None:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        nft.masquerade("tiphys", ["192.0.2.0/24"])

    advice = "modprobe nft_masq nft_chain_nat: without them pods do not reach other machines"
    return _trial("nftables", make, "can masquerade", advice, needed=False)


def _trial(name: str, work: Callable[[], None], good: str, advice: str, needed: bool = True) -> Finding:
    """Whether `work` can be done, in a thread of its own that may leave its namespaces."""
    try:
        (unprivileged.apart if os.geteuid() else netns.apart)(work)
    except OSError as error:
        return Finding(name, False, str(error.strerror), advice, needed)
    return Finding(name, True, good, needed=needed)


def _existing(directory: Path) -> Path:
    """`directory`, or the nearest above it that is there."""
    return next(place for place in (directory, *directory.parents) if place.is_dir())


def _space() -> Finding:
    directory = _existing(paths.home())
    free = shutil.disk_usage(directory).free
    return Finding(
        "disk space", free >= LEAST_FREE, f"{free / 2**30:.1f} GiB free in {directory}", "free 1 GiB or more", False
    )


CHECKS: Mapping[str, Callable[[], Finding]] = {
    "system": _system,
    "kernel": _kernel,
    "root": _root,
    "capabilities": _capabilities,
    "namespaces": _namespaces,
    "overlayfs": _overlay,
    "image layers": _layers,
    "cgroups": _cgroups,
    "seccomp": _seccomp,
    "IPv4 forwarding": _forwarding,
    "IPv6": _ipv6,
    "bridges": _bridges,
    "nftables": _nftables,
    firewall.NAME: firewall.check,
    "resource limits": _priority,
    "disk space": _space,
    **features.CHECKS,
}
