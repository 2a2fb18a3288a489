"""The gateway as a component: connects the proxy with the API until it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tiphys.base.clock import Clock
from tiphys.client.informer import InformerFactory
from tiphys.client.types import Client
from tiphys.gateway.controller import Controller
from tiphys.gateway.proxy.server import running


async def run(client: Client, clock: Clock, addresses: Sequence[str], ready: Callable[[], None]) -> None:
    """Serve on ports of `addresses` until cancelled; `ready` is called when the first plan is in force."""
    async with running(clock) as proxy, InformerFactory(client, clock) as informers, asyncio.TaskGroup() as tasks:
        controller = Controller(client, clock, informers, proxy, addresses)
        tasks.create_task(controller.run(), name="gateway controller")
        await controller.synced.wait()
        ready()
