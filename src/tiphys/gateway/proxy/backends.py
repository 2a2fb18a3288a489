"""The endpoints behind each backend, in turn, and the connections to them that wait for work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from tiphys.gateway.model import BackendKey

MAX_IDLE = 64
"""Connections to one endpoint kept without work."""
IDLE_SECONDS = 30.0


class Idle(Protocol):
    """A connection in the pool."""

    idle_for: float

    @property
    def closed(self) -> bool: ...

    def abort(self) -> None: ...


Address = tuple[str, int]


class Endpoint:
    """One address of backends; the same for all that name it."""

    __slots__ = ("address", "gone", "idle")

    def __init__(self, address: Address) -> None:
        self.address = address
        self.idle: dict[bool, list[Idle]] = {False: [], True: []}
        """By whether they speak TLS."""
        self.gone = False

    def take(self, tls: bool) -> Idle | None:
        """A connection that nobody uses, the latest used first."""
        pool = self.idle[tls]
        while pool:
            connection = pool.pop()
            if not connection.closed:
                return connection
        return None

    def put_back(self, connection: Idle, tls: bool) -> None:
        if self.gone or len(self.idle[tls]) >= MAX_IDLE:
            connection.abort()
        else:
            connection.idle_for = 0.0
            self.idle[tls].append(connection)

    def tick(self, seconds: float) -> None:
        """Close what has not been used for a while."""
        for pool in self.idle.values():
            for connection in tuple(pool):
                connection.idle_for += seconds
                if connection.closed or connection.idle_for >= IDLE_SECONDS:
                    pool.remove(connection)
                    connection.abort()

    def close(self) -> None:
        """No new requests; those that run may end."""
        self.gone = True
        for pool in self.idle.values():
            for connection in pool:
                connection.abort()
            pool.clear()


class Backends:
    """All endpoints, by backend."""

    def __init__(self) -> None:
        self._endpoints: dict[Address, Endpoint] = {}
        self._by_key: dict[BackendKey, tuple[Endpoint, ...]] = {}
        self._turn: dict[BackendKey, int] = {}

    def set(self, wanted: Mapping[BackendKey, Iterable[Address]]) -> None:
        """These and no others; connections to endpoints that stay are kept."""
        by_key: dict[BackendKey, tuple[Endpoint, ...]] = {}
        kept: dict[Address, Endpoint] = {}
        for key, addresses in wanted.items():
            endpoints = []
            for address in addresses:
                endpoint = kept.get(address) or self._endpoints.get(address) or Endpoint(address)
                kept[address] = endpoint
                endpoints.append(endpoint)
            by_key[key] = tuple(endpoints)
        for address, endpoint in self._endpoints.items():
            if address not in kept:
                endpoint.close()
        self._endpoints, self._by_key = kept, by_key
        self._turn = {key: turn for key, turn in self._turn.items() if key in by_key}

    def of(self, key: BackendKey) -> tuple[Endpoint, ...]:
        """In the order in which they are to be tried: another one is first each time."""
        endpoints = self._by_key.get(key, ())
        if len(endpoints) < 2:
            return endpoints
        turn = self._turn.get(key, -1) + 1
        turn = 0 if turn >= len(endpoints) else turn
        self._turn[key] = turn
        return endpoints[turn:] + endpoints[:turn]

    def tick(self, seconds: float) -> None:
        for endpoint in self._endpoints.values():
            endpoint.tick(seconds)

    @property
    def idle(self) -> bool:
        """Whether no connection waits in any pool."""
        return not any(pool for endpoint in self._endpoints.values() for pool in endpoint.idle.values())

    def close(self) -> None:
        self.set({})
