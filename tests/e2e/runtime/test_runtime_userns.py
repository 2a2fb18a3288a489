"""LinuxRuntime: sandboxes with a user namespace of their own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tiphys.runtime.linux import LinuxRuntime
from tiphys.runtime.types import Mount, RuntimeFailure, Security

pytestmark = pytest.mark.e2e

FIRST, LENGTH = 1 << 20, 65536
MAP = f"0 {FIRST} {LENGTH}"


async def mapped(machine: Any, runtime: LinuxRuntime, **fields: Any) -> None:
    await runtime.create_sandbox(machine.sandbox("mapped", user_namespace=(FIRST, LENGTH), **fields))


def shell(machine: Any, command: str, sandbox: dict[str, Any] | None = None, **fields: Any) -> str:
    text: list[str] = []

    async def scenario(runtime: LinuxRuntime) -> None:
        await mapped(machine, runtime, **sandbox or {})
        text.append(await machine.output(runtime, "sh", "-c", f"exec 2>&1; {command}", sandbox="mapped", **fields))

    machine.run(scenario)
    return text[0]


def owner(path: Path) -> tuple[int, int]:
    facts = path.lstat()
    return facts.st_uid, facts.st_gid


def test_its_root_is_nobody_of_the_hosts(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        await mapped(machine, runtime)
        status = await machine.start(runtime, "sleep", "1000", sandbox="mapped")
        assert status.identity == (0, 0, (0,)) or status.identity == (0, 0, ())
        process = Path(f"/proc/{status.pid}")
        lines = dict(line.split(":\t") for line in (process / "status").read_text().splitlines() if ":\t" in line)
        assert lines["Uid"].split() == [str(FIRST)] * 4
        for name in ("user", "mnt", "net", "ipc", "uts", "pid", "cgroup"):
            assert os.readlink(process / "ns" / name) != os.readlink(f"/proc/self/ns/{name}"), name

    machine.run(scenario)


def test_files_of_images_and_volumes_are_its_own_and_stay_the_hosts(machine: Any, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "old").write_text("x")
    os.chown(volume / "old", 1000, 2000)
    command = "stat -c %u:%g /bin /data/old /dev/shm; touch /data/new; chown 5:6 /data/new; echo x >> /etc/passwd"
    text = shell(machine, command, mounts=(Mount("/data", str(volume)),))
    assert text.split() == ["0:0", "1000:2000", "0:0"]
    assert (owner(volume / "old"), owner(volume / "new")) == ((1000, 2000), (5, 6))
    assert owner(machine.layer / "etc/passwd") == (0, 0)


def test_capabilities_end_at_its_edge(machine: Any, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0o600)
    commands = (
        "mount -t tmpfs x /tmp && echo mounted; hostname evil && hostname; mknod /disk b 254 0; "
        "echo 1 > /proc/sys/kernel/panic; date -s 2001-01-01; dmesg; mount -t ext4 /dev/vda /mnt; ls -d /dev/mem"
    )
    text = shell(machine, commands, security=Security(privileged=True))
    assert text.splitlines()[:2] == ["mounted", "evil"]
    refusals = ("mknod: /disk", "/proc/sys/kernel/panic", "date:", "dmesg:", "mount:")
    for refusal in refusals:
        assert refusal in text, text


def test_an_exec_is_in_the_same_user_namespace(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        await mapped(machine, runtime)
        await machine.start(runtime, "sleep", "1000", sandbox="mapped", user="app")
        command = "cat /proc/self/uid_map; echo hi > /dev/stdout; id -u; grep CapEff /proc/self/status"
        result = await runtime.exec_sync("main", ["sh", "-c", command], 10)
        words = result.stdout.decode().split()
        assert (" ".join(words[:3]), words[3:]) == (MAP, ["hi", "1000", "CapEff:", "0" * 16])
        cgroups = (await runtime.exec_sync("main", ["cat", "/proc/self/cgroup"], 5)).stdout.decode()
        assert all(line.endswith(":/") for line in cgroups.splitlines() if ":memory:" in line or ":devices:" in line)
        session = await runtime.exec("main", ["tty"], tty=True)
        output = b"".join([data async for _, data in session.output()])
        assert output == b"/dev/pts/0\r\n"
        await session.close()

    machine.run(scenario)


def test_its_namespaces_take_sysctls_and_share_processes(machine: Any) -> None:
    settings = {"net.ipv4.ip_local_port_range": "30000 30100", "kernel.shm_rmid_forced": "1", "fs.mqueue.msg_max": "20"}
    names = " ".join(f"/proc/sys/{name.replace('.', '/')}" for name in (*settings, "net.ipv4.ping_group_range"))
    command = f"cat {names}; tr '\\0' ' ' < /proc/1/cmdline; grep Uid /proc/1/status; ls /proc/1/root"
    text = shell(machine, command, {"sysctls": settings, "share_pid": True}).split("\n")
    assert [" ".join(line.split()) for line in text[:4]] == ["30000 30100", "1", "20", "0 65535"]
    assert text[4].endswith("Uid:\t65535\t65535\t65535\t65535")


def test_what_cannot_be_translated_is_refused_aloud(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        await mapped(machine, runtime)
        with pytest.raises(RuntimeFailure) as failure:
            await machine.start(runtime, "true", sandbox="mapped", mounts=(Mount("/host", "/proc/self"),))
        text = "failed to set MOUNT_ATTR_IDMAP on /proc/self: invalid argument (maybe the filesystem used doesn't "
        assert text + "support idmap mounts on this kernel?)" in str(failure.value)

    machine.run(scenario)


def test_its_terminal_and_its_standard_streams_are_its_users(machine: Any) -> None:
    assert shell(machine, "echo hi > /dev/stdout; id -u", user="1000") == "hi\n1000"
    text = shell(machine, "tty; stat -c %u:%g $(tty)", user="1000", tty=True)
    assert text.replace("\r", "").split() == ["/dev/pts/0", "1000:5"]


def test_it_is_found_again_and_told_apart(machine: Any) -> None:
    import asyncio

    async def first() -> None:
        async with machine.runtime() as runtime:
            await mapped(machine, runtime)
            await machine.start(runtime, "sleep", "1000", sandbox="mapped")

    async def second() -> None:
        async with machine.runtime() as runtime:
            await mapped(machine, runtime)
            result = await runtime.exec_sync("main", ["cat", "/proc/self/uid_map"], 5)
            assert result.stdout.split() == [word.encode() for word in MAP.split()]

    asyncio.run(first())
    asyncio.run(second())
