"""LinuxRuntime: images, volumes and paths that are made to break out at the moment of a start or an exec."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tiphys.runtime.linux import LinuxRuntime
from tiphys.runtime.types import Mount, RuntimeFailure, Security

pytestmark = pytest.mark.e2e

DEFAULT_CAPABILITIES = "00000000a80425fb"


def capabilities_of(status: str) -> set[str]:
    return {line.split("\t")[1] for line in status.splitlines() if line.startswith(("CapEff:", "CapBnd:"))}


def refusal(machine: Any, **fields: Any) -> str:
    """Why a container is not started."""
    found: list[str] = []

    async def scenario(runtime: LinuxRuntime) -> None:
        with pytest.raises(RuntimeFailure) as failure:
            await machine.start(runtime, "sleep", "1000", **fields)
        found.append(str(failure.value))

    machine.run(scenario)
    return found[0]


def forged_proc(directory: Path) -> Path:
    """What would make a runtime that trusts it give every capability."""
    (directory / "self/fd").mkdir(parents=True)
    (directory / "sys/kernel").mkdir(parents=True)
    (directory / "sys/kernel/cap_last_cap").write_text("0\n")
    (directory / "self/status").write_text("CapPrm:\t000001ffffffffff\n")
    (directory / "self/oom_score_adj").touch()
    for number in range(100):
        (directory / f"self/fd/{number}").symlink_to("/x")
    return directory


@pytest.mark.parametrize("target", ["/proc", "/proc/sys", "/proc/self/attr"])
def test_nothing_is_mounted_over_proc(machine: Any, tmp_path: Path, target: str) -> None:
    mounts = (Mount(target, str(forged_proc(tmp_path / "proc"))),)
    assert "cannot be mounted because it is inside /proc" in refusal(machine, mounts=mounts)


def test_nothing_is_mounted_over_proc_by_a_symlink(machine: Any, tmp_path: Path) -> None:
    (machine.layer / "innocent").symlink_to("/proc")
    try:
        mounts = (Mount("/innocent/sys", str(forged_proc(tmp_path / "proc"))),)
        assert "inside /proc" in refusal(machine, mounts=mounts)
    finally:
        (machine.layer / "innocent").unlink()


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
def test_an_image_cannot_move_the_kernels_file_systems(machine: Any, tmp_path: Path, name: str) -> None:
    image = tmp_path / "image"
    os.system(f"cp -a {machine.layer} {image}")
    os.system(f"rm -rf {image}/{name}; mkdir {image}/elsewhere; ln -s elsewhere {image}/{name}")
    machine.images = type(machine.images)([image])
    assert "must be mounted on an ordinary directory" in refusal(machine)


def test_a_null_device_that_is_none_masks_nothing(machine: Any, tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/null").symlink_to("/proc/kcore")
    assert "/dev/null" in refusal(machine, mounts=(Mount("/dev", str(tmp_path / "dev")),))


def test_a_subpath_that_became_a_symlink_is_not_followed(machine: Any, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume/part").symlink_to(tmp_path / "secret")
    mount = Mount("/data", str(tmp_path / "volume/part"), source_resolved=True)
    assert "symbolic link" in refusal(machine, mounts=(mount,))


def test_exec_trusts_no_proc_of_the_containers(machine: Any, tmp_path: Path) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        forged = (Mount("/forged", str(forged_proc(tmp_path / "proc"))),)
        security = Security(add_capabilities=("SYS_ADMIN",))
        cover = "cat /proc/self/status > /forged/real; mount --bind /forged /proc; touch /ready; sleep 1000"
        await machine.start(runtime, "sh", "-c", cover, mounts=forged, security=security)
        wait = "until [ -e /ready ]; do :; done; mkdir /p; mount -t proc p /p; cat /p/self/status"
        status = (await runtime.exec_sync("main", ["sh", "-c", wait], 10)).stdout.decode()
        assert capabilities_of(status) == {f"{int(DEFAULT_CAPABILITIES, 16) | 1 << 21:016x}"}

    machine.run(scenario)


def test_exec_works_where_the_null_device_was_replaced(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        await machine.start(runtime, "sh", "-c", "rm /dev/null; mkfifo /dev/null; touch /ready; sleep 1000")
        script = "until [ -e /ready ]; do :; done; cat; echo done"
        await runtime.exec_sync("main", ["sh", "-c", "until [ -e /ready ]; do :; done"], 10)
        assert (await runtime.exec_sync("main", ["sh", "-c", script], 10)).stdout == b"done\n"

    machine.run(scenario)


def test_accounts_that_are_no_files_are_not_read(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        prepare = "rm /etc/passwd /etc/group; mkfifo /etc/passwd; ln -s /dev/zero /etc/group; touch /ready; sleep 1000"
        await machine.start(runtime, "sh", "-c", prepare)
        await runtime.exec_sync("main", ["sh", "-c", "until [ -e /ready ]; do :; done"], 10)
        assert (await runtime.exec_sync("main", ["echo", "here"], 10)).stdout == b"here\n"

    machine.run(scenario)


@pytest.mark.parametrize("cwd", [f"/proc/self/fd/{number}" for number in range(3, 24)])
def test_no_descriptor_leads_out_by_the_working_directory(machine: Any, cwd: str) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        try:
            text = await machine.output(runtime, "sh", "-c", "cat ../../../../../../../etc/hostname; pwd -P", cwd=cwd)
        except RuntimeFailure:
            return
        host = Path("/etc/hostname").read_text().strip()
        assert host not in text

    machine.run(scenario)


def test_the_pause_process_of_a_shared_pid_namespace_has_nothing_to_give(machine: Any) -> None:
    texts: list[str] = []

    async def scenario(runtime: LinuxRuntime) -> None:
        await runtime.create_sandbox(machine.sandbox("shared", share_pid=True))
        look = "ls -a /proc/1/root/ /proc/1/cwd/; ls -l /proc/1/fd | grep -v null; cat /proc/1/status /proc/1/cmdline"
        security = Security(add_capabilities=("SYS_PTRACE",))
        text = await machine.output(runtime, "sh", "-c", f"exec 2>&1; {look}", sandbox="shared", security=security)
        texts.append(text)

    machine.run(scenario)
    text = texts[0]
    assert text.strip("\0").endswith("/pause")
    assert "etc" not in text.split()
    assert "helper.log" not in text
    assert capabilities_of(text) == {"0" * 16}


def test_sandboxes_still_reap_orphans_when_pids_are_shared(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        await runtime.create_sandbox(machine.sandbox("shared", share_pid=True))
        script = "(sleep 0.1 &) ; sleep 0.5; ps | grep -c '\\[sleep\\]'"
        assert await machine.output(runtime, "sh", "-c", script, sandbox="shared") == "0"

    machine.run(scenario)


def test_the_runtimes_files_are_root_s_alone(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        await machine.start(runtime, "sleep", "1000")

    machine.root.rmdir()
    machine.run(scenario)
    assert machine.root.stat().st_mode & 0o077 == 0


def test_a_tree_as_deep_as_a_container_can_make_it_is_removed(machine: Any) -> None:
    async def scenario(runtime: LinuxRuntime) -> None:
        script = "i=0; while [ $i -lt 1900 ]; do mkdir d && cd d || exit 1; i=$((i+1)); done; echo $i"
        assert await machine.output(runtime, "sh", "-c", script) == "1900"
        assert not list((machine.root / "containers").iterdir())

    machine.run(scenario)
