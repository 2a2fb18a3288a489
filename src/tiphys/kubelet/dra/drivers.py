"""Registered DRA drivers: how each is reached, and what it says of the health of its devices."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tiphys.base.clock import Clock
from tiphys.base.grpc.client import Channel
from tiphys.base.grpc.types import Code, RpcError
from tiphys.kubelet.dra import protocol
from tiphys.kubelet.dra.claims import Claim, ClaimError

log = logging.getLogger(__name__)

CALL_TIMEOUT = 45.0
_HEALTH_RETRY = 5.0
_HEALTH_TIMEOUT = 30.0
_LONGEST_MESSAGE = 1024
_HEALTH = {1: "Healthy", 2: "Unhealthy"}

Health = tuple[str, str]
"""(Healthy, Unhealthy or Unknown; message)"""
Key = tuple[str, str, str]
"""(driver, pool, device)"""


def _quoted(services: Iterable[str]) -> str:
    return "[" + " ".join(f'"{one}"' for one in services) + "]"


def choose(services: Sequence[str]) -> str:
    """The service to speak: the driver's first that is known here. Raises ClaimError."""
    if not services:
        raise ClaimError("empty list of supported gRPC services (aka supported versions)")
    for service in services:
        if service in protocol.SERVICES:
            return service
    ours = f"supported by the kubelet ({_quoted(protocol.SERVICES)})"
    raise ClaimError(f"none of services supported by the plugin ({_quoted(services)}) are {ours}")


class Driver:
    """One plugin of a driver."""

    def __init__(self, name: str, endpoint: str, service: str) -> None:
        self.name = name
        self.endpoint = endpoint
        self.service = service
        self.channel = Channel(endpoint)
        self.watching: asyncio.Task[None] | None = None

    async def prepare(self, claims: Sequence[Claim]) -> dict[str, list[dict[str, Any]]]:
        """Devices by claim UID. Raises ClaimError."""
        reply = await self._call("NodePrepareResources", claims)
        return {uid: result["devices"] for uid, result in reply.items()}

    async def unprepare(self, claims: Sequence[Claim]) -> None:
        """Raises ClaimError."""
        await self._call("NodeUnprepareResources", claims)

    async def _call(self, what: str, claims: Sequence[Claim]) -> Mapping[str, Any]:
        make = protocol.prepare if what == "NodePrepareResources" else protocol.unprepare
        request = {"claims": [{"namespace": one.namespace, "uid": one.uid, "name": one.name} for one in claims]}
        try:
            reply = await self.channel.call(make(self.service), request, timeout=CALL_TIMEOUT)
        except RpcError as error:
            raise ClaimError(f"{what}: {error}") from error
        names = {one.uid: one.name for one in claims}
        answers: Mapping[str, Any] = reply["claims"]
        for uid, result in answers.items():
            if uid not in names:
                raise ClaimError(f"{what} returned result for unknown claim UID {uid}")
            if result["error"]:
                raise ClaimError(f"{what} failed for ResourceClaim {names[uid]}: {result['error']}")
        if len(answers) != len(names):
            raise ClaimError(f"{what} skipped {len(names) - len(answers)} ResourceClaims")
        return answers

    def close(self) -> None:
        if self.watching is not None:
            self.watching.cancel()
        self.channel.close()


class Drivers:
    """A PluginHandler for DRAPlugin. `changed(keys)` is told of devices whose health is another now."""

    def __init__(self, clock: Clock, changed: Callable[[set[Key]], None], gone: Callable[[str], None]) -> None:
        self._clock = clock
        self._changed = changed
        self._gone = gone
        self._drivers: dict[str, list[Driver]] = {}
        self._health: dict[Key, tuple[Health, float]] = {}
        """With the moment until which it holds."""
        self.group: asyncio.TaskGroup | None = None

    def get(self, name: str) -> Driver:
        """The one that registered last. Raises ClaimError."""
        if found := self._drivers.get(name):
            return found[-1]
        raise ClaimError(f"DRA driver {name} is not registered")

    def has(self, name: str) -> bool:
        return bool(self._drivers.get(name))

    def validate(self, name: str, endpoint: str, versions: Sequence[str]) -> None:
        try:
            choose(versions)
        except ClaimError as error:
            where = f"invalid supported gRPC versions of DRA driver plugin {name} at endpoint {endpoint}"
            raise ClaimError(f"{where}: {error}") from error

    async def register(self, name: str, endpoint: str, versions: Sequence[str]) -> None:
        known = self._drivers.setdefault(name, [])
        if any(one.endpoint == endpoint for one in known):
            raise ClaimError(f"endpoint {endpoint} already registered for DRA driver plugin {name}")
        driver = Driver(name, endpoint, choose(versions))
        known.append(driver)
        if self.group is not None:
            driver.watching = self.group.create_task(self._follow_health(driver), name=f"health of {name}")

    def deregister(self, name: str, endpoint: str) -> None:
        left = self._drivers.pop(name, [])
        for driver in left:
            if driver.endpoint == endpoint:
                driver.close()
        left = [driver for driver in left if driver.endpoint != endpoint]
        if left:
            self._drivers[name] = left
        else:
            self._forget_health(name)
            self._gone(name)

    def close(self) -> None:
        for drivers in self._drivers.values():
            for driver in drivers:
                driver.close()

    # --- health

    def health(self, key: Key) -> Health:
        """Unknown when the driver does not tell, or has not for too long."""
        found = self._health.get(key)
        if found is None or found[1] < self._clock.monotonic():
            return ("Unknown", "")
        return found[0]

    async def _follow_health(self, driver: Driver) -> None:
        """As long as the driver tells; one that cannot is not asked again."""
        while True:
            try:
                await driver.channel.follow(
                    protocol.WATCH_HEALTH, {}, lambda reply: self._take(driver.name, reply["devices"])
                )
            except RpcError as error:
                if error.code is Code.UNIMPLEMENTED:
                    return
                log.info("health of devices of %s: %s", driver.name, error)
            self._forget_health(driver.name)
            await self._clock.sleep(_HEALTH_RETRY)

    def _take(self, driver: str, devices: Iterable[Mapping[str, Any]]) -> None:
        touched: set[Key] = set()
        for entry in devices:
            device = entry["device"] or {"pool_name": "", "device_name": ""}
            key = (driver, device["pool_name"], device["device_name"])
            health = (_HEALTH.get(entry["health"], "Unknown"), _shortened(entry["message"]))
            seconds = entry["health_check_timeout_seconds"]
            until = self._clock.monotonic() + (seconds if seconds > 0 else _HEALTH_TIMEOUT)
            if self.health(key) != health:
                touched.add(key)
            self._health[key] = (health, until)
        if touched:
            self._changed(touched)

    def _forget_health(self, driver: str) -> None:
        gone = {key for key in self._health if key[0] == driver}
        for key in gone:
            del self._health[key]
        if gone:
            self._changed(gone)


def _shortened(message: str) -> str:
    return message if len(message) <= _LONGEST_MESSAGE else message[: _LONGEST_MESSAGE - 3] + "..."
