"""Seccomp filters, run by an interpreter of classic BPF."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiphys.runtime import bpf, capabilities, seccomp, seccomp_tables
from tiphys.runtime.bpf import Condition, Rule
from tiphys.runtime.types import InvalidSpec

X86_64, I386 = 0xC000003E, 0x40000003
ALLOW, EPERM, ENOSYS = bpf.ALLOW, bpf.ERRNO | 1, bpf.ERRNO | 38
NUMBERS = seccomp_tables.numbers(seccomp_tables.X86_64)
DEFAULT = capabilities.mask(capabilities.DEFAULT)


def decide(program: bytes, name: str | int, *arguments: int, audit: int = X86_64) -> int:
    """What the kernel would do."""
    number = NUMBERS[name] if isinstance(name, str) else name
    data = struct.pack("=IIQ6Q", number, audit, 0, *arguments, *[0] * (6 - len(arguments)))
    code = [struct.unpack_from("=HBBI", program, offset) for offset in range(0, len(program), 8)]
    position = value = 0
    while True:
        operation, yes, no, operand = code[position]
        position += 1
        if operation == 0x20:
            (value,) = struct.unpack_from("=I", data, operand)
        elif operation == 0x54:
            value &= operand
        elif operation == 0x05:
            position += operand
        elif operation == 0x06:
            return int(operand)
        else:
            holds = {0x15: value == operand, 0x25: value > operand, 0x35: value >= operand}[operation]
            position += yes if holds else no


@pytest.mark.parametrize(
    ("name", "arguments", "verdict"),
    [
        ("read", (), ALLOW), ("execve", (), ALLOW), ("ptrace", (), ALLOW), ("futex_waitv", (), ALLOW),
        ("keyctl", (), EPERM), ("mount", (), EPERM), ("unshare", (), EPERM), ("bpf", (), EPERM), ("setns", (), EPERM),
        ("io_uring_setup", (), EPERM), ("kexec_load", (), EPERM), ("open_by_handle_at", (), EPERM),
        ("chroot", (), ALLOW), ("reboot", (), EPERM), ("clone3", (), ENOSYS), (9999, (), ENOSYS),
        ("clone", (0x11,), ALLOW), ("clone", (0x10000011,), EPERM), ("clone", (0x3D0F00,), ALLOW),
        ("socket", (2,), ALLOW), ("socket", (16,), ALLOW), ("socket", (38,), EPERM), ("socket", (40,), EPERM),
        ("socket", (99,), EPERM), ("personality", (0,), ALLOW), ("personality", (0xFFFFFFFF,), ALLOW),
        ("personality", (0x40000,), EPERM), (0x40000000, (), ENOSYS),
    ],
)  # fmt: skip
def test_the_default_profile(name: str | int, arguments: tuple[int, ...], verdict: int) -> None:
    assert decide(seccomp.compile_default(DEFAULT, "x86_64"), name, *arguments) == verdict


@pytest.mark.parametrize(
    ("capability", "name"),
    [("SYS_ADMIN", "mount"), ("SYS_ADMIN", "clone3"), ("SYS_BOOT", "reboot"), ("BPF", "bpf"), ("SYSLOG", "syslog"),
     ("SYS_PTRACE", "kcmp"), ("SYS_TIME", "clock_settime"), ("DAC_READ_SEARCH", "open_by_handle_at")],
)  # fmt: skip
def test_a_capability_opens_its_calls(capability: str, name: str) -> None:
    assert decide(seccomp.compile_default(DEFAULT, "x86_64"), name) != ALLOW
    assert decide(seccomp.compile_default(DEFAULT | capabilities.mask([capability]), "x86_64"), name) == ALLOW


REFUSED_EVERYWHERE = (
    "add_key", "afs_syscall", "create_module", "io_uring_enter", "io_uring_register", "io_uring_setup",
    "kexec_file_load", "kexec_load", "keyctl", "migrate_pages", "move_pages", "nfsservctl", "pivot_root",
    "query_module", "request_key",
    "swapoff", "swapon", "_sysctl", "sysfs", "uselib", "userfaultfd", "ustat", "vserver",
)  # fmt: skip
OPENED_BY = {
    "DAC_READ_SEARCH": ("open_by_handle_at",),
    "SYS_ADMIN": (
        "bpf", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick", "lookup_dcookie", "mount",
        "mount_setattr", "move_mount", "open_tree", "perf_event_open", "quotactl", "quotactl_fd", "setdomainname",
        "sethostname", "setns", "syslog", "umount2", "unshare",
    ),
    "SYS_BOOT": ("reboot",),
    "SYS_MODULE": ("delete_module", "init_module", "finit_module"),
    "SYS_PACCT": ("acct",),
    "SYS_PTRACE": ("kcmp", "pidfd_getfd", "process_madvise"),
    "SYS_RAWIO": ("iopl", "ioperm"),
    "SYS_TIME": ("settimeofday", "clock_settime"),
    "SYS_TTY_CONFIG": ("vhangup",),
    "SYS_NICE": ("get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"),
    "SYSLOG": ("syslog",),
    "BPF": ("bpf",),
    "PERFMON": ("perf_event_open",),
}  # fmt: skip
ALLOWED_TO_ALL = (
    "adjtimex", "cachestat", "clock_adjtime", "close_range", "epoll_pwait2", "fchmodat2", "futex_requeue", "futex_wait",
    "futex_waitv", "futex_wake", "getxattrat", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self",
    "listmount", "listxattrat", "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr", "map_shadow_stack",
    "memfd_secret", "mknod", "modify_ldt", "mseal", "name_to_handle_at", "openat2", "pidfd_open", "pidfd_send_signal",
    "pkey_alloc", "process_mrelease", "process_vm_readv", "ptrace", "rseq", "seccomp", "setxattrat", "statmount",
    "statx", "uretprobe",
)  # fmt: skip
"""Facts about containerd 2's default profile."""


def test_the_default_profile_agrees_with_containerds() -> None:
    plain = seccomp.compile_default(DEFAULT, "x86_64")
    everything = (1 << len(capabilities.NAMES)) - 1
    able = seccomp.compile_default(everything, "x86_64")
    for name in REFUSED_EVERYWHERE:
        assert (decide(plain, name), decide(able, name)) == (EPERM, EPERM), name
    for name in ALLOWED_TO_ALL:
        assert decide(plain, name) == ALLOW, name
    for capability, names in OPENED_BY.items():
        granted = seccomp.compile_default(DEFAULT | capabilities.mask([capability]), "x86_64")
        without = seccomp.compile_default(DEFAULT, "x86_64")
        for name in names:
            assert decide(without, name) in (EPERM, ENOSYS), name
            assert decide(granted, name) == ALLOW, (capability, name)
        others = {name for other in OPENED_BY.values() for name in other} - set(names)
        for name in others:
            assert decide(granted, name) != ALLOW, (capability, name)


def test_32_bit_programs_are_confined_alike() -> None:
    program = seccomp.compile_default(DEFAULT, "x86_64")
    table = seccomp_tables.numbers(seccomp_tables.I386)
    refused = (
        *REFUSED_EVERYWHERE,
        *(name for names in OPENED_BY.values() for name in names),
        "umount",
        "stime",
        "vm86",
    )
    for name in refused:
        if name in table:
            assert decide(program, table[name], audit=I386) in (EPERM, ENOSYS), name


def test_other_architectures() -> None:
    program = seccomp.compile_default(DEFAULT, "x86_64")
    table = seccomp_tables.numbers(seccomp_tables.I386)
    assert decide(program, table["read"], audit=I386) == ALLOW
    assert decide(program, table["mount"], audit=I386) == EPERM
    assert decide(program, 0, audit=0x12345678) == bpf.KILL_PROCESS
    assert decide(seccomp.compile_default(DEFAULT, "aarch64"), 63, audit=0xC00000B7) == ALLOW
    with pytest.raises(InvalidSpec, match="sparc"):
        seccomp.compile_default(DEFAULT, "sparc")


def test_every_refused_name_is_a_system_call() -> None:
    known = set()
    for text in (seccomp_tables.X86_64, seccomp_tables.I386, seccomp_tables.AARCH64):
        known |= set(seccomp_tables.numbers(text))
    named = set(seccomp.REFUSED.split())
    for names in seccomp.WITH_CAPABILITY.values():
        named |= set(names.split())
    assert named <= known


@given(
    st.sampled_from(["EQ", "NE", "LT", "LE", "GT", "GE"]),
    st.integers(0, 2**64 - 1) | st.integers(0, 3) | st.sampled_from([2**32 - 1, 2**32, 2**32 + 1]),
    st.integers(0, 2**64 - 1) | st.integers(0, 3) | st.sampled_from([2**32 - 1, 2**32, 2**32 + 1]),
)
def test_comparisons_are_of_64_bits(op: str, value: int, argument: int) -> None:
    program = bpf.assemble([(X86_64, {5: [Rule(ALLOW, (Condition(2, op, value),))]}, EPERM, ENOSYS)])
    holds = {
        "EQ": argument == value, "NE": argument != value, "LT": argument < value, "LE": argument <= value,
        "GT": argument > value, "GE": argument >= value,
    }[op]  # fmt: skip
    assert decide(program, 5, 0, 0, argument) == (ALLOW if holds else EPERM)


@given(
    st.dictionaries(st.integers(0, 600), st.sampled_from([ALLOW, EPERM, bpf.LOG]), max_size=300), st.integers(0, 700)
)
def test_any_table_is_searched_right(actions: dict[int, int], number: int) -> None:
    program = bpf.assemble([(X86_64, {key: [Rule(action)] for key, action in actions.items()}, bpf.TRAP, ENOSYS)])
    expected = actions.get(number, bpf.TRAP if number <= max(actions, default=-1) else ENOSYS)
    assert decide(program, number) == expected


def test_a_profile_with_arguments_capabilities_and_errno() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "syscalls": [
            {"names": ["read", "unknown_call"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
            {"names": ["write"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13},
        ],
    }  # fmt: skip
    program = seccomp.compile_profile(profile, DEFAULT, "x86_64")
    assert decide(program, "read") == ALLOW
    assert decide(program, "clone", 0x11) == ALLOW
    assert decide(program, "clone", 0x20000011) == ENOSYS
    assert (decide(program, "mount"), decide(program, "ptrace")) == (ENOSYS, ENOSYS)
    assert decide(program, "write") == bpf.ERRNO | 13
    everything = (1 << len(capabilities.NAMES)) - 1
    assert decide(seccomp.compile_profile(profile, everything, "x86_64"), "mount") == ALLOW


def test_a_broken_profile_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match=r'cannot load seccomp profile ".*none.json": open .*: no such file or direc'):
        seccomp.compiled(str(tmp_path / "none.json"), DEFAULT, tmp_path)
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps({"defaultAction": "SCMP_ACT_NOTIFY"}))
    with pytest.raises(InvalidSpec, match="SCMP_ACT_NOTIFY"):
        seccomp.compiled(str(bad), DEFAULT, tmp_path)
