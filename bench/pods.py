"""How fast pods run: one after the other, and many at once, on the current kubectl context.

    python bench/pods.py [--one N] [--many M] [--rounds R] [--image IMAGE]

For each of N pods, created one after the other: milliseconds from the create's start until a watch shows it Running.
Then M pods at once, R times: seconds from the first create until all are Running, and the CPU time that the whole
machine but this script used meanwhile. The image must be present on the node. Works against any cluster (kind, k3s
...): the same load, the same client; `upstream_node.py` makes one of upstream's parts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

from tiphys.base.clock import SystemClock
from tiphys.base.errors import NotFound
from tiphys.client.config import load
from tiphys.client.https import HttpsClient
from tiphys.client.resources import PODS
from tiphys.client.types import Client

CLOCK = SystemClock()
LABEL = "bench=pods"


def pod(name: str, image: str) -> dict[str, Any]:
    container = {"name": "c", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "3600"]}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    meta = {"name": name, "namespace": "default", "labels": {"bench": "pods"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


async def running(client: Client, version: str, names: set[str]) -> float:
    """When the last of `names` was seen Running, by the monotonic clock."""
    async for event in client.watch(PODS, "default", labels=LABEL, resource_version=version):
        if event.type != "BOOKMARK" and (event.object.get("status") or {}).get("phase") == "Running":
            names.discard(event.object["metadata"]["name"])
            if not names:
                break
    return CLOCK.monotonic()


async def batch(client: Client, names: list[str], image: str) -> float:
    """Seconds until all of `names` run."""
    version = (await client.list(PODS, "default", labels=LABEL)).resource_version
    start = CLOCK.monotonic()
    async with asyncio.TaskGroup() as tasks:
        seen = tasks.create_task(running(client, version, set(names)))
        for name in names:
            tasks.create_task(client.create(PODS, pod(name, image), "default"))
    return seen.result() - start


def busy() -> float:
    """Seconds of CPU time that the machine has spent on anything but this script, from its start on."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:8])
    own = os.times()
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK") - own.user - own.system


async def gone(client: Client) -> None:
    """Wait until all pods of this script are removed."""
    while (await client.list(PODS, "default", labels=LABEL)).items:
        await CLOCK.sleep(0.2)
    await CLOCK.sleep(1.0)


async def at_once(client: Client, count: int, image: str, round: int) -> None:
    names = [f"bench-many-{round}-{i}" for i in range(count)]
    used = busy()
    try:
        seconds = await batch(client, names, image)
        await CLOCK.sleep(0.5)  # whatever is still to be written of them
        print(f"{count} pods    {seconds:6.2f} s   ({busy() - used:.2f} s of CPU time)", flush=True)
    finally:
        await delete(client, names)


async def delete(client: Client, names: list[str]) -> None:
    for name in names:
        with contextlib.suppress(NotFound):
            await client.delete(PODS, name, "default", grace_seconds=0)
    await gone(client)


def quantile(times: list[float], part: float) -> float:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", type=int, default=20)
    parser.add_argument("--many", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--image", default="busybox")
    options = parser.parse_args()
    client = HttpsClient(load())
    names = [f"bench-one-{i}" for i in range(options.one)]
    times: list[float] = []
    try:
        try:
            for name in names:
                times += [1000 * await batch(client, [name], options.image)]
        finally:
            await delete(client, names)
        print(
            f"one pod    {quantile(times, 0.5):6.0f} ms   (p99 {quantile(times, 0.99):.0f}, min {min(times):.0f})",
            flush=True,
        )
        for round in range(options.rounds):
            await at_once(client, options.many, options.image, round)
    finally:
        await client.close()


if __name__ == "__main__":
    asyncio.run(main())
