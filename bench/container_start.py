"""Container start on this machine: milliseconds to exec, starts per second, memory of a shim. Needs root.

PYTHONPATH=src python bench/container_start.py [--count 100]
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import tempfile
from pathlib import Path
from time import perf_counter

from tiphys.runtime.cleanup import purge
from tiphys.runtime.linux import LinuxRuntime
from tiphys.runtime.types import ContainerEvent, ContainerSpec, SandboxSpec, State
from tiphys.testing.busybox import BusyboxImages, make_layer


def private_kilobytes(pid: int) -> int:
    """Memory that the process shares with nobody."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return sum(int(fields[name].split()[0]) for name in ("Private_Clean", "Private_Dirty"))


async def one(runtime: LinuxRuntime, id: str, *argv: str) -> float:
    await runtime.create_container(ContainerSpec(id, "bench", "busybox", argv))
    began = perf_counter()
    await runtime.start_container(id)
    return perf_counter() - began


async def ended(runtime: LinuxRuntime, count: int, go: asyncio.Event) -> None:
    events = runtime.events()
    go.set()
    while count:
        event: ContainerEvent = await anext(events)
        count -= event.state is State.EXITED


async def measure(root: Path, images: BusyboxImages, count: int) -> dict[str, float]:
    out: dict[str, float] = {}
    async with LinuxRuntime(root, images) as runtime:
        began = perf_counter()
        await runtime.create_sandbox(SandboxSpec("first", network="none"))
        out["first sandbox, with the helper's start (ms)"] = (perf_counter() - began) * 1000
        began = perf_counter()
        sandbox = await runtime.create_sandbox(SandboxSpec("bench", network="none"))
        out["sandbox (ms)"] = (perf_counter() - began) * 1000
        times = [await one(runtime, f"one-{number}", "true") for number in range(count)]
        out["start to exec, median (ms)"] = statistics.median(times) * 1000
        go = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(ended(runtime, count, go))
            await go.wait()
            began = perf_counter()
            for number in range(count):
                group.create_task(one(runtime, f"many-{number}", "true"))
        out["run to the end at once (containers/s)"] = count / (perf_counter() - began)
        await one(runtime, "idle", "sleep", "1000")
        began = perf_counter()
        for _ in range(count):
            await runtime.exec_sync("idle", ["true"], 10)
        out["exec to its end (ms)"] = (perf_counter() - began) * 1000 / count
        out["private memory of a shim (KiB)"] = private_kilobytes(runtime._record("idle").state["shim"])
        out["private memory of a pause process (KiB)"] = private_kilobytes(sandbox.pid)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    count = parser.parse_args().count
    root = Path(tempfile.mkdtemp(prefix="tiphys-bench-"))
    try:
        images = BusyboxImages([make_layer(root / "layer")])
        for name, value in asyncio.run(measure(root / "runtime", images, count)).items():
            print(f"{name:45} {value:10.1f}")
    finally:
        print(*purge(root / "runtime", "runtime"), sep="\n")
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
