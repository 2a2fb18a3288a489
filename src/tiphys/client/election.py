"""One of several replicas does the work: election by a Lease, renewed while the work runs.

As client-go's leaderelection: who holds the lease renews it every `retry` seconds; others take it over when they have
seen no renewal for `lease` seconds by their own clock, so that clocks may differ between machines.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tiphys.base.clock import Clock, rfc3339_micro
from tiphys.base.errors import ApiError, NotFound, TiphysError
from tiphys.client.resources import LEASES
from tiphys.client.types import Client, Object

log = logging.getLogger(__name__)


class LeadershipLost(TiphysError):
    """The lease could not be renewed in time; the work has been stopped."""


@dataclass(frozen=True, slots=True)
class ElectionConfig:
    """Which lease, who we are, and upstream's default durations in seconds."""

    name: str
    identity: str
    namespace: str = "kube-system"
    lease: float = 15.0
    renew: float = 10.0
    retry: float = 2.0


class Election:
    """Takes part in one election."""

    def __init__(self, client: Client, clock: Clock, config: ElectionConfig) -> None:
        self._client = client
        self._clock = clock
        self._config = config
        self._seen: Object = {}
        self._seen_at = 0.0

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait to be elected, run `work`, give the lease back. Raises LeadershipLost."""
        while not await self._try():
            await self._clock.sleep(self._config.retry)
        log.info("%s became leader of %s", self._config.identity, self._config.name)
        try:
            async with asyncio.TaskGroup() as tasks:
                renewal = tasks.create_task(self._renew(), name=f"lease {self._config.name}")
                await work()
                renewal.cancel()
        except* LeadershipLost as lost:
            raise LeadershipLost(f"lost the lease {self._config.name}") from lost
        finally:
            await self._release()

    async def _renew(self) -> None:
        renewed = self._clock.monotonic()
        while True:
            await self._clock.sleep(self._config.retry)
            if await self._try():
                renewed = self._clock.monotonic()
            elif self._clock.monotonic() - renewed >= self._config.renew:
                raise LeadershipLost(f"could not renew the lease {self._config.name}")

    async def _try(self) -> bool:
        """Take or renew the lease; whether it is ours now. Errors of the API mean no."""
        try:
            return await self._take()
        except (ApiError, OSError) as error:
            log.debug("lease %s: %s", self._config.name, error)
            return False

    async def _take(self) -> bool:
        config = self._config
        try:
            lease = await self._client.get(LEASES, config.name, config.namespace)
        except NotFound:
            await self._client.create(LEASES, self._lease({}, {}), config.namespace)
            return True
        spec = lease.get("spec") or {}
        if spec != self._seen:
            self._seen, self._seen_at = spec, self._clock.monotonic()
        holder = spec.get("holderIdentity") or ""
        patience = float(spec.get("leaseDurationSeconds") or config.lease)
        if holder not in ("", config.identity) and self._clock.monotonic() - self._seen_at < patience:
            return False
        updated = await self._client.update(LEASES, self._lease(lease["metadata"], spec), config.namespace)
        self._seen, self._seen_at = updated.get("spec") or {}, self._clock.monotonic()
        return True

    def _lease(self, metadata: Object, spec: Object) -> dict[str, Any]:
        config = self._config
        now = rfc3339_micro(self._clock.time())
        ours = spec.get("holderIdentity") == config.identity
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {**metadata, "name": config.name, "namespace": config.namespace},
            "spec": {
                **spec,
                "holderIdentity": config.identity,
                "leaseDurationSeconds": round(config.lease),
                "acquireTime": spec["acquireTime"] if ours and spec.get("acquireTime") else now,
                "renewTime": now,
                "leaseTransitions": int(spec.get("leaseTransitions") or 0) + (0 if ours or not spec else 1),
            },
        }

    async def _release(self) -> None:
        """Let the next one in at once; if that fails they wait for the lease to run out."""
        config = self._config
        try:
            lease = await self._client.get(LEASES, config.name, config.namespace)
            spec = lease.get("spec") or {}
            if spec.get("holderIdentity") != config.identity:
                return
            released = {**lease, "spec": {**spec, "holderIdentity": "", "leaseDurationSeconds": 1}}
            await self._client.update(LEASES, released, config.namespace)
        except (ApiError, OSError) as error:
            log.debug("lease %s was not released: %s", config.name, error)
