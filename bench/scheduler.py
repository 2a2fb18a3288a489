"""Pods created and bound per second on a cluster of many nodes: API server, store and scheduler in one process.

    python bench/scheduler.py [--nodes 1000] [--pods 3000] [--store sqlite|memory] [--workloads 10] [--profile]

The clock starts with the first POST and stops when the last pod has its node. Nodes are objects without kubelets. The
pods are those of so many workloads: each has its own labels and resource requests.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from tiphys.apiserver.app import ApiServer
from tiphys.apiserver.config import ApiServerConfig
from tiphys.base.clock import SystemClock
from tiphys.base.identity import User
from tiphys.client.local import LocalClient
from tiphys.client.resources import NODES, PODS, SERVICE_ACCOUNTS
from tiphys.client.types import Client
from tiphys.scheduler.app import Scheduler
from tiphys.store.memory import MemoryStore
from tiphys.store.sqlite import SqliteStore
from tiphys.store.types import Store

ADMIN = User("kubernetes-admin", groups=("system:masters", "system:authenticated"))
SCHEDULER = User("system:kube-scheduler", groups=("system:authenticated",))
CONNECTIONS = 32


def node(number: int) -> dict[str, Any]:
    name = f"node-{number:04}"
    labels = {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": f"zone-{number % 3}"}
    room = {"cpu": "8", "memory": "32Gi", "pods": "110"}
    status = {"allocatable": room, "capacity": room, "conditions": [{"type": "Ready", "status": "True"}]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "status": status}


def pod(number: int, workloads: int) -> dict[str, Any]:
    workload = number % workloads
    resources = {"requests": {"cpu": f"{100 + workload}m", "memory": "100Mi"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"pod-{number}", "namespace": "default", "labels": {"app": f"web-{workload}"}},
        "spec": {"containers": [{"name": "web", "image": "nginx", "resources": resources}]},
    }


async def all_bound(client: Client, count: int) -> None:
    bound: set[str] = set()
    listing = await client.list(PODS)
    async for event in client.watch(PODS, resource_version=listing.resource_version, bookmarks=False):
        if event.object["spec"].get("nodeName"):
            bound.add(event.object["metadata"]["name"])
        if len(bound) == count:
            return


async def spread_out(client: Client, resource: Any, objects: list[dict[str, Any]]) -> None:
    """Create the objects over as many connections as a load generator would use."""
    left = iter(objects)

    async def connection() -> None:
        for obj in left:
            await client.create(resource, obj)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(CONNECTIONS):
            tasks.create_task(connection())


async def measure(options: argparse.Namespace, store: Store) -> float:
    """Seconds from the first create to the last binding."""
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(ApiServer(ApiServerConfig(), store, clock))
        client = LocalClient(server.handler, ADMIN)
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": "default"},
        }
        await client.create(SERVICE_ACCOUNTS, account)
        await spread_out(client, NODES, [node(number) for number in range(options.nodes)])
        for created in (await client.list(NODES)).items:  # new nodes are tainted until they are ready
            await client.update(NODES, {**created, "spec": {}})
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        scheduler = Scheduler(LocalClient(server.handler, SCHEDULER), clock)
        running = tasks.create_task(scheduler.run())
        done = tasks.create_task(all_bound(client, options.pods))
        await clock.sleep(0.5)
        start = clock.monotonic()
        await spread_out(client, PODS, [pod(number, options.workloads) for number in range(options.pods)])
        posted = clock.monotonic() - start
        await done
        seconds = clock.monotonic() - start
        running.cancel()
        print(f"{options.pods / posted:8.0f} pods/s created, {options.pods / seconds:.0f} pods/s created and bound")
    return seconds


async def main(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store: Store = MemoryStore() if options.store == "memory" else SqliteStore.open(Path(folder) / "db")
        try:
            await measure(options, store)
        finally:
            await store.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=3000)
    parser.add_argument("--workloads", type=int, default=10)
    parser.add_argument("--store", choices=("sqlite", "memory"), default="sqlite")
    parser.add_argument("--profile", action="store_true")
    chosen = parser.parse_args()
    if chosen.profile:
        with cProfile.Profile() as profile:
            asyncio.run(main(chosen))
        pstats.Stats(profile).sort_stats("cumulative").print_stats(45)
    else:
        import uvloop

        uvloop.run(main(chosen))
