"""The kernel tells when memory becomes scarce: in a cgroup of our own, made to cross a threshold."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tiphys.api.quantity import parse
from tiphys.base.clock import SystemClock
from tiphys.kubelet.eviction.figures import NodeFigures, Room
from tiphys.kubelet.eviction.notify import MemoryWatch
from tiphys.kubelet.eviction.signals import ALLOCATABLE_MEMORY, Amount, Threshold
from tiphys.runtime.cgroups import Layout, detect

pytestmark = pytest.mark.e2e
MIB = 1 << 20


@pytest.fixture
def group() -> Iterator[tuple[Layout, str]]:
    layout = detect()
    if layout.v2 or "memory" not in layout.v1:
        pytest.skip("thresholds of memory are cgroup v1's")
    name = f"tiphys-notify-{os.getpid()}"
    directory = Path(layout.v1["memory"], name)
    directory.mkdir()
    yield layout, name
    directory.rmdir()


def test_a_threshold_that_is_crossed_wakes(group: tuple[Layout, str]) -> None:
    layout, name = group
    program = (
        "import sys; sys.stdin.readline(); x = bytearray(64 << 20); "
        "x[::4096] = b'x' * len(x[::4096]); print('full', flush=True); sys.stdin.readline()"
    )

    async def scenario() -> None:
        woken = asyncio.Event()
        threshold = Threshold(ALLOCATABLE_MEMORY, Amount(parse("100Mi")))
        watch = MemoryWatch(layout, "", name, [threshold], woken.set)
        with subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            Path(layout.v1["memory"], name, "cgroup.procs").write_text(str(process.pid))
            watch.update(NodeFigures(allocatable=Room(available=132 * MIB, capacity=132 * MIB)))
            watch.update(NodeFigures(allocatable=Room(available=132 * MIB, capacity=132 * MIB)))
            await SystemClock().sleep(0)
            assert not woken.is_set()
            process.stdin.write("go\n")
            process.stdin.flush()
            assert process.stdout.readline() == "full\n"
            await asyncio.wait_for(woken.wait(), 5)
            process.stdin.write("end\n")
        watch.close()

    asyncio.run(scenario())
