"""Memory of a full node: what Tiphys itself takes while a node holds many pods, on the current kubectl context.

    python bench/node_memory.py --home TIPHYS_HOME [--pods 110] [--image busybox]

Counted is the proportional set size (pages that several processes share are counted once) of the processes of the
cluster at TIPHYS_HOME: control plane, kubelet, helper, and each pod's shims and pause process; not what containers run.
The target: under 150 MB beyond 3 MB a pod.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from pods import CLOCK, batch, delete

from tiphys.client.config import load
from tiphys.client.https import HttpsClient

POD, TARGET = 3.0, 150.0
"""Megabytes a pod, and for all else."""


def processes(home: str) -> Iterator[tuple[str, int]]:
    """Name and pid of each process that is Tiphys' own."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            environment = (entry / "environ").read_bytes().decode(errors="replace")
            if words[0] == "/pause" and home in environment:
                yield "pause", int(entry.name)
            elif "tiphys.runtime.helper" in "".join(words) and home in " ".join(words):
                yield (entry / "comm").read_text().strip(), int(entry.name)
            elif "tiphys" in words and f"TIPHYS_HOME={home}" in environment.split("\0"):
                yield " ".join(words[words.index("tiphys") : words.index("tiphys") + 3]), int(entry.name)


def memory(pid: int) -> float:
    """Megabytes, shared pages divided among those who share them."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def measure(home: str) -> dict[str, tuple[int, float]]:
    """Count and megabytes by name."""
    found: dict[str, list[float]] = defaultdict(list)
    for name, pid in processes(home):
        found[name].append(memory(pid))
    return {name: (len(sizes), sum(sizes)) for name, sizes in sorted(found.items())}


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", default=os.environ.get("TIPHYS_HOME", str(Path.home() / ".tiphys")))
    parser.add_argument("--pods", type=int, default=110)
    parser.add_argument("--image", default="busybox")
    options = parser.parse_args()
    client = HttpsClient(load())
    names = [f"bench-memory-{number}" for number in range(options.pods)]
    before = measure(options.home)
    try:
        await batch(client, names, options.image)
        await CLOCK.sleep(2.0)
        after = measure(options.home)
    finally:
        await delete(client, names)
        await client.close()
    for name, (count, size) in after.items():
        print(f"{name:32} {count:4} processes {size:7.1f} MB   (before: {before.get(name, (0, 0.0))[1]:.1f} MB)")
    total = sum(size for _, size in after.values())
    print(f"{total:.0f} MB in all; {total - POD * options.pods:.0f} beyond {POD:.0f} MB a pod (target: {TARGET:.0f})")


if __name__ == "__main__":
    asyncio.run(main())
