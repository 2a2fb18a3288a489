"""Fixtures for tests of LinuxRuntime with real containers; every test proves that it left nothing behind."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tiphys.base.clock import SystemClock
from tiphys.runtime.cleanup import purge
from tiphys.runtime.linux import LinuxRuntime
from tiphys.runtime.types import ContainerSpec, ContainerStatus, SandboxSpec, State
from tiphys.testing.busybox import PROGRAM, BusyboxImages, make_layer


class Machine:
    """One runtime directory, and short ways to run something in it."""

    def __init__(self, root: Path, layer: Path) -> None:
        self.root = root
        self.layer = layer
        self.images = BusyboxImages([layer])
        self.name = root.name

    def runtime(self) -> LinuxRuntime:
        return LinuxRuntime(self.root, self.images, {}, SystemClock())

    def run(self, scenario: Callable[[LinuxRuntime], Awaitable[None]]) -> None:
        """Run `scenario` with a runtime that has the sandbox `box`."""

        async def main() -> None:
            async with self.runtime() as runtime:
                await runtime.create_sandbox(self.sandbox())
                await scenario(runtime)

        asyncio.run(main())

    def sandbox(self, id: str = "box", **fields: Any) -> SandboxSpec:
        fields = {"network": "none", "hostname": "boxy", "cgroup_parent": f"tiphys/{self.name}/{id}", **fields}
        return SandboxSpec(id, **fields)

    async def start(self, runtime: LinuxRuntime, *argv: str, id: str = "main", **fields: Any) -> ContainerStatus:
        spec = {"log_path": str(self.root / f"{id}.log"), "sandbox": "box", "image": "busybox", **fields}
        await runtime.create_container(ContainerSpec(id, argv=argv, **spec))
        return await runtime.start_container(id)

    async def finish(self, runtime: LinuxRuntime, *argv: str, id: str = "main", **fields: Any) -> ContainerStatus:
        """Run to the end."""
        events = runtime.events()
        await self.start(runtime, *argv, id=id, **fields)
        async for event in events:
            if event.container == id and event.state is State.EXITED:
                break
        return await runtime.container(id)

    async def output(self, runtime: LinuxRuntime, *argv: str, **fields: Any) -> str:
        """The log's text of one run, without time stamps; its container is removed."""
        await self.finish(runtime, *argv, id="output", **fields)
        await runtime.remove_container("output")
        text = self.log("output")
        (self.root / "output.log").unlink()
        return text

    def log(self, id: str = "main") -> str:
        lines = (self.root / f"{id}.log").read_text().splitlines()
        return "\n".join(line.split(" ", 3)[3] for line in lines)


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not os.path.exists(PROGRAM):
        pytest.skip("needs busybox-static")
    return make_layer(tmp_path_factory.mktemp("busybox"))


@pytest.fixture
def machine(tmp_path: Path, busybox: Path) -> Iterator[Machine]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    root = tmp_path / f"rt-{uuid.uuid4().hex[:8]}"
    root.mkdir()
    yield Machine(root, busybox)
    assert purge(root, root.name) == []
    assert str(root) not in Path("/proc/self/mountinfo").read_text()
    assert not list(Path("/sys/fs/cgroup").glob(f"*/tiphys/{root.name}"))
