"""Controllers that speak as service accounts get tokens for them, in time, and the accounts if need be."""

from __future__ import annotations

from typing import Any

from tiphys.base.errors import Unauthorized
from tiphys.base.identity import User
from tiphys.client.calls import Call
from tiphys.client.local import LocalClient
from tiphys.client.resources import CONFIG_MAPS, SERVICE_ACCOUNTS
from tiphys.cluster.account_clients import AccountClient
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import MANAGER, Cluster


class _Bearer(LocalClient):
    """Stands for a client over HTTPS with a token: some are refused."""

    def __init__(self, cluster: Cluster, refused: set[str], token: str) -> None:
        super().__init__(cluster.server.handler, User("kubernetes-admin", groups=("system:masters",)), agent="test")
        self.token, self.refused, self.closed = token, refused, False

    async def exchange(self, call: Call) -> Any:
        if self.token in self.refused:
            raise Unauthorized("Unauthorized")
        return await super().exchange(call)

    async def close(self) -> None:
        self.closed = True


def run(scenario: Any) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with Cluster(clock, nodes=0, controllers="namespace-controller") as cluster:
            made: list[_Bearer] = []
            refused: set[str] = set()

            def make(token: str) -> _Bearer:
                made.append(_Bearer(cluster, refused, token))
                return made[-1]

            client = AccountClient(cluster.connect(MANAGER), make, clock, "kube-system", "job-controller")
            await scenario(cluster, client, made, refused)
            await client.close()
            assert made[-1].closed

    clock.run(main())


def test_a_missing_account_is_made_and_its_token_used_until_most_of_its_life_is_over() -> None:
    async def scenario(cluster: Cluster, client: AccountClient, made: list[_Bearer], refused: set[str]) -> None:
        await client.list(CONFIG_MAPS)
        assert await cluster.client.get(SERVICE_ACCOUNTS, "job-controller", "kube-system")
        await cluster.clock.sleep(2800)
        await client.list(CONFIG_MAPS)
        assert len(made) == 1
        await cluster.clock.sleep(100)
        await client.list(CONFIG_MAPS)
        assert len(made) == 2
        assert made[0].token != made[1].token
        assert not made[0].closed  # a request may still be on its way
        await cluster.clock.sleep(3000)
        await client.list(CONFIG_MAPS)
        assert made[0].closed

    run(scenario)


def test_a_token_that_is_refused_is_replaced() -> None:
    async def scenario(cluster: Cluster, client: AccountClient, made: list[_Bearer], refused: set[str]) -> None:
        await client.list(CONFIG_MAPS)
        refused.add(made[0].token)
        await cluster.clock.sleep(1)
        await client.list(CONFIG_MAPS)
        assert len(made) == 2

    run(scenario)
