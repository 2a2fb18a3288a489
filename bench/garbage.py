"""How long garbage collection and the end of a namespace take, on any cluster that runs.

    python bench/garbage.py --kubeconfig FILE [--dependents N]

An owner with N dependents (ConfigMaps) is deleted in the background, in the foreground and so that its dependents stay;
then a namespace with N ConfigMaps. Start upstream's manager with --kube-api-qps 5000 --kube-api-burst 10000, unless its
default limits on requests are what you want to measure.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop
from servers import CLOCK

from tiphys.base.errors import NotFound
from tiphys.client.config import load
from tiphys.client.https import HttpsClient
from tiphys.client.informer import Informer, InformerFactory
from tiphys.client.resources import CONFIG_MAPS, NAMESPACES
from tiphys.client.types import Object

WRITERS = 16
PROPAGATIONS = ("Background", "Foreground", "Orphan")


class Bench:
    """The work on one cluster."""

    def __init__(self, client: HttpsClient, maps: Informer, dependents: int) -> None:
        self._client, self._maps, self._dependents = client, maps, dependents
        self._changed = asyncio.Event()
        maps.subscribe(lambda old, new: self._changed.set())

    async def run(self) -> None:
        for propagation in PROPAGATIONS:
            await self._owned(propagation)
        await self._namespace()

    async def _owned(self, propagation: str) -> None:
        space = f"bench-{propagation.lower()}"
        await self._client.create(NAMESPACES, {"kind": "Namespace", "metadata": {"name": space}})
        owner = (await self._make(space, "owner", []))["metadata"]
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["uid"]}
        await self._fill(space, [{**reference, "blockOwnerDeletion": True}])
        kept = propagation == "Orphan"

        def done() -> bool:
            held = [each for each in self._maps.list(space) if each["metadata"]["name"].startswith("one-")]
            return len(held) == (self._dependents if kept else 0) and not any(
                each["metadata"].get("ownerReferences") for each in held
            )

        async def delete() -> None:
            await self._client.delete(CONFIG_MAPS, "owner", space, propagation=propagation)

        await self._measure(f"owner deleted, {propagation}", delete, done)
        await self._client.delete(NAMESPACES, space)

    async def _namespace(self) -> None:
        await self._client.create(NAMESPACES, {"kind": "Namespace", "metadata": {"name": "bench-full"}})
        await self._fill("bench-full", [])

        async def delete() -> None:
            await self._client.delete(NAMESPACES, "bench-full")
            while True:
                try:
                    await self._client.get(NAMESPACES, "bench-full")
                except NotFound:
                    return
                await CLOCK.sleep(0.05)

        await self._measure("namespace deleted", delete, lambda: not self._maps.list("bench-full"))

    async def _make(self, space: str, name: str, references: list[Any]) -> Object:
        meta = {"name": name, "namespace": space, "ownerReferences": references}
        return await self._client.create(CONFIG_MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})

    async def _fill(self, space: str, references: list[Any]) -> None:
        async def write(first: int) -> None:
            for number in range(first, self._dependents, WRITERS):
                await self._make(space, f"one-{number}", references)

        async with asyncio.TaskGroup() as tasks:
            for first in range(WRITERS):
                tasks.create_task(write(first))
        await CLOCK.sleep(3)

    async def _measure(self, what: str, act: Callable[[], Awaitable[None]], done: Callable[[], bool]) -> None:
        begun = CLOCK.monotonic()
        await act()
        while not done():
            self._changed.clear()
            await self._changed.wait()
            await CLOCK.sleep(0.01)
        print(f"{what:32} {self._dependents:7} objects {CLOCK.monotonic() - begun:8.2f} s", flush=True)


async def main(options: argparse.Namespace) -> None:
    client = HttpsClient(load(options.kubeconfig), agent="bench")
    try:
        async with InformerFactory(client, CLOCK) as informers:
            maps = informers.get(CONFIG_MAPS)
            await maps.wait_synced()
            await Bench(client, maps, options.dependents).run()
    finally:
        await client.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--dependents", type=int, default=1000)
    uvloop.run(main(parser.parse_args()))
