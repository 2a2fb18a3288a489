"""Containers by OCI runtimes under our shims: the same behaviour, confinement and ends as by our own runtime."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tiphys.base.clock import SystemClock
from tiphys.runtime import cgroups
from tiphys.runtime.handlers import OciHandler, discover, pick
from tiphys.runtime.linux import LinuxRuntime
from tiphys.runtime.types import (
    ContainerSpec,
    Device,
    InvalidSpec,
    Mount,
    Resources,
    RuntimeFailure,
    SandboxSpec,
    SandboxStatus,
    Security,
)
from tiphys.testing.runtime_behaviour import SCENARIOS, Scenario

pytestmark = pytest.mark.e2e

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def available(name: str) -> str:
    """Skips where the program is not installed, or cannot work with this machine's cgroups."""
    path = shutil.which(name, path=PATH)
    if path is None:
        pytest.skip(f"{name} is not installed")
    hybrid = not cgroups.detect().v2 and os.path.exists("/sys/fs/cgroup/unified")
    if name == "crun" and hybrid:
        pytest.skip("crun refuses a hybrid cgroup layout")
    return path


class Delegating(LinuxRuntime):
    """All sandboxes name a handler."""

    handler = ""

    async def create_sandbox(self, spec: SandboxSpec) -> SandboxStatus:
        return await super().create_sandbox(replace(spec, handler=self.handler))


def runtime(machine: Any, name: str) -> Delegating:
    handlers = {name: OciHandler(available(name))}
    made = Delegating(machine.root, machine.images, {}, SystemClock(), handlers)
    made.handler = name
    return made


def run(machine: Any, name: str, scenario: Any) -> None:
    async def main() -> None:
        async with runtime(machine, name) as made:
            await made.create_sandbox(machine.sandbox())
            await scenario(made)

    asyncio.run(main())


@pytest.mark.parametrize("handler", ["runc", "crun"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_an_oci_runtime_behaves_as_ours(scenario: Scenario, handler: str, machine: Any, tmp_path: Path) -> None:
    async def main() -> None:
        async with runtime(machine, handler) as made:
            await scenario(made, tmp_path)

    asyncio.run(main())
    assert not list((machine.root / "oci" / handler).glob("*"))


@pytest.mark.parametrize("handler", ["runc", "crun"])
def test_confinement_is_the_same(handler: str, machine: Any, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o777)
    (shared / "file").write_text("hello")
    shared.chmod(0o777)

    async def scenario(made: Delegating) -> None:
        script = "; ".join(
            (
                "id; cat /v/file; touch /v/no 2>&1; cat /proc/self/status | grep -E 'Cap(Eff|Bnd)|NoNewPrivs|Seccomp:'",
                "hostname; ls /dev/extra; echo x > /proc/sysrq-trigger",
                "pwd; echo $VAR; ls /proc | grep -c '^[0-9]*$'; unshare -U true",
            )
        )
        text = await machine.output(
            made, "sh", "-c", script,
            user="1000:1001", supplemental_groups=(5,), env=(("VAR", "value"), ("PATH", "/bin")), cwd="/tmp",
            mounts=(Mount("/v", str(shared), readonly=True),), devices=(Device("/dev/null", "/dev/extra"),),
            security=Security(no_new_privileges=True), resources=Resources(memory_limit=64 << 20, pids_limit=50),
        )  # fmt: skip
        assert "uid=1000(app) gid=1001 groups=5" in text
        assert "hello" in text
        assert "Read-only file system" in text
        assert "CapEff:\t0000000000000000" in text
        assert "CapBnd:\t00000000a80425fb" in text
        assert "NoNewPrivs:\t1" in text
        assert "Seccomp:\t2" in text
        assert "boxy\n/dev/extra\n" in text
        assert "/tmp\nvalue\n" in text
        assert "unshare" in text

    run(machine, handler, scenario)


def test_a_terminal_comes_from_the_oci_runtime(machine: Any) -> None:
    async def scenario(made: Delegating) -> None:
        await machine.start(made, "sh", tty=True, stdin=True)
        session = await made.attach("main")
        await session.write(b"tty; stty size; exit 7\n")
        seen = b""
        async for _, data in session.output():
            seen += data
        assert b"/dev/pts/0" in seen
        assert (await made.stop_container("main", 0)).exit_code == 7

    run(machine, "runc", scenario)


def test_what_runs_out_of_memory_says_so(machine: Any) -> None:
    async def scenario(made: Delegating) -> None:
        status = await machine.finish(made, "tail", "/dev/zero", resources=Resources(memory_limit=16 << 20))
        assert (status.exit_code, status.oom_killed) == (137, True)

    run(machine, "runc", scenario)


def test_a_new_runtime_finds_the_container_and_a_killed_shim_ends_it(machine: Any) -> None:
    async def main() -> None:
        async with runtime(machine, "runc") as first:
            await first.create_sandbox(machine.sandbox())
            await machine.start(first, "sleep", "1000")
        async with runtime(machine, "runc") as second:
            assert (await second.container("main")).pid
            assert (await second.exec_sync("main", ["cat", "/proc/1/cmdline"], 10)).stdout == b"sleep\x001000\x00"
            state = json.loads((machine.root / "containers" / "main" / "state.json").read_text())
            events = second.events()
            os.kill(state["shim"], signal.SIGKILL)
            async for event in events:
                if event.container == "main":
                    break
            assert (await second.container("main")).exit_code == 137
            await second.remove_container("main")
            assert not list((machine.root / "oci" / "runc").glob("*"))

    asyncio.run(main())


def test_its_words_are_told_when_it_cannot_start(machine: Any) -> None:
    async def scenario(made: Delegating) -> None:
        with pytest.raises(
            RuntimeFailure, match='unable to start container process: exec: "/none": stat /none: no such'
        ):
            await machine.start(made, "/none")
        await made.remove_container("main")
        with pytest.raises(RuntimeFailure, match="unable to find user nobody-here"):
            await machine.start(made, "true", user="nobody-here")

    run(machine, "runc", scenario)


def test_a_docker_profile_is_handed_on(machine: Any, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    refuse = [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": refuse}))

    async def scenario(made: Delegating) -> None:
        status = await machine.finish(made, "mkdir", "/tmp/x", security=Security(seccomp=str(profile)))
        assert status.exit_code == 1

    run(machine, "runc", scenario)


def test_a_runtime_with_a_kernel_of_its_own_tells_the_exit_code_and_runs_programs_inside(machine: Any) -> None:
    handler = OciHandler(available("runsc"), ("--platform=ptrace", "--network=none"))
    assert handler.apart

    async def main() -> None:
        async with LinuxRuntime(machine.root, machine.images, {}, SystemClock(), {"runsc": handler}) as made:
            await made.create_sandbox(replace(machine.sandbox(), handler="runsc"))
            await machine.start(made, "sh", "-c", "dmesg; trap 'exit 5' TERM; while :; do sleep 0.1; done")
            result = await made.exec_sync("main", ["sh", "-c", "id; exit 6"], 20)
            assert (result.exit_code, result.stdout.split()[0]) == (6, b"uid=0(root)")
            with pytest.raises(RuntimeFailure, match="terminals are not supported"):
                await made.exec("main", ["sh"], tty=True)
            while "gVisor" not in machine.log() or "\n" not in machine.log():
                await made.exec_sync("main", ["true"], 20)
            assert (await made.stop_container("main", 20)).exit_code == 5
            assert not list((machine.root / "oci" / "runsc").glob("*"))

    asyncio.run(main())


def test_an_unknown_handler_is_refused(machine: Any) -> None:
    async def main() -> None:
        async with LinuxRuntime(machine.root, machine.images, {}, SystemClock(), {}) as made:
            with pytest.raises(InvalidSpec, match='no runtime for "kata" is configured'):
                await made.create_sandbox(replace(machine.sandbox(), handler="kata"))
            await made.create_sandbox(replace(machine.sandbox(), handler="runc"))
            await made.create_container(ContainerSpec("x", "box", "busybox", ("true",)))
            await made.start_container("x")

    asyncio.run(main())


def test_handlers_are_found_on_the_path_and_in_the_configuration() -> None:
    found = discover({"slow": "true --option x", "runc": ""})
    assert found["slow"] == OciHandler(str(shutil.which("true", path=PATH)), ("--option", "x"))
    assert "runc" not in found
    assert pick(found, "") is None
    assert pick(found, "runc") is None
    for bad in ({"tiphys": "runc"}, {"x": "no-such-program"}):
        with pytest.raises(InvalidSpec):
            discover(bad)


def test_the_default_profile_is_one_that_libseccomp_takes(machine: Any) -> None:
    """What runc compiled from it refuses and lets through the same calls as ours."""

    async def scenario(made: Delegating) -> None:
        probe = "mount -t tmpfs none /tmp; swapoff /x; dmesg > /dev/null; nc -z 127.0.0.1 1; true"
        text = await machine.output(made, "sh", "-c", probe)
        assert text.count("ermission denied") + text.count("not permitted") >= 2

    run(machine, "runc", scenario)
    assert subprocess.run([available("runc"), "--version"], capture_output=True, check=True).stdout
