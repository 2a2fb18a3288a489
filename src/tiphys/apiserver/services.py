"""Cluster IPs and node ports: given out once, held as long as their Service has them.

What is taken is read from the Services themselves, so there is nothing that could get lost or be left over: the
watch cache's changes are followed, and what is being written right now is held in memory until the cache shows it.
Addresses that nobody asked for by name come from the upper band of their range (KEP-3070, KEP-3668), so that the
lower one stays free for those who do. An address is also taken if there is an IPAddress object of its name.
"""

from __future__ import annotations

import ipaddress
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence, Set
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from tiphys.api.kinds.base import invalid
from tiphys.api.kinds.core.service import settle_families
from tiphys.api.kinds.core.service_families import keeps_preference
from tiphys.apiserver.allocation_metrics import DYNAMIC, STATIC, AllocationMetrics
from tiphys.apiserver.cache import ResourceCache
from tiphys.apiserver.nodeports import NodePorts, refusal
from tiphys.apiserver.service_ips import ServiceIps
from tiphys.apiserver.service_ranges import Ranges, gives
from tiphys.base.errors import InternalError

Spec = dict[str, Any]
Object = Mapping[str, Any]
Taken = set[str | int]
EXTERNAL, NONE = "ExternalName", "None"


class ServiceAddresses:
    """Addresses and ports. `reserved` addresses are never given out; `listed` tells which have an IPAddress.

    `ranges` say from where addresses come, and of which families they can be."""

    def __init__(
        self,
        cache: ResourceCache,
        ranges: Ranges,
        ports: range,
        reserved: set[str],
        listed: Callable[[str], bool] = lambda ip: False,
    ) -> None:
        self._cache, self._ranges, self.ports, self._listed = cache, ranges, ports, listed
        self.reserved = reserved
        """Never given out; the Service `kubernetes` asks for its own, and its name is taken once."""
        self._by_service: dict[str, Taken] = {}
        self._taken: Counter[str | int] = Counter()
        self._seen = -1
        self._pending: Counter[str | int] = Counter()
        self.foreign: set[str | int] = set()
        """What other servers are about to use."""
        self.metrics = AllocationMetrics(self._all_taken, ranges.networks, ports)
        self._random = random.Random()  # noqa: S311 - spreads addresses, nothing secret

    @contextmanager
    def reserving(self, new: dict[str, Any], old: Mapping[str, Any] | None, *, dry_run: bool) -> Iterator[Taken]:
        """Fill in the families, addresses and ports of `new`; they are held until the body ends. Raises Invalid.

        Yields those that `old` did not have."""
        held: Taken = set()
        if old is not None and new.get("spec") == old.get("spec"):
            yield held
            return
        self._follow()
        spec: Spec = dict(new.get("spec") or {})
        new["spec"] = spec
        pool = _Write(self, held, dry_run=dry_run)
        try:
            was = (old or {}).get("spec") or {}
            kept = keeps_preference(spec, was)
            if problems := settle_families(spec, old, self._ranges.families):
                raise refusal(new, problems)
            if not kept:
                self._cluster_ips(new, spec, was, pool)
            ports = NodePorts(pool, new, spec, dry_run=dry_run)
            ports.create() if old is None else ports.update(old.get("spec") or {})
            yield held
        finally:
            # The cache shows the write by now, or there was none.
            self._pending.subtract(held)
            self._pending += Counter()

    def _follow(self) -> None:
        """Bring what is taken up to date with the cache."""
        cache = self._cache
        if self._seen < cache.floor:
            self._by_service.clear()
            self._taken.clear()
            for entry in cache.range():
                self._note(entry.key, _held(cache.obj(entry).get("spec") or {}))
        else:
            for change in cache.history(self._seen):
                gone = change.type == "DELETED"
                self._note(change.entry.key, set() if gone else _held(cache.obj(change.entry).get("spec") or {}))
        self._seen = cache.last_revision

    def _note(self, key: str, held: Taken) -> None:
        self._taken.subtract(self._by_service.pop(key, set()))
        self._taken.update(held)
        self._taken += Counter()
        if held:
            self._by_service[key] = held

    def free(self, what: str | int) -> bool:
        if what in self._taken or what in self._pending or what in self.foreign:
            return False
        return isinstance(what, int) or not self._listed(what)

    def taken(self) -> Set[str | int]:
        """What the Services have that can be seen."""
        return self._taken.keys()

    def _all_taken(self) -> Sequence[str | int]:
        self._follow()
        return list(self._taken)

    def hold(self, what: str | int) -> None:
        """Keep it from others until the write ends."""
        self._pending[what] += 1

    def _cluster_ips(self, service: Object, spec: Spec, was: Object, pool: _Write) -> None:
        """One address of each family; those that it has already stay."""
        has = bool(was) and was.get("type") != EXTERNAL
        if spec.get("type") == EXTERNAL or (was if has else spec).get("clusterIP") == NONE:
            return
        families = spec["ipFamilies"]
        kept = len(was.get("ipFamilies") or ()) if has else 0
        missing = families[kept:]
        if not missing:
            return
        addresses = spec["clusterIPs"] = [*(spec.get("clusterIPs") or ()), *[""] * len(missing)][: len(families)]
        given = list(addresses)
        for i, family in enumerate(missing, kept):
            if wanted := addresses[i]:
                if problem := self._problem(service, wanted, family, pool):
                    pool.count_address(family, "", STATIC)
                    text = f"failed to allocate IP {wanted}: {problem}"
                    raise refusal(service, [invalid("spec.clusterIPs", addresses, text)])
            else:
                given[i] = self._next_address(service, family, pool)
            pool.count_address(family, given[i], STATIC if wanted else DYNAMIC)
            pool.hold(given[i])
        spec["clusterIP"], spec["clusterIPs"] = given[0], given

    def _problem(self, service: Object, wanted: str, family: str, pool: _Write) -> str:
        """Why an address that is asked for cannot be had; "" if it can. A dry run takes what others have."""
        try:
            address = ipaddress.ip_address(wanted)
        except ValueError:
            return ""  # one of an old Service that is let be
        networks = [network for network in self._ranges.networks() if family == f"IPv{network.version}"]
        if not any(gives(network, address) for network in networks):
            if pool.dry_run and networks:
                valid = f"The range of valid IPs is {networks[0]}"
                return f"the provided IP ({wanted}) is not in the valid range. {valid}"
            return "the provided network does not match the current range"
        if pool.dry_run:
            return ""
        free = _is_apiserver(service) if wanted in self.reserved else self.free(wanted)
        return "" if free else "provided IP is already allocated"

    def _next_address(self, service: Object, family: str, pool: _Write) -> str:
        for network in self._ranges.networks():
            if family != f"IPv{network.version}":
                continue
            if pool.dry_run:
                return str(network.network_address)  # nothing is given out: this stands for any
            size = network.num_addresses - (2 if network.version == 4 else 1)
            offset = min(max(16, size // 16), 256) if size > 16 else 0
            for low, high in ((offset, size), (0, offset)):
                for number in self._spread(low, high):
                    address = str(network.network_address + 1 + number)
                    if address not in self.reserved and self.free(address):
                        return address
        pool.count_address(family, "", DYNAMIC)
        name = service["metadata"].get("name", "")
        raise InternalError(f'failed to allocate a serviceIP for Service "{name}": range is full')

    def any_port(self) -> int:
        """A node port that nobody has. Raises InternalError."""
        size = len(self.ports)
        offset = min(max(16, size // 32), 128) if size > 16 else 0
        for low, high in ((offset, size), (0, offset)):
            for number in self._spread(low, high):
                if self.free(self.ports[number]):
                    return self.ports[number]
        self.metrics.port_refused(DYNAMIC)
        raise InternalError("failed to allocate a nodePort: range is full")

    def _spread(self, low: int, high: int) -> Iterator[int]:
        """All numbers of a range once, from a random start."""
        size = high - low
        start = self._random.randrange(size) if size > 0 else 0
        for step in range(size):
            yield low + (start + step) % size


class _Write:
    """What one write takes: held for it, and told."""

    def __init__(self, addresses: ServiceAddresses, held: Taken, *, dry_run: bool) -> None:
        self._addresses, self._held, self.dry_run = addresses, held, dry_run
        self.ports, self.free, self.any_port = addresses.ports, addresses.free, addresses.any_port

    def hold(self, what: str | int) -> None:
        self._held.add(what)
        self._addresses.hold(what)

    def count_address(self, family: str, ip: str, scope: str) -> None:
        """An address was given out; "" was refused."""
        if self.dry_run:
            return
        if ip:
            self._addresses.metrics.address(ip, scope)
        else:
            self._addresses.metrics.address_refused(family, scope)

    def count_port(self, scope: str, *, refused: bool = False) -> None:
        if not self.dry_run:
            count = self._addresses.metrics.port_refused if refused else self._addresses.metrics.port
            count(scope)


class OwnAddresses:
    """`ServiceAddresses` of a server that is the only one: there is nobody to agree with (else: `allocation`)."""

    def __init__(self, addresses: ServiceAddresses, ips: ServiceIps) -> None:
        self._addresses, self._ips = addresses, ips
        self.released = ips.released

    @asynccontextmanager
    async def reserving(
        self, new: dict[str, Any], old: Mapping[str, Any] | None, *, dry_run: bool
    ) -> AsyncIterator[None]:
        """As `ServiceAddresses.reserving`."""
        with self._addresses.reserving(new, old, dry_run=dry_run):
            async with self._ips.following(new, old, dry_run=dry_run):
                yield


def _held(spec: Mapping[str, Any]) -> Taken:
    """The addresses and node ports that a Service has."""
    held: Taken = {ip for ip in (spec.get("clusterIPs") or [spec.get("clusterIP")]) if ip and ip != NONE}
    held |= {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}
    if spec.get("healthCheckNodePort"):
        held.add(spec["healthCheckNodePort"])
    return held


def _is_apiserver(service: Mapping[str, Any]) -> bool:
    metadata = service["metadata"]
    return (metadata.get("namespace"), metadata.get("name")) == ("default", "kubernetes")
