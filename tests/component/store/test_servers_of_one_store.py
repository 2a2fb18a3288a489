"""The endpoints of the Service default/kubernetes name every API server that lives, and none that does not."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from tiphys.apiserver.app import ApiServer
from tiphys.apiserver.config import ApiServerConfig
from tiphys.apiserver.masters import LIFETIME, Masters
from tiphys.store.memory import MemoryStore
from tiphys.testing.clock import VirtualClock


class SharedStore(MemoryStore):
    """As a store that other servers write to, too."""

    shared = True


def addresses(server: ApiServer) -> list[str]:
    found: Any = server.reader.get("", "endpoints", "default", "kubernetes")
    piece: Any = server.reader.get("discovery.k8s.io", "endpointslices", "default", "kubernetes")
    listed = [address["ip"] for subset in found["subsets"] for address in subset["addresses"]]
    assert listed == [address for endpoint in piece["endpoints"] for address in endpoint["addresses"]]
    return listed


def test_servers_come_and_go() -> None:
    clock, store = VirtualClock(), SharedStore()

    async def main() -> None:
        async with ApiServer(ApiServerConfig(advertise_address="10.0.0.1"), store, clock) as first:
            assert addresses(first) == ["10.0.0.1"]
            async with ApiServer(ApiServerConfig(advertise_address="10.0.0.2"), store, clock) as second:
                assert addresses(second) == ["10.0.0.1", "10.0.0.2"]
                await clock.sleep(60)
                assert addresses(first) == addresses(second) == ["10.0.0.1", "10.0.0.2"]
            await clock.sleep(30)
            assert addresses(first) == ["10.0.0.1"]

    clock.run(main())
    clock.close()


def test_a_server_that_was_killed_is_forgotten() -> None:
    clock, store = VirtualClock(), SharedStore()

    async def main() -> None:
        killed, other = Masters(store, clock, ("10.0.0.1", 6443)), Masters(store, clock, ("10.0.0.2", 6443))
        await killed.renew()
        assert await other.renew() == (("10.0.0.1", 6443), ("10.0.0.2", 6443))
        await clock.sleep(LIFETIME + 1)
        assert await other.renew() == (("10.0.0.2", 6443),)

    clock.run(main())
    clock.close()


def test_a_server_with_its_own_store_writes_nothing() -> None:
    clock, store = VirtualClock(), MemoryStore()

    async def main() -> None:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(
                ApiServer(ApiServerConfig(advertise_address="10.0.0.1"), store, clock)
            )
            assert addresses(server) == ["10.0.0.1"]
            before = await store.revision()
            await clock.sleep(100)
            assert await store.revision() == before

    clock.run(main())
    clock.close()
