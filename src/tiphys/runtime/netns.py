"""Network namespaces: making ones that stay, and opening sockets inside them from this process.

A socket belongs for ever to the namespace in which it was made, so a thread that enters the namespace, makes the
socket and ends is all it takes; the calling thread never moves.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tiphys.base.netlink import Netlink
from tiphys.runtime import processes, syscalls

T = TypeVar("T")


def inside(namespace: str, work: Callable[[], T]) -> T:
    """`work()` in a thread of its own inside the namespace at the path; its error is raised here."""

    def enter() -> T:
        processes.join_namespace(namespace, syscalls.CLONE_NEWNET)
        return work()

    return apart(enter)


def apart(work: Callable[[], T]) -> T:
    """`work()` in a thread of its own, which may change its namespaces; its error is raised here."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - carried over to the calling thread
            errors.append(error)

    thread = threading.Thread(target=run, name="netns")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def socket_in(namespace: str, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A new socket inside the namespace; bind, listen or connect it from anywhere. Raises OSError."""
    return inside(namespace, lambda: socket.socket(family, kind))


def netlink_in(namespace: str) -> Netlink:
    """A route socket inside the namespace."""
    return inside(namespace, Netlink)


def trust_neighbours(device: str) -> None:
    """IPv6 of this thread's namespace on a device, or on all to come ("default"), as on links whose ends are all ours.

    No router advertisements: whoever may send raw packets could become the router (CVE-2020-10749). No search for
    duplicate addresses: the link-local one is needed for asking who has an address, and would be late by seconds.
    """
    with contextlib.suppress(FileNotFoundError):  # no IPv6
        for name in ("accept_ra", "accept_dad"):
            processes.write(f"/proc/sys/net/ipv6/conf/{device}/{name}", "0")


def loopback_up(namespace: str) -> None:
    """Switch on lo in the namespace."""
    with netlink_in(namespace) as link:
        link.set_up(1)


def write_sysctl(namespace: str, name: str, value: str) -> None:
    """Set a net.* sysctl, e.g. net.ipv4.ip_forward, of the namespace."""
    path = os.path.join("/proc/sys", *name.split("."))
    inside(namespace, lambda: processes.write(path, value))


def persist(path: Path) -> None:
    """Make a network namespace that lives at `path` until `drop`. Harmless if it is there."""
    if is_namespace(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)

    def make() -> None:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        syscalls.mount("/proc/thread-self/ns/net", str(path), None, syscalls.MS_BIND)

    apart(make)


def drop(path: Path) -> None:
    """Let go of a namespace made by `persist`; it ends with its last process. Harmless if it is gone."""
    while is_namespace(path):
        syscalls.umount(str(path))
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def is_namespace(path: Path) -> bool:
    """Whether a namespace is mounted at `path`."""
    try:
        # A file below /proc/PID/ns lives on nsfs, whose device has no number of a disk.
        return os.stat(path).st_dev == os.stat("/proc/self/ns/net").st_dev
    except FileNotFoundError:
        return False
