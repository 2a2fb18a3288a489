"""LinuxRuntime: a container tries to get out."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import pytest

from tiphys.runtime.linux import LinuxRuntime
from tiphys.runtime.types import Device, Security

pytestmark = pytest.mark.e2e

DEFAULT_CAPABILITIES = "00000000a80425fb"


def shell(machine: Any, command: str, **fields: Any) -> str:
    """What `command` prints in a container, errors included."""
    text: list[str] = []

    async def scenario(runtime: LinuxRuntime) -> None:
        text.append(await machine.output(runtime, "sh", "-c", f"exec 2>&1; {command}", **fields))

    machine.run(scenario)
    return text[0]


def status_of(text: str) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def test_root_has_the_default_capabilities(machine: Any) -> None:
    status = status_of(shell(machine, "cat /proc/self/status"))
    assert status["CapBnd"] == status["CapEff"] == status["CapPrm"] == DEFAULT_CAPABILITIES
    assert status["CapInh"] == status["CapAmb"] == "0" * 16
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("0", "2")


def test_a_user_has_none_but_keeps_the_bounding_set(machine: Any) -> None:
    status = status_of(shell(machine, "cat /proc/self/status", user="app", security=Security(no_new_privileges=True)))
    assert status["CapEff"] == status["CapPrm"] == "0" * 16
    assert status["CapBnd"] == DEFAULT_CAPABILITIES
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert status["Groups"].split() == ["50", "1000"]


def test_capabilities_can_be_added_and_dropped(machine: Any) -> None:
    security = Security(drop_capabilities=("ALL",), add_capabilities=("NET_ADMIN", "CAP_CHOWN"))
    assert status_of(shell(machine, "cat /proc/self/status", security=security))["CapEff"] == f"{0x1001:016x}"


def test_exec_is_confined_in_the_same_way(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        await machine.start(runtime, "sleep", "1000", security=Security(drop_capabilities=("ALL",)))
        status = status_of((await runtime.exec_sync("main", ["cat", "/proc/self/status"], 5)).stdout.decode())
        assert (status["CapEff"], status["CapBnd"], status["Seccomp"]) == ("0" * 16, "0" * 16, "2")
        cgroups = (await runtime.exec_sync("main", ["cat", "/proc/self/cgroup"], 5)).stdout.decode()
        assert all(line.endswith(":/") for line in cgroups.splitlines() if ":memory:" in line or ":devices:" in line)

    machine.run(scenario)


@pytest.mark.parametrize(
    ("command", "refusal"),
    [
        ("mount -t tmpfs x /tmp", "ermission denied|not permitted"),
        ("umount /proc/kcore", "not permitted|nvalid|not mounted|can't"),
        ("unshare -U true", "not permitted"),
        ("unshare -m true", "not permitted"),
        ("echo 1 > /proc/sys/kernel/domainname", "Read-only"),
        ("echo b > /proc/sysrq-trigger", "Read-only|nonexistent"),
        ("mkdir /sys/fs/cgroup/x", "Read-only"),
        ("mkdir /sys/fs/cgroup/memory/x || mkdir /sys/fs/cgroup/x", "Read-only"),
        ("hostname evil", "not permitted"),
        ("date -s 2001-01-01", "not permitted"),
        ("mknod /tmp/disk b 254 0; cat /tmp/disk", "not permitted"),
        ("mknod /dev/mem2 c 1 1; cat /dev/mem2", "not permitted"),
        ("chroot / reboot -f", "not permitted|denied"),
        ("insmod /etc/passwd", "not permitted|can't"),
        ("nsenter -t 1 -m true", "not permitted|denied"),
        ("ls /proc/1/root/../../../etc/hostname", "No such"),
        ("dmesg", "not permitted"),
        ("swapoff -a; sysctl -w kernel.panic=1", "Read-only|not permitted"),
    ],
)
def test_what_must_be_refused_is(machine: Any, command: str, refusal: str) -> None:
    import re

    assert re.search(refusal, shell(machine, command)), command


def test_kernel_secrets_are_masked(machine: Any) -> None:
    text = shell(machine, "wc -c < /proc/kcore; wc -c < /proc/keys; wc -c < /proc/timer_list; ls /sys/firmware | wc -l")
    assert {line for line in text.splitlines() if line.isdigit()} == {"0"}


def test_other_processes_and_the_runtime_are_out_of_reach(machine: Any) -> None:
    text = shell(machine, "ls -d /proc/[0-9]* | wc -l; ls -l /proc/1/fd | wc -l; cat /proc/1/environ | tr '\\0' '\\n'")
    assert int(text.splitlines()[0]) <= 3
    assert "PYTHON" not in text


def test_writes_do_not_reach_the_image(machine: Any) -> None:
    before = sorted(path.name for path in machine.layer.rglob("*"))
    passwd = (machine.layer / "etc/passwd").read_text()
    shell(machine, "echo evil >> /etc/passwd; rm -rf /bin/ls; touch /new")
    assert (machine.layer / "etc/passwd").read_text() == passwd
    assert sorted(path.name for path in machine.layer.rglob("*")) == before


def test_a_readonly_root_stays_so(machine: Any) -> None:
    text = shell(
        machine, "touch /x; mount -o remount,rw /; touch /y; ls -d /x /y", security=Security(readonly_rootfs=True)
    )
    assert "Read-only file system" in text
    assert text.count("No such file") == 2


def test_a_device_can_be_given(machine: Any) -> None:
    if not os.path.exists("/dev/net/tun"):
        pytest.skip("no /dev/net/tun")
    devices = (Device("/dev/net/tun", "/dev/given", "r"),)
    text = shell(machine, ": < /dev/given && echo read; echo x > /dev/given", devices=devices)
    assert "read" in text
    assert "not permitted" in text


def test_privileged_may_do_it_all(machine: Any) -> None:
    command = (
        "mount -t tmpfs x /tmp && echo mounted; cat /proc/self/status; ls /dev/mem /dev/kmsg; hostname evil && hostname"
    )
    text = shell(machine, command, security=Security(privileged=True))
    assert "mounted" in text
    assert status_of(text)["Seccomp"] == "0"
    assert text.endswith("evil")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="calls by x86_64 numbers")
def test_the_seccomp_profile_refuses_what_it_should(machine: Any, tmp_path: Path) -> None:
    source = tmp_path / "try.c"
    source.write_text(
        """
        #include <errno.h>
        #include <stdio.h>
        #include <sys/socket.h>
        #include <sys/syscall.h>
        #include <unistd.h>
        static void say(const char *name, long result) { printf("%s %d\\n", name, result < 0 ? errno : 0); }
        int main(void) {
            say("keyctl", syscall(SYS_keyctl, 0, 0));
            say("add_key", syscall(SYS_add_key, "user", "x", "y", 1, -2));
            say("unshare", syscall(SYS_unshare, 0x10000000));
            say("clone", syscall(SYS_clone, 0x10000011, 0, 0, 0, 0));
            say("clone3", syscall(SYS_clone3, 0, 0));
            say("bpf", syscall(SYS_bpf, 0, 0, 0));
            say("io_uring", syscall(425, 1, 0));
            say("userfaultfd", syscall(SYS_userfaultfd, 0));
            say("open_by_handle_at", syscall(SYS_open_by_handle_at, 0, 0, 0));
            say("alg", socket(38, SOCK_SEQPACKET, 0));
            say("vsock", socket(40, SOCK_STREAM, 0));
            say("inet", socket(AF_INET, SOCK_STREAM, 0));
            say("personality", syscall(SYS_personality, 0x40000));
            say("future", syscall(9999));
            say("getpid", syscall(SYS_getpid));
            return 0;
        }
        """
    )
    if os.system(f"gcc -static -o {tmp_path}/try {source} 2>/dev/null"):
        pytest.skip("needs gcc")
    from tiphys.runtime.types import Mount

    text = shell(machine, "/try", mounts=(Mount("/try", str(tmp_path / "try")),))
    results = dict(line.split() for line in text.splitlines())
    assert {name: int(code) for name, code in results.items()} == {
        "keyctl": 1, "add_key": 1, "unshare": 1, "clone": 1, "clone3": 38, "bpf": 1, "io_uring": 1, "userfaultfd": 1,
        "open_by_handle_at": 1, "alg": 1, "vsock": 1, "inet": 0, "personality": 1, "future": 38, "getpid": 0,
    }  # fmt: skip


def test_a_seccomp_profile_from_a_file(machine: Any, tmp_path: Path) -> None:
    import json

    profile = tmp_path / "profile.json"
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    text = shell(machine, "mkdir /x; echo went on", security=Security(seccomp=str(profile)))
    assert "Permission denied" in text
    assert text.endswith("went on")
