"""One of several replicas does the work: election by a Lease, renewed while the work runs.

As client-go's leaderelection: who holds the lease renews it every `retry` seconds; others take it over when they have
seen no renewal for `lease` seconds by their own clock, so that clocks may differ between machines.

A leader counts its time from when it *began* the last renewal that went well, thus from before anybody else saw it.
After `renew` seconds without another one it stops its work, and a third of `lease` is left before the next one may
start: what a slow clock may lose. A renewal that hangs is given up in time, and a leader that sees another one's name
in the lease stops at once. A process that was suspended finds the time gone when it wakes up: `fenced` clients refuse
to write then, before any timer could have stopped the work.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tiphys.base.clock import Clock, rfc3339_micro
from tiphys.base.errors import ApiError, Conflict, NotFound, Permanent, TiphysError
from tiphys.client.backoff import Backoff
from tiphys.client.events import NORMAL, EventRecorder
from tiphys.client.fence import FencedClient
from tiphys.client.resources import LEASES
from tiphys.client.types import Client, Object

log = logging.getLogger(__name__)

JITTER = 1.2
"""Candidates wait up to this part of `retry` longer, so that they do not ask all at once."""
_RELEASED = 1
"""Seconds that a lease lasts which nobody holds."""


class LeadershipLost(TiphysError):
    """The lease could not be renewed in time; the work has been stopped."""


class _TakenOver(TiphysError):
    """Somebody else holds the lease that was ours."""


@dataclass(frozen=True, slots=True)
class ElectionConfig:
    """Which lease, who we are, and upstream's default durations in seconds."""

    name: str
    identity: str
    namespace: str = "kube-system"
    lease: float = 15.0
    renew: float = 10.0
    retry: float = 2.0

    def check(self) -> None:
        """Raises Permanent, in client-go's words, for durations that would let two lead at once."""
        if self.lease <= self.renew:
            raise Permanent("leaseDuration must be greater than renewDeadline")
        if self.renew <= JITTER * self.retry:
            raise Permanent("renewDeadline must be greater than retryPeriod*JitterFactor")
        if min(self.lease, self.renew, self.retry) <= 0:
            raise Permanent("leaseDuration, renewDeadline and retryPeriod must be greater than zero")
        if not self.identity:
            raise Permanent("Lock identity is empty")


class Election:
    """Takes part in one election. With a `recorder`, an event about the lease names each new leader."""

    def __init__(
        self, client: Client, clock: Clock, config: ElectionConfig, recorder: EventRecorder | None = None
    ) -> None:
        self._client = client
        self._clock = clock
        self._config = config
        self._recorder = recorder
        self._held: Object | None = None
        self._seen: Object = {}
        self._seen_at = 0.0
        self._until = 0.0

    @property
    def name(self) -> str:
        """The lease's."""
        return self._config.name

    @property
    def holds(self) -> bool:
        """Whether the lease is ours for certain, at this moment, by our own clock."""
        return self._held is not None and self._clock.monotonic() < self._until

    def fenced(self, client: Client) -> Client:
        """`client`, but it refuses to write when the lease is not ours for certain."""
        return FencedClient(client, lambda: self.holds)

    async def lead(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait to be elected, run `work`, give the lease back. Raises LeadershipLost, Permanent."""
        self._config.check()
        pause = Backoff(self._config.retry, self._config.retry, JITTER, seed=self._config.identity)
        while not await self._attempt(self._config.renew):
            await self._clock.sleep(pause.delay(0))
        log.info("%s became leader of %s", self._config.identity, self._config.name)
        try:
            await self._work(work)
        finally:
            await self._within(self._config.renew, self._release())

    async def _work(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                others = [tasks.create_task(self._renew(), name=f"lease {self._config.name}")]
                if self._recorder is not None and self._held is not None:
                    others.append(tasks.create_task(self._recorder.run(), name="election events"))
                    message = f"{self._config.identity} became leader"
                    self._recorder.event(self._held, NORMAL, "LeaderElection", message)
                await work()
                for task in others:
                    task.cancel()
        except* LeadershipLost as lost:
            raise LeadershipLost(f"lost the lease {self._config.name}") from lost

    async def _renew(self) -> None:
        """Keep the lease until cancelled. Raises LeadershipLost while it is still ours by everybody's clock."""
        while True:
            left = self._until - self._clock.monotonic()
            await self._clock.sleep(min(self._config.retry, max(left, 0.0)))
            left = self._until - self._clock.monotonic()
            if left <= 0:
                raise LeadershipLost(f"could not renew the lease {self._config.name}")
            if not await self._attempt(left) and self._held is None:
                raise LeadershipLost(f"{self._seen.get('holderIdentity')} holds the lease {self._config.name}")

    async def _attempt(self, seconds: float) -> bool:
        """Try once, in so many seconds at most: one request that hangs must not be the only one."""
        await self._within(min(seconds, self._config.renew / 2), self._try())
        return self.holds

    async def _within(self, seconds: float, call: Awaitable[Any]) -> None:
        """Await `call`, but no longer than so many seconds of our own clock."""
        async with asyncio.TaskGroup() as tasks:
            called = tasks.create_task(_await(call))
            alarm = tasks.create_task(self._clock.sleep(seconds))
            await asyncio.wait((called, alarm), return_when=asyncio.FIRST_COMPLETED)
            called.cancel()
            alarm.cancel()

    async def _try(self) -> bool:
        """Take or renew the lease; whether it is ours now. Errors of the API mean no."""
        started = self._clock.monotonic()
        try:
            self._held = await self._take()
        except _TakenOver:
            self._held = None
            return False
        except (ApiError, OSError) as error:
            log.debug("lease %s: %s", self._config.name, error)
            return False
        self._until = started + self._config.renew
        return True

    async def _take(self) -> Object:
        """The lease, now ours. Raises ApiError, OSError, _TakenOver."""
        config = self._config
        if self._held is not None:
            try:  # nobody else writes it while it is ours
                return self._saw(await self._client.update(LEASES, self._lease(self._held), config.namespace))
            except (Conflict, NotFound) as error:
                log.debug("lease %s is not as we left it: %s", config.name, error)
        try:
            lease = await self._client.get(LEASES, config.name, config.namespace)
        except NotFound:
            return self._saw(await self._client.create(LEASES, self._lease(None), config.namespace))
        spec = lease.get("spec") or {}
        if spec != self._seen:
            self._saw(lease)
        holder = spec.get("holderIdentity") or ""
        patience = float(spec.get("leaseDurationSeconds") or 0)
        if holder not in ("", config.identity) and self._clock.monotonic() - self._seen_at < patience:
            raise _TakenOver(f"{holder} holds the lease {config.name}")
        return self._saw(await self._client.update(LEASES, self._lease(lease), config.namespace))

    def _saw(self, lease: Object) -> Object:
        self._seen, self._seen_at = lease.get("spec") or {}, self._clock.monotonic()
        return lease

    def _lease(self, held: Object | None) -> dict[str, Any]:
        """What the lease shall be, after it was `held`."""
        config = self._config
        spec = (held or {}).get("spec") or {}
        now = rfc3339_micro(self._clock.time())
        ours = spec.get("holderIdentity") == config.identity
        transitions = int(spec.get("leaseTransitions") or 0) + (0 if ours or held is None else 1)
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {**((held or {}).get("metadata") or {}), "name": config.name, "namespace": config.namespace},
            "spec": {
                **spec,
                "holderIdentity": config.identity,
                "leaseDurationSeconds": round(config.lease),
                "acquireTime": spec["acquireTime"] if ours and spec.get("acquireTime") else now,
                "renewTime": now,
                "leaseTransitions": transitions,
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
            now = rfc3339_micro(self._clock.time())
            freed = {"holderIdentity": "", "leaseDurationSeconds": _RELEASED, "renewTime": now, "acquireTime": now}
            await self._client.update(LEASES, {**lease, "spec": {**spec, **freed}}, config.namespace)
        except (ApiError, OSError) as error:
            log.debug("lease %s was not released: %s", config.name, error)


async def _await(call: Awaitable[Any]) -> None:
    await call
