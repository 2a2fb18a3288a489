"""The way into a cluster from its machine: what the control plane's process does for the host's own network.

Published ports lead to Services; the service proxy in its role for the host lets addresses of load balancers and
Services answer here. All of it is in the kernel and stays when this process ends: `closing.close` takes it away.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tiphys.base.clock import Clock
from tiphys.base.identity import User
from tiphys.client.informer import InformerFactory
from tiphys.client.local import LocalClient
from tiphys.cluster import config as configs
from tiphys.cluster.config import ClusterConfig
from tiphys.cluster.ports import desk, manage
from tiphys.cluster.ports.published import PublishedPort
from tiphys.cluster.ports.publisher import Publisher

if TYPE_CHECKING:
    from tiphys.apiserver.app import ApiServer

PROXY = User("system:kube-proxy", groups=("system:node-proxier", "system:authenticated"))


async def run(config: ClusterConfig, server: ApiServer, clock: Clock) -> None:
    """Serve until cancelled."""
    client = LocalClient(server.handler, PROXY, agent="kube-proxy")

    def published() -> tuple[PublishedPort, ...]:
        return manage.of(configs.existing(config.name))

    async with InformerFactory(client, clock) as informers, asyncio.TaskGroup() as tasks:
        publisher = Publisher(manage.place(config), published, informers, clock, tasks)
        tasks.create_task(publisher.run(), name="published ports")
        tasks.create_task(desk.serve(config.paths.run / desk.NAME, publisher), name="published ports' desk")
