"""What a node's network may read, in new clusters and in those from before."""

from __future__ import annotations

import asyncio

import pytest

from tiphys.base.clock import SystemClock
from tiphys.base.errors import Forbidden
from tiphys.base.identity import User
from tiphys.client.resources import NAMESPACES, NETWORK_POLICIES, PODS, SECRETS
from tiphys.cluster import network_role
from tiphys.testing.cluster import Cluster

NODE = User(network_role.NETWORK_USER, groups=("system:node-proxier", "system:authenticated"))


def test_the_role_is_made_and_mended_and_grants_no_more_than_policies_need() -> None:
    async def scenario() -> None:
        async with Cluster(SystemClock(), nodes=0, controllers="", binder="") as cluster:
            client, node = cluster.client, cluster.connect(NODE)
            with pytest.raises(Forbidden):
                await node.list(PODS)
            await network_role.ensure(cluster.server.handler)
            made = await client.get(network_role.ROLES, network_role.NAME)
            for resource in (PODS, NAMESPACES, NETWORK_POLICIES):
                await node.list(resource)
            with pytest.raises(Forbidden):
                await node.list(SECRETS)
            await network_role.ensure(cluster.server.handler)
            assert await client.get(network_role.ROLES, network_role.NAME) == made
            await client.update(network_role.ROLES, {**made, "rules": []})
            await client.delete(network_role.BINDINGS, network_role.NAME)
            await network_role.ensure(cluster.server.handler)
            await node.list(PODS)

    asyncio.run(scenario())
