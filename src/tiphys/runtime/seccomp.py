"""Seccomp filters of containers: the default profile, and OCI or Docker profiles from a JSON file.

The default has the effect of Docker's: what could reach the host's kernel beyond a container's needs fails with
EPERM, unless a capability that the container has makes it legitimate; what is newer than this table fails with
ENOSYS, so that programs fall back. It is written as what is refused, which is by far the shorter list.
Filters are compiled once for each set of capabilities and kept as files, which the shims load.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from tiphys.runtime import bpf, capabilities, seccomp_tables
from tiphys.runtime.bpf import Condition, Rule
from tiphys.runtime.types import InvalidSpec

REFUSED = (
    "_sysctl add_key afs_syscall bdflush break create_module file_getattr file_setattr ftime get_kernel_syms getpmsg "
    "gtty idle io_uring_enter io_uring_register io_uring_setup kexec_file_load kexec_load keyctl lock migrate_pages "
    "move_pages mpx nfsservctl nice oldfstat oldlstat oldolduname oldstat olduname open_tree_attr pivot_root prof "
    "profil putpmsg query_module readdir request_key security sgetmask sigaction signal sigpending sigsuspend ssetmask "
    "stty swapoff swapon sysfs tuxcall ulimit uprobe uselib userfaultfd ustat vm86 vm86old vserver"
)
WITH_CAPABILITY = {
    "DAC_READ_SEARCH": "open_by_handle_at",
    "SYS_ADMIN": "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr "
    "move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 "
    "unshare",
    "SYS_BOOT": "reboot",
    "SYS_CHROOT": "chroot",
    "SYS_MODULE": "delete_module init_module finit_module",
    "SYS_PACCT": "acct",
    "SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "SYS_RAWIO": "iopl ioperm",
    "SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "SYS_TTY_CONFIG": "vhangup",
    "SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "SYSLOG": "syslog",
    "BPF": "bpf",
    "PERFMON": "perf_event_open",
}
REFUSED_FAMILIES = (12, 19, 20, 23, 25, 34, 37, 38, 40)
"""Address families refused to socket(2): AF_ALG and AF_VSOCK reach beyond the network namespace, the rest is dead."""
LAST_FAMILY = 45
NAMESPACE_FLAGS = 0x7E020000
PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)

EPERM, ENOSYS = bpf.ERRNO | errno.EPERM, bpf.ERRNO | errno.ENOSYS
ACTIONS = {
    "ALLOW": bpf.ALLOW,
    "LOG": bpf.LOG,
    "KILL": bpf.KILL_THREAD,
    "KILL_THREAD": bpf.KILL_THREAD,
    "KILL_PROCESS": bpf.KILL_PROCESS,
    "TRAP": bpf.TRAP,
    "ERRNO": bpf.ERRNO,
    "TRACE": bpf.TRACE,
}

Rules = dict[str, list[Rule]]
Architecture = tuple[int, str]

MACHINES: dict[str, list[Architecture]] = {
    "x86_64": [(0xC000003E, seccomp_tables.X86_64), (0x40000003, seccomp_tables.I386)],
    "aarch64": [(0xC00000B7, seccomp_tables.AARCH64)],
}
"""AUDIT_ARCH value and table of each architecture that a machine's kernel runs."""
OCI_ARCHITECTURES = {"x86_64": ("amd64", "x86", "x32"), "aarch64": ("arm64", "arm")}


def default_rules(allowed: int, table: dict[str, int]) -> Rules:
    """The default profile for a container with the capabilities `allowed`."""
    granted = set(capabilities.names(allowed))
    refused = set(REFUSED.split())
    for names in WITH_CAPABILITY.values():
        refused.update(names.split())
    for capability, names in WITH_CAPABILITY.items():
        if capability in granted:
            refused.difference_update(names.split())
    allow = Rule(bpf.ALLOW)
    rules: Rules = {name: [allow] for name in table if name not in refused}
    if "SYS_ADMIN" not in granted:
        rules["clone"] = [Rule(bpf.ALLOW, (Condition(0, "MASKED", 0, NAMESPACE_FLAGS),))]
        rules["clone3"] = [Rule(ENOSYS)]  # its flags are in memory, where no filter can look: libc falls back to clone
    rules["socket"] = [Rule(EPERM, (Condition(0, "GT", LAST_FAMILY),))]
    rules["socket"] += [Rule(EPERM, (Condition(0, "EQ", family),)) for family in REFUSED_FAMILIES]
    rules["socket"].append(allow)
    rules["personality"] = [Rule(bpf.ALLOW, (Condition(0, "EQ", value),)) for value in PERSONALITIES]
    return rules


def compile_default(allowed: int, machine: str) -> bytes:
    """The default profile as a filter. Raises InvalidSpec on a machine without a table."""
    parts = []
    for audit, text in architectures(machine):
        table = seccomp_tables.numbers(text)
        rules = default_rules(allowed, table)
        by_number = {table[name]: rules.get(name, [Rule(EPERM)]) for name in table}
        parts.append((audit, by_number, EPERM, ENOSYS))
    return bpf.assemble(parts)


def compile_profile(profile: dict[str, Any], allowed: int, machine: str) -> bytes:
    """An OCI or Docker profile as a filter. Raises InvalidSpec naming what is wrong in it."""
    default = _action(profile.get("defaultAction", "SCMP_ACT_ERRNO"), profile.get("defaultErrnoRet"))
    parts = []
    for audit, text in architectures(machine):
        table = seccomp_tables.numbers(text)
        by_number: dict[int, list[Rule]] = {number: [] for number in table.values()}
        for entry in profile.get("syscalls") or []:
            if not applies(entry, allowed, machine):
                continue
            rule = _rule(entry)
            for name in entry.get("names") or [entry["name"]]:
                if name in table:
                    by_number[table[name]].append(rule)
        for rules in by_number.values():
            rules.sort(key=lambda rule: not rule.conditions)
        unknown = ENOSYS if default & 0xFFFF0000 == bpf.ERRNO else default
        parts.append((audit, by_number, default, unknown))
    return bpf.assemble(parts)


def architectures(machine: str) -> list[Architecture]:
    """Those that run on `machine`. Raises InvalidSpec."""
    try:
        return MACHINES[machine]
    except KeyError as error:
        raise InvalidSpec(f"no seccomp profile for {machine}: use seccomp=unconfined") from error


def _action(name: str, number: int | None) -> int:
    try:
        action = ACTIONS[name.removeprefix("SCMP_ACT_")]
    except KeyError as error:
        raise InvalidSpec(f"seccomp action {name!r} is not supported") from error
    if action in (bpf.ERRNO, bpf.TRACE):
        action |= (errno.EPERM if number is None else number) & 0xFFFF
    return action


def _rule(entry: dict[str, Any]) -> Rule:
    conditions = []
    for argument in entry.get("args") or []:
        op = str(argument["op"]).removeprefix("SCMP_CMP_")
        value, mask = int(argument["value"]), 0
        if op == "MASKED_EQ":
            op, mask, value = "MASKED", value, int(argument.get("valueTwo") or 0)
        elif op not in ("EQ", "NE", "LT", "LE", "GT", "GE"):
            raise InvalidSpec(f"seccomp operator {argument['op']!r} is not known")
        conditions.append(Condition(int(argument["index"]), op, value, mask))
    return Rule(_action(entry["action"], entry.get("errnoRet")), tuple(conditions))


def applies(entry: dict[str, Any], allowed: int, machine: str) -> bool:
    """Docker's includes and excludes: by capability, architecture and kernel version."""
    include, exclude = entry.get("includes") or {}, entry.get("excludes") or {}
    granted = {f"CAP_{name}" for name in capabilities.names(allowed)}
    here = set(OCI_ARCHITECTURES[machine])
    if not granted.issuperset(include.get("caps") or []) or granted.intersection(exclude.get("caps") or []):
        return False
    if include.get("arches") and not here.intersection(include["arches"]):
        return False
    return not here.intersection(exclude.get("arches") or []) and _kernel() >= _version(include.get("minKernel", "0"))


def _kernel() -> tuple[int, ...]:
    return _version(os.uname().release.split("-")[0])


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


_cache: dict[tuple[str, int, str], bytes] = {}


def compiled(profile: str, allowed: int, root: Path) -> str:
    """The path of the filter for `profile` ("default" or a JSON file) and the capabilities, below `root`."""
    machine = os.uname().machine
    if profile == "default":
        key = (profile, allowed, machine)
        program = _cache.get(key) or _cache.setdefault(key, compile_default(allowed, machine))
    else:
        program = compile_profile(read(profile), allowed, machine)
    path = root / "seccomp" / f"{hashlib.sha256(program).hexdigest()[:32]}.bpf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(program)
        os.replace(temporary, path)
    return str(path)


def read(path: str) -> dict[str, Any]:
    """A profile. Raises InvalidSpec."""
    try:
        profile = json.loads(Path(path).read_bytes())
    except OSError as error:
        why = f"open {path}: {os.strerror(error.errno or 0).lower()}"
        raise InvalidSpec(f'cannot load seccomp profile "{path}": {why}') from error
    except ValueError as error:
        raise InvalidSpec(f'decoding seccomp profile failed "{path}": {error}') from error
    if not isinstance(profile, dict):
        raise InvalidSpec(f'decoding seccomp profile failed "{path}": not a JSON object')
    return profile
