"""Capability names, the default set of a container, and putting a set into force (capabilities(7)).

Nothing is read from /proc here: at the time of an exec it may be the container's own invention.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

from tiphys.runtime import syscalls


def _words(text: str) -> list[str]:
    return text.split()


NAMES = _words(
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT "
    "SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP "
    "MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)
NUMBERS = {name: number for number, name in enumerate(NAMES)}
DEFAULT = _words(
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL "
    "AUDIT_WRITE"
)


def mask(names: tuple[str, ...] | list[str]) -> int:
    """The bit mask of `names` (with or without CAP_). Raises KeyError naming an unknown one."""
    bits = 0
    for name in names:
        bits |= 1 << NUMBERS[name.upper().removeprefix("CAP_")]
    return bits


def names(bits: int) -> list[str]:
    """The names in a bit mask."""
    return [name for number, name in enumerate(NAMES) if bits >> number & 1]


def select(add: tuple[str, ...], drop: tuple[str, ...], privileged: bool) -> int:
    """The set of a container: the defaults less `drop` plus `add`; ALL stands for every one."""
    if privileged:
        return (1 << len(NAMES)) - 1
    everything = (1 << len(NAMES)) - 1
    base = mask(DEFAULT)
    if "ALL" in (name.upper() for name in add):
        base = everything
    if "ALL" in (name.upper() for name in drop):
        base = 0
    base &= ~mask([name for name in drop if name.upper() != "ALL"])
    return base | mask([name for name in add if name.upper() != "ALL"])


def available() -> int:
    """The permitted set of this process: nobody can give more than they have."""
    return syscalls.permitted()


def limit_bounding(allowed: int) -> None:
    """Drop everything but `allowed` from the bounding set. Needs CAP_SETPCAP: before the user changes."""
    for number in _bounding():
        if not allowed >> number & 1:
            syscalls.prctl(syscalls.PR_CAPBSET_DROP, number)


def _bounding() -> Iterator[int]:
    """The numbers that the kernel knows and that are still in the bounding set."""
    for number in range(64):
        try:
            held = syscalls.prctl(syscalls.PR_CAPBSET_READ, number)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return
            raise
        if held:
            yield number


def apply(allowed: int, uid: int) -> None:
    """Permitted and effective for root; a user keeps none, and may gain what files grant within the bounding set."""
    syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)
    effective = allowed if uid == 0 else 0
    syscalls.capset(effective, effective, 0)
