"""LinuxRuntime: a table of ways out of a container, all tried by one Python program inside (attempts.py).

The interpreter is the host's, mounted read-only, so that any system call can be made without a compiler.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from tiphys.runtime import seccomp_tables
from tiphys.runtime.linux import LinuxRuntime
from tiphys.runtime.types import Mount, RuntimeFailure, Security

pytestmark = pytest.mark.e2e
TABLE = seccomp_tables.AARCH64 if platform.machine() == "aarch64" else seccomp_tables.X86_64
SCRIPT = Path(__file__).with_name("attempts.py")
INTERPRETER = os.path.realpath(sys.executable)


def interpreter_mounts() -> tuple[Mount, ...]:
    places = {os.path.realpath(sys.base_prefix), "/usr", "/lib", "/lib64"}
    mounts = [Mount(place, os.path.realpath(place), readonly=True) for place in sorted(places) if os.path.isdir(place)]
    return (*mounts, Mount("/attempts.py", str(SCRIPT), readonly=True))


HARMLESS = {
    "chroot walk": "ok inside",
    "read /proc/keys": "ok 0 bytes",
    "read /proc/timer_list": "ok 0 bytes",
    "read /proc/interrupts": "ok 0 bytes",
    "read /proc/kcore": "ok 0 bytes",
    "read /proc/sched_debug": "ok 0 bytes",
    "list /sys/firmware": "ok 0 entries",
    "list /proc/acpi": "ok 0 entries",
    "list /proc/scsi": "ok 0 entries",
    "list /sys/kernel/debug": "ok 0 entries",
    "list /sys/devices/virtual/powercap": "ok 0 entries",
    "socket 16": "ok",
}
"""What may succeed in every container, and how."""
WITH_NET_RAW = {"socket 17": "ok"}
BY_SECCOMP = (
    "mount", "umount2", "pivot_root", "open_tree", "fsopen", "fspick", "move_mount", "mount_setattr", "bpf",
    "perf_event_open", "userfaultfd", "io_uring_setup", "kexec_load", "kexec_file_load", "init_module", "finit_module",
    "delete_module", "swapon", "swapoff", "acct", "quotactl", "iopl", "ioperm", "keyctl", "add_key", "request_key",
    "open_by_handle_at", "syslog", "sethostname", "setdomainname", "settimeofday", "clock_settime", "vhangup",
    "lookup_dcookie", "personality", "nfsservctl", "move_pages", "fanotify_init", "kcmp", "get_mempolicy",
    "pidfd_getfd", "process_madvise", "socket 38", "socket 40", "unshare user", "clone user", "unshare ns", "clone ns",
    "setns net",
)  # fmt: skip
UNCONFINED = dict.fromkeys(
    (
        "userfaultfd", "keyctl", "add_key", "request_key", "personality", "move_pages", "kcmp", "get_mempolicy",
        "io_uring_setup", "perf_event_open", "open_by_handle_at", "unshare user", "clone user", "socket 38",
        "socket 40",
    ),
    "ok",
)  # fmt: skip
"""What only the profile refuses."""
MAPPED_PRIVILEGED = dict.fromkeys(
    (
        "mount", "fsopen", "fspick", "open_tree", "move_mount", "sethostname", "setdomainname", "capset",
        "fanotify_init", "bpf", "umount2", "mount proc", "mount cgroup", "mount binfmt_misc", "remount /",
        "setns mnt", "setns net",
        "setns pid", "setns cgroup",
        *(f"{call} {kind}" for call in ("unshare", "clone") for kind in ("ns", "cgroup", "uts", "ipc", "pid", "user")),
    ),
    "ok",
)  # fmt: skip
"""What the root of a user namespace may do to what is its own."""
MAPPED = (1 << 20, 65536)


def run_twice(machine: Any, users: tuple[int, int] | None) -> dict[str, Any]:
    """What the program found as the first process, which must be what it finds by an exec."""
    found: list[dict[str, Any]] = []
    limits = (("NOFILE", 512, 512), ("CORE", 0, 0))

    async def scenario(runtime: LinuxRuntime) -> None:
        await runtime.create_sandbox(machine.sandbox("tried", user_namespace=users))
        argv = (INTERPRETER, "-I", "-S", "/attempts.py", json.dumps(seccomp_tables.numbers(TABLE)))
        fields = {"sandbox": "tried", "mounts": interpreter_mounts(), "rlimits": limits, "supplemental_groups": (7, 8)}
        found.append(json.loads(await machine.output(runtime, *argv, **fields)))
        await machine.start(runtime, "sleep", "1000", **fields)
        result = await runtime.exec_sync("main", argv, 60)
        assert result.stderr == b""
        found.append(json.loads(result.stdout))

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0tiphys-attempts")
        listener.listen()
        machine.run(scenario)
    first, second = found
    assert first == second | {name: first[name] for name in ("namespaces", "pids")}
    assert (first["limits"], first["groups"]) == ([[512, 512], [0, 0]], [0, 7, 8])
    return first


def run(machine: Any, sandbox: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """What the program found."""
    text: list[str] = []

    async def scenario(runtime: LinuxRuntime) -> None:
        await runtime.create_sandbox(machine.sandbox("tried", **sandbox or {}))
        numbers = json.dumps(seccomp_tables.numbers(TABLE))
        argv = (INTERPRETER, "-I", "-S", "/attempts.py", numbers)
        text.append(await machine.output(runtime, *argv, sandbox="tried", mounts=interpreter_mounts(), **fields))

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0tiphys-attempts")
        listener.listen()
        machine.run(scenario)
    found: dict[str, Any] = json.loads(text[0])
    return found


def successes(found: dict[str, Any], allowed: dict[str, str]) -> dict[str, str]:
    """What succeeded and should not have, or not like this."""
    results: dict[str, str] = found["results"]
    assert len(results) > 100
    assert not [name for name, result in results.items() if result.startswith("ended")]
    return {
        name: result
        for name, result in results.items()
        if result.startswith("ok") and not (result == allowed.get(name) or allowed.get(name) == "ok")
    }


def test_root_cannot_get_out(machine: Any) -> None:
    found = run_twice(machine, None)
    assert successes(found, HARMLESS | WITH_NET_RAW) == {}
    assert {name: found["results"][name] for name in BY_SECCOMP if name in found["results"]} == {
        name: "EPERM" for name in BY_SECCOMP if name in found["results"]
    }
    assert found["results"]["clone3"] == "ENOSYS"
    assert found["devices"] == ["full", "null", "ptmx", "random", "stdin", "tty", "urandom", "zero"]
    assert (found["blocks"], found["pids"], found["descriptors"]) == ([], 1, ["0", "1", "2"])
    assert (found["umask"], found["seccomp"], found["cgroups"]) == ("0022", "2", ["/"])
    assert set(found["environment"]) <= {"PATH", "HOME", "LC_CTYPE"}
    shared = {name for name, link in found["namespaces"].items() if link == os.readlink(f"/proc/self/ns/{name}")}
    assert shared == {"user", "time", "time_for_children"}


def test_a_user_cannot_get_out(machine: Any) -> None:
    found = run(machine, user="1000", security=Security(no_new_privileges=True))
    assert successes(found, HARMLESS) == {}
    assert (found["effective"], found["ambient"], found["no_new_privileges"]) == ("0" * 16, "0" * 16, "1")


def test_capabilities_hold_without_the_profile(machine: Any) -> None:
    found = run(machine, security=Security(seccomp="unconfined"))
    assert successes(found, HARMLESS | WITH_NET_RAW | UNCONFINED) == {}
    assert found["seccomp"] == "0"


def test_a_mapped_root_cannot_get_out(machine: Any) -> None:
    found = run_twice(machine, MAPPED)
    assert successes(found, HARMLESS | WITH_NET_RAW) == {}
    shared = {name for name, link in found["namespaces"].items() if link == os.readlink(f"/proc/self/ns/{name}")}
    assert shared == {"time", "time_for_children"}
    assert (found["descriptors"], found["cgroups"]) == (["0", "1", "2"], ["/"])


def test_a_privileged_mapped_root_rules_only_what_is_its_own(machine: Any) -> None:
    found = run(machine, sandbox={"user_namespace": MAPPED}, security=Security(privileged=True))
    unmasked = {name: "ok" for name in HARMLESS if name.startswith(("read /proc/", "list "))}
    assert successes(found, HARMLESS | WITH_NET_RAW | UNCONFINED | MAPPED_PRIVILEGED | unmasked) == {}
    for name in ("mount disk", "mount debugfs", "acct", "swapon", "syslog", "trusted attribute", "disk node"):
        assert found["results"][name] in ("EPERM", "EACCES"), name


def test_the_runtimes_own_interpreter_cannot_be_overwritten(machine: Any) -> None:
    """The first process may be made the helper's program by the name /proc/self/exe (CVE-2019-5736)."""
    texts: list[str] = []

    async def scenario(runtime: LinuxRuntime) -> None:
        try:
            await machine.start(runtime, "/proc/self/exe", "-I", "-S", "-c", "import os; os.kill(1, 19)")
        except RuntimeFailure:
            return
        result = await runtime.exec_sync("main", ["sh", "-c", "exec 3>>/proc/1/exe && echo written"], 5)
        texts.append(result.stdout.decode())

    machine.run(scenario)
    assert texts in ([], [""])
