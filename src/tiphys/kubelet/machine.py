"""What this machine is and has: for the node's capacity and nodeInfo."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tiphys.kubelet import userns
from tiphys.runtime import apparmor

HUGEPAGES = Path("/sys/kernel/mm/hugepages")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


@dataclass(frozen=True, slots=True)
class Machine:
    """Sizes in bytes."""

    cpus: int
    memory: int
    disk: int
    swap: int = 0
    hugepages: tuple[tuple[int, int], ...] = ()
    """(page size, all of its pages together), smallest first."""
    architecture: str = "amd64"
    kernel: str = ""
    os_image: str = ""
    machine_id: str = ""
    system_uuid: str = ""
    boot_id: str = ""
    apparmor: bool = False
    selinux: bool = False
    """Whether the running kernel enforces them."""
    user_namespaces: bool = False
    """Whether pods can have their own."""


def read_machine(root: Path) -> Machine:
    """Of the running system; `root` is a directory on the file system that pods write to."""
    return Machine(
        cpus=len(os.sched_getaffinity(0)),
        memory=meminfo("MemTotal"),
        disk=shutil.disk_usage(existing(root)).total,
        swap=meminfo("SwapTotal"),
        hugepages=tuple(_hugepages(HUGEPAGES)),
        architecture=_ARCHITECTURES.get(platform.machine(), platform.machine()),
        kernel=platform.release(),
        os_image=_os_image(),
        machine_id=_first_line("/etc/machine-id"),
        system_uuid=_first_line("/sys/class/dmi/id/product_uuid") or _first_line("/etc/machine-id"),
        boot_id=_first_line("/proc/sys/kernel/random/boot_id"),
        apparmor=apparmor.enabled(),
        selinux=Path("/sys/fs/selinux/enforce").exists(),
        user_namespaces=userns.supported(),
    )


def _hugepages(directory: Path) -> Iterator[tuple[int, int]]:
    """Of each size that the kernel knows, also where no page is set aside."""
    for entry in sorted(directory.glob("hugepages-*kB"), key=_page_size):
        pages = _first_line(str(entry / "nr_hugepages"))
        yield _page_size(entry), _page_size(entry) * int(pages or 0)


def _page_size(entry: Path) -> int:
    return int(entry.name.removeprefix("hugepages-").removesuffix("kB")) * 1024


def available_memory() -> int:
    """Bytes that could be used without swapping."""
    return meminfo("MemAvailable")


def disk_room(root: Path) -> tuple[int, int]:
    """(total, free) bytes of the file system that pods write to."""
    usage = shutil.disk_usage(existing(root))
    return usage.total, usage.free


def existing(path: Path) -> Path:
    """The path, or the nearest directory above it that is there."""
    return next(candidate for candidate in (path, *path.parents) if candidate.exists())


def meminfo(field: str) -> int:
    """Bytes, of a field of /proc/meminfo; 0 when there is none."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == field:
            return int(rest.split()[0]) * 1024
    return 0


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _os_image() -> str:
    for line in _first_line("/etc/os-release").splitlines():
        name, _, value = line.partition("=")
        if name == "PRETTY_NAME":
            return value.strip('"')
    return "Linux"
