"""Keeps a cluster's published ports as its configuration and its objects say: the shell of `backends` and `rules`.

Runs in the control plane's process. The kernel carries connections (a table of the host, which stays when this process
ends), or `forward` does where the kernel cannot. Nothing is watched while nothing is published.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tiphys.base import outside
from tiphys.base.clock import Clock
from tiphys.client.informer import Informer, InformerFactory
from tiphys.client.resources import ENDPOINT_SLICES, NODES, PODS, SERVICES
from tiphys.client.types import Object, Resource
from tiphys.cluster.ports import kernel, rules
from tiphys.cluster.ports.backends import Backends, World, needs_pods, resolve
from tiphys.cluster.ports.choice import Choice
from tiphys.cluster.ports.forward import forward, listen
from tiphys.cluster.ports.published import PublishedPort
from tiphys.cluster.ports.reserve import Sockets, refusal, reserve
from tiphys.cluster.ports.stale import forget

log = logging.getLogger(__name__)

SERVICE_NAME = "kubernetes.io/service-name"


@dataclass(slots=True)
class _Entry:
    """A published port: the sockets that hold it, where it leads now, and who copies its bytes if somebody does."""

    sockets: Sockets = field(default_factory=list)
    error: str = ""
    found: Backends = field(default_factory=Backends)
    choice: Choice = field(default_factory=Choice)
    forwarders: list[asyncio.Task[None]] = field(default_factory=list)

    def close(self) -> None:
        for task in self.forwarders:
            task.cancel()
        for opened in self.sockets:
            opened.close()


class Publisher:
    """`wanted` reads the configuration; `place` is where the kernel's rules go; forwarders run in `group`."""

    def __init__(
        self,
        place: rules.Place,
        wanted: Callable[[], tuple[PublishedPort, ...]],
        informers: InformerFactory,
        clock: Clock,
        group: asyncio.TaskGroup,
    ) -> None:
        self._place, self._wanted, self._informers, self._clock = place, wanted, informers, clock
        self._group = group
        self._entries: dict[PublishedPort, _Entry] = {}
        self._changed = asyncio.Event()
        self._applying = asyncio.Lock()
        self._watched: dict[Resource, Informer] = {}
        self._applied: str | None = None
        self._kernel = not outside.agent()

    async def run(self) -> None:
        """Until cancelled. The kernel's rules stay; the ports are let go of."""
        try:
            while True:
                self._changed.clear()
                try:
                    await self.apply()
                except Exception:
                    log.exception("published ports stay as they are until something changes")
                await self._changed.wait()
        finally:
            for entry in self._entries.values():
                entry.close()

    async def state(self) -> list[dict[str, Any]]:
        """What is published, after another look at the configuration."""
        await self.apply()
        return [self._told(port, entry) for port, entry in self._entries.items()]

    async def apply(self) -> None:
        """Make it as it is to be now."""
        async with self._applying:
            wanted = self._wanted()
            self._hold(wanted)
            await self._watch(wanted)
            world = World(self._all(SERVICES), self._slices, self._all(NODES), self._all(PODS))
            for port, entry in self._entries.items():
                entry.found = Backends(missing=entry.error) if entry.error else resolve(port, world)
                entry.choice.offer(entry.found)
            await self._translate()
            for port, entry in self._entries.items():
                self._forward(port, entry)

    def _hold(self, wanted: tuple[PublishedPort, ...]) -> None:
        for port in [port for port in self._entries if port not in wanted]:
            self._entries.pop(port).close()
        for port in wanted:
            entry = self._entries.setdefault(port, _Entry())
            if entry.sockets:
                continue
            try:
                entry.sockets, error = reserve(port, self._place.inside), ""
            except OSError as failed:
                error = refusal(port, failed)
                if error != entry.error:
                    log.warning("%s", error)
            entry.error = error

    async def _watch(self, wanted: tuple[PublishedPort, ...]) -> None:
        """Informers of what these need; they are shared with whoever else has them here."""
        needed = [SERVICES, ENDPOINT_SLICES] if wanted else []
        needed += [NODES, PODS] if needs_pods(wanted) else []
        for resource in needed:
            if resource not in self._watched:
                informer = self._watched[resource] = self._informers.get(resource)
                informer.subscribe(self._told_of_change)
        for informer in self._watched.values():
            await informer.wait_synced()

    def _told_of_change(self, old: Object | None, new: Object | None) -> None:
        self._changed.set()

    def _all(self, resource: Resource) -> tuple[Object, ...]:
        return tuple(self._watched[resource].list()) if resource in self._watched else ()

    def _slices(self, namespace: str, service: str) -> list[Object]:
        slices = self._watched[ENDPOINT_SLICES].list(namespace)
        return [one for one in slices if (one["metadata"].get("labels") or {}).get(SERVICE_NAME) == service]

    async def _translate(self) -> None:
        held = [(port, entry.found) for port, entry in self._entries.items() if not entry.error]
        text = rules.table(self._place, held) if held else rules.removal(self._place.table)
        if not self._kernel or text == self._applied:
            return
        try:
            await asyncio.to_thread(kernel.apply, self._place, text, any(port.needs_localnet for port, _ in held))
            await asyncio.to_thread(forget, held)
        except OSError as error:
            log.warning("published ports are carried by this process, not by the kernel: %s", error)
            self._kernel = False
        self._applied = text

    def _forward(self, port: PublishedPort, entry: _Entry) -> None:
        if entry.error or entry.forwarders or self._by_kernel(port, entry):
            return
        for opened in entry.sockets:
            listen(opened)
            work = forward(opened, entry.choice, self._clock)
            entry.forwarders.append(self._group.create_task(work, name=f"published port {port}"))

    def _by_kernel(self, port: PublishedPort, entry: _Entry) -> bool:
        return self._kernel and rules.in_kernel(port, entry.found) and not (port.version == 6 and port.everywhere)

    def _told(self, port: PublishedPort, entry: _Entry) -> dict[str, Any]:
        return {
            "port": str(port),
            "way": "kernel" if self._by_kernel(port, entry) else "process",
            "backends": [f"[{ip}]:{number}" if ":" in ip else f"{ip}:{number}" for ip, number in entry.found.backends],
            "error": entry.error,
            "waiting": "" if entry.error else entry.found.missing,
        }
