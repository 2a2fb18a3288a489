"""The CRI client with a real containerd, where it is installed: containers, logs, exec, what they use, ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.archives import archive_of
from tiphys.base.clock import SystemClock
from tiphys.runtime.cri.client import CriRuntime, open_cri
from tiphys.runtime.handlers import drop_cgroups
from tiphys.runtime.types import ContainerSpec, Resources, RuntimeFailure, SandboxSpec, State

pytestmark = pytest.mark.e2e

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PAUSE = "tiphys.test/pause:1"
CONFIG = """
version = 2
root = "{base}/root"
state = "{state}"
[grpc]
  address = "{state}/c.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "{base}/cni"
[plugins."io.containerd.internal.v1.opt"]
  path = "{base}/opt"
"""


@pytest.fixture(scope="module")
def containerd(busybox: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of a containerd of its own, with busybox and a stand-in for the pause image."""
    for program in ("containerd", "ctr", "runc"):
        if shutil.which(program, path=PATH) is None:
            pytest.skip(f"{program} is not installed")
    if os.geteuid() != 0:
        pytest.skip("needs root")
    base = tmp_path_factory.mktemp("containerd")
    state = Path(f"/run/tiphys-test-containerd-{os.getpid()}")
    (base / "config.toml").write_text(CONFIG.format(base=base, state=state, pause=PAUSE))
    with (base / "log").open("wb") as log:
        daemon = subprocess.Popen(["containerd", "-c", str(base / "config.toml")], stdout=log, stderr=log)
    try:
        _wait_for(state / "c.sock", daemon)
        for tag, argv in ((PAUSE, ["sleep", "100000"]), ("docker.io/library/busybox:latest", ["sh"])):
            archive = archive_of(busybox, base / "image.tar", tag, {"Entrypoint": argv, "Env": ["PATH=/bin"]})
            _ctr(state, "images", "import", str(archive))
        yield f"unix://{state}/c.sock"
    finally:
        daemon.terminate()
        daemon.wait(20)
        with contextlib.suppress(OSError):
            shutil.rmtree(state)


def _ctr(state: Path, *words: str) -> None:
    subprocess.run(["ctr", "-a", f"{state}/c.sock", "-n", "k8s.io", *words], check=True, capture_output=True)


def _wait_for(socket: Path, daemon: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        if daemon.poll() is not None:
            pytest.fail("containerd ended at once")
        if socket.exists() and _answers(socket):
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            daemon.wait(0.1)
    pytest.fail("containerd does not answer")


def _answers(socket: Path) -> bool:
    return subprocess.run(["ctr", "-a", str(socket), "version"], capture_output=True).returncode == 0


def run(endpoint: str, scenario: Any) -> None:
    async def main() -> None:
        runtime = await open_cri(endpoint, SystemClock())
        try:
            image = await runtime.images.get("busybox")
            assert image is not None
            await runtime.create_sandbox(SandboxSpec("box", network="host", cgroup_parent="tiphys/test-cri/pod"))
            await scenario(runtime, image.id)
        finally:
            for box in await runtime.sandboxes():
                await runtime.remove_sandbox(box.spec.id)
            await runtime.close()
            drop_cgroups("tiphys/test-cri", whole=True)

    asyncio.run(asyncio.wait_for(main(), 120))


def test_a_container_of_containerds(containerd: str, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "0.log"

    async def scenario(runtime: CriRuntime, image: str) -> None:
        script = "echo hello; trap 'exit 4' TERM; while :; do sleep 0.05; done"
        limits = Resources(memory_limit=32 << 20)
        spec = ContainerSpec("own", "box", image, ("sh", "-c", script), log_path=str(log), resources=limits)
        await runtime.create_container(spec)
        status = await runtime.start_container("own")
        assert (status.state, status.spec.argv) == (State.RUNNING, spec.argv)
        result = await runtime.exec_sync("own", ["sh", "-c", "echo out; echo err >&2; exit 3"], 5)
        assert (result.exit_code, result.stdout, result.stderr) == (3, b"out\n", b"err\n")
        assert (await runtime.exec_sync("own", ["sleep", "100"], 1)).timed_out
        session = await runtime.exec("own", ["sh", "-c", "cat; exit 9"], stdin=True)
        await session.write(b"question")
        await session.close_stdin()
        assert [chunk async for chunk in session.output()] == [(1, b"question")]
        assert await session.wait() == 9
        assert (await runtime.usage("own")).memory_limit == 32 << 20
        assert (await runtime.processes("own")).count >= 1
        other = await open_cri(containerd, SystemClock())
        try:
            assert [one.spec.id for one in await other.containers()] == [status.spec.id]
        finally:
            await other.close()
        ended = await runtime.stop_container("own", 10)
        assert (ended.state, ended.exit_code) == (State.EXITED, 4)
        assert log.read_text().endswith("stdout F hello\n")

    run(containerd, scenario)


def test_what_containerd_refuses_is_told_in_its_words(containerd: str) -> None:
    async def scenario(runtime: CriRuntime, image: str) -> None:
        await runtime.create_container(ContainerSpec("own", "box", image, ("/none",)))
        with pytest.raises(RuntimeFailure, match="unable to start container process"):
            await runtime.start_container("own")
        status = await runtime.container("own")
        assert (status.state, status.exit_code) == (State.EXITED, 128)

    run(containerd, scenario)


def test_ends_are_told(containerd: str) -> None:
    async def scenario(runtime: CriRuntime, image: str) -> None:
        async def end() -> str:
            async for event in runtime.events():
                if event.container and event.state is State.EXITED:
                    return event.container
            return ""

        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(end())
            await runtime.create_container(ContainerSpec("own", "box", image, ("sh", "-c", "sleep 0.5; exit 2")))
            status = await runtime.start_container("own")
        assert waiting.result() == status.spec.id
        assert (await runtime.container("own")).exit_code == 2

    run(containerd, scenario)
