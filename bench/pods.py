"""How fast pods run: one after the other, and many at once, on the current kubectl context.

    python bench/pods.py [--one N] [--many M] [--image IMAGE]

For each of N pods, created one after the other: milliseconds from the create's start until a watch shows it Running.
Then M pods at once: seconds from the first create until all are Running. The image must be present on the node.
Works against any cluster (kind, k3s ...): the same load, the same client.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from typing import Any

from tiphys.base.clock import SystemClock
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


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", type=int, default=10)
    parser.add_argument("--many", type=int, default=60)
    parser.add_argument("--image", default="busybox")
    options = parser.parse_args()
    client = HttpsClient(load())
    names = [f"bench-one-{i}" for i in range(options.one)]
    many = [f"bench-many-{i}" for i in range(options.many)]
    try:
        times = [1000 * await batch(client, [name], options.image) for name in names]
        print(f"one pod    {statistics.median(times):6.0f} ms   (min {min(times):.0f}, max {max(times):.0f})")
        print(f"{options.many} pods    {await batch(client, many, options.image):6.2f} s")
    finally:
        for name in (*names, *many):
            await client.delete(PODS, name, "default", grace_seconds=0)
        await client.close()


if __name__ == "__main__":
    asyncio.run(main())
