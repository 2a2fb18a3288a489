"""LinuxRuntime: starting, ending, output, users, mounts, limits."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from tiphys.runtime.linux import LinuxRuntime
from tiphys.runtime.types import (
    ContainerSpec,
    InvalidSpec,
    Mount,
    NoSuchContainer,
    NoSuchImage,
    Resources,
    RuntimeFailure,
    Security,
    State,
)
from tiphys.testing.busybox import BusyboxImages

pytestmark = pytest.mark.e2e

ENTRY = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (stdout|stderr) [FP] .*")


def test_output_is_logged_in_the_cri_format(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        status = await machine.finish(runtime, "sh", "-c", "echo out; echo err >&2; printf rest")
        assert (status.state, status.exit_code, status.error) == (State.EXITED, 0, "")
        assert status.created_at <= status.started_at <= status.finished_at
        lines = (machine.root / "main.log").read_text().splitlines()
        assert all(ENTRY.fullmatch(line) for line in lines)
        assert sorted(line.split(" ", 1)[1] for line in lines) == ["stderr F err", "stdout F out", "stdout P rest"]

    machine.run(scenario)


def test_long_lines_are_cut_and_no_byte_is_lost(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        await machine.finish(runtime, "sh", "-c", "head -c 40000 /dev/zero | tr '\\0' x; echo; seq 1 20000")
        rows = [line.split(" ", 3)[2:] for line in (machine.root / "main.log").read_text().splitlines()]
        assert [(tag, len(text)) for tag, text in rows[:3]] == [("P", 16384), ("P", 16384), ("F", 7232)]
        assert [text for _, text in rows[3:]] == [str(number) for number in range(1, 20001)]

    machine.run(scenario)


def test_a_log_is_rotated_at_its_size(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        command = "i=0; while [ $i -lt 40 ]; do seq 1 400; i=$((i+1)); done"
        await machine.finish(runtime, "sh", "-c", command, log_max_bytes=100_000, log_max_files=3)
        names = sorted(path.name for path in machine.root.glob("main.log*"))
        assert names == ["main.log", "main.log.1", "main.log.2"]
        assert all(path.stat().st_size < 300_000 for path in machine.root.glob("main.log*"))

    machine.run(scenario)


def test_a_full_disk_does_not_block_the_container(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        mount = machine.root / "small"
        mount.mkdir()
        os.system(f"mount -t tmpfs -o size=64k tmpfs {mount}")
        await machine.finish(runtime, "sh", "-c", "seq 1 100000", log_path=str(mount / "log"))
        status = await runtime.container("main")
        assert status.exit_code == 0
        assert (mount / "log").read_bytes().endswith(b"\n")

    machine.run(scenario)


def test_exit_codes_and_signals_are_told(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        assert (await machine.finish(runtime, "sh", "-c", "exit 42", id="code")).exit_code == 42
        await machine.start(runtime, "sleep", "1000", id="killed")
        await runtime.signal_container("killed", signal.SIGKILL)
        status = await runtime.stop_container("killed", 10)
        assert (status.exit_code, status.signal, status.pid) == (137, 9, 0)

    machine.run(scenario)


def test_stop_sends_the_stop_signal_and_kills_after_the_grace(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        trap = "trap 'echo term; exit 3' TERM; trap 'echo int; exit 4' INT; echo ready; while :; do sleep 0.05; done"
        await machine.start(runtime, "sh", "-c", trap, id="term")
        await machine.start(runtime, "sh", "-c", trap, id="int", stop_signal="SIGINT")
        await machine.start(runtime, "sleep", "1000", id="deaf")
        await _lines(machine, "term", "ready")
        await _lines(machine, "int", "ready")
        assert (await runtime.stop_container("term", 10)).exit_code == 3
        assert (await runtime.stop_container("int", 10)).exit_code == 4
        assert (await runtime.stop_container("deaf", 0.05)).exit_code == 137
        assert (await runtime.stop_container("deaf", 0.05)).exit_code == 137

    machine.run(scenario)


async def _lines(machine: Any, id: str, wanted: str) -> None:
    while wanted not in machine.log(id).splitlines():
        await asyncio.sleep(0.01)  # noqa: TID251 - waits for a real process


@pytest.mark.parametrize(
    ("argv", "fields", "code", "text"),
    [
        (("nope",), {}, 127, 'exec: "nope": executable file not found in $PATH'),
        (("/nope",), {}, 127, 'exec: "/nope": stat /nope: no such file or directory'),
        (("/etc/passwd",), {}, 126, 'exec: "/etc/passwd": permission denied'),
        (("/etc",), {}, 126, 'exec: "/etc": is a directory'),
        (("sh",), {"user": "ghost"}, 128, "unable to find user ghost: no matching entries in passwd file"),
        (("sh",), {"mounts": (Mount("/x", "/no/such/source"),)}, 128, "/no/such/source"),
    ],
)
def test_what_cannot_start_says_why(
    machine: Any, argv: tuple[str, ...], fields: dict[str, Any], code: int, text: str
) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        with pytest.raises(RuntimeFailure) as caught:
            await machine.start(runtime, *argv, **fields)
        assert text in str(caught.value)
        status = await runtime.container("main")
        assert (status.state, status.exit_code) == (State.EXITED, code)
        assert text in status.error

    machine.run(scenario)


def test_unknown_images_containers_and_sandboxes_are_refused(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        with pytest.raises(NoSuchImage):
            await machine.start(runtime, "sh", image="ghost")
        with pytest.raises(NoSuchContainer):
            await runtime.container("ghost")
        with pytest.raises(RuntimeFailure, match="no sandbox"):
            await machine.start(runtime, "sh", sandbox="ghost")
        with pytest.raises(InvalidSpec):
            await runtime.create_container(ContainerSpec("../evil", "box", "busybox", ("sh",)))
        await runtime.remove_container("ghost")
        await runtime.remove_sandbox("ghost")

    machine.run(scenario)


@pytest.mark.parametrize(
    ("user", "shown"),
    [
        ("", "uid=0(root) gid=0(root)"),
        ("app", "uid=1000(app) gid=1000(app) groups=50(staff)"),
        ("1000", "uid=1000(app) gid=1000(app) groups=50(staff)"),
        ("4242", "uid=4242 gid=0(root)"),
        ("4242:50", "uid=4242 gid=50(staff)"),
        ("app:nogroup", "uid=1000(app) gid=65534(nogroup)"),
    ],
)
def test_the_user_is_looked_up_in_the_image(machine: Any, user: str, shown: str) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        text = await machine.output(runtime, "sh", "-c", "id; echo x > /dev/stdout", user=user)
        assert text.splitlines()[0].startswith(shown)
        assert text.splitlines()[1] == "x"

    machine.run(scenario)


def test_environment_directory_and_hostname(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        command = ("sh", "-c", "hostname; pwd; echo $A-$HOME; echo $PATH; umask; ulimit -n")
        fields = {"env": (("A", "b"),), "cwd": "/made/up", "rlimits": (("NOFILE", 77, 99),)}
        text = await machine.output(runtime, *command, **fields)
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        assert text.splitlines() == ["boxy", "/made/up", "b-/root", path, "0022", "77"]

    machine.run(scenario)


def test_volumes_are_mounted_where_they_belong(machine: Any, tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "file"
    data.mkdir()
    file.write_text("content\n")
    mounts = (
        Mount("/data", str(data)),
        Mount("/ro", str(data), readonly=True),
        Mount("/etc/deep/file", str(file)),
        Mount("/scratch", size=65536),
        Mount("/bin/link/escape", str(data)),
    )

    async def scenario(runtime: LinuxRuntime) -> None:
        command = "echo hi > /data/a; cat /ro/a /etc/deep/file; touch /ro/b; df -k /scratch | tail -1"
        text = await machine.output(runtime, "sh", "-c", command, mounts=mounts[:4])
        assert text.splitlines()[:2] == ["hi", "content"]
        assert "Read-only file system" in text
        assert " 64 " in text
        assert (data / "a").read_text() == "hi\n"

    machine.run(scenario)


def test_a_symlink_in_the_image_cannot_move_a_mount_outside(machine: Any, tmp_path: Path, busybox: Path) -> None:
    outside, evil = tmp_path / "outside", tmp_path / "evil"
    outside.mkdir()
    evil.mkdir()
    (evil / "escape").symlink_to(outside)
    (evil / "up").symlink_to("../../../../../../../../../" + str(outside))
    machine.images = BusyboxImages([evil, busybox])

    async def scenario(runtime: LinuxRuntime) -> None:
        volume = tmp_path / "volume"
        volume.mkdir()
        (volume / "seen").touch()
        mounts = (Mount("/escape/a", str(volume)), Mount("/up/b", str(volume)))
        text = await machine.output(runtime, "ls", "/escape/a", "/up/b", mounts=mounts)
        assert text.count("seen") == 2
        assert list(outside.iterdir()) == []

    machine.run(scenario)


def test_mount_propagation(machine: Any, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    os.system(f"mount -t tmpfs tmpfs {shared} && mount --make-shared {shared}")
    (shared / "sub").mkdir()
    (shared / "back").mkdir()

    async def scenario(runtime: LinuxRuntime) -> None:
        for name in ("private", "rslave", "rshared"):
            mount = Mount("/vol", str(shared), propagation=name)
            await machine.start(runtime, "sleep", "1000", id=name, mounts=(mount,))
        os.system(f"mount -t tmpfs tmpfs {shared}/sub && touch {shared}/sub/new")
        seen = {name: (await runtime.exec_sync(name, ["ls", "/vol/sub"], 5)).stdout for name in ("private", "rslave")}
        assert seen == {"private": b"", "rslave": b"new\n"}
        await machine.start(
            runtime, "sh", "-c", "mount -t tmpfs x /vol/back; touch /vol/back/inner; sleep 1000",
            id="mounter", mounts=(Mount("/vol", str(shared), propagation="rshared"),),
            security=Security(privileged=True),
        )  # fmt: skip
        while not (shared / "back/inner").exists():
            await asyncio.sleep(0.01)  # noqa: TID251 - waits for a real process

    try:
        machine.run(scenario)
    finally:
        os.system(f"umount -R -l {shared}")


def test_limits_are_in_the_cgroup_and_can_be_changed(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        limits = Resources(cpu_shares=51, cpu_quota=10_000, memory_limit=64 << 20, pids_limit=50)
        await machine.start(runtime, "sleep", "1000", resources=limits)
        show = "cat /sys/fs/cgroup/cpu/cpu.shares /sys/fs/cgroup/cpu/cpu.cfs_quota_us"
        show += " /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max"
        if not Path("/sys/fs/cgroup/cpu").exists():
            pytest.skip("reads v1 files")
        result = await runtime.exec_sync("main", ["sh", "-c", show], 5)
        assert result.stdout.split() == [b"51", b"10000", b"67108864", b"50"]
        await runtime.update("main", Resources(memory_limit=32 << 20))
        result = await runtime.exec_sync("main", ["sh", "-c", show], 5)
        assert result.stdout.split()[2] == b"33554432"
        usage = await runtime.usage("main")
        assert usage.cpu_nanoseconds > 0
        assert 0 < usage.memory_working_set <= usage.memory_bytes < 32 << 20
        assert usage.pids == 1

    machine.run(scenario)


def test_an_oom_kill_is_told(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        command = "head -c 100m /dev/zero | tail"
        status = await machine.finish(
            runtime, "sh", "-c", f"exec sh -c '{command}'", resources=Resources(memory_limit=16 << 20)
        )
        assert status.oom_killed
        assert status.exit_code == 137 or status.exit_code == 1

    machine.run(scenario)


def test_a_container_may_be_started_again_with_its_files(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        await machine.finish(runtime, "sh", "-c", "echo x >> /kept; wc -l < /kept")
        events = runtime.events()
        await runtime.start_container("main")
        async for event in events:
            if event.state is State.EXITED:
                break
        assert machine.log().splitlines() == ["1", "2"]

    machine.run(scenario)


def test_events_tell_each_change_in_order(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        events = runtime.events()
        await machine.start(runtime, "sh", "-c", "exit 7")
        seen = [await anext(events) for _ in range(3)]
        assert [(event.container, event.state, event.exit_code) for event in seen] == [
            ("main", State.CREATED, 0),
            ("main", State.RUNNING, 0),
            ("main", State.EXITED, 7),
        ]

    machine.run(scenario)
