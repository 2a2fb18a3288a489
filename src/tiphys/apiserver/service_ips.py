"""An IPAddress object for every address that a Service has, so that all can see who has it (KEP-1880).

It is written together with its Service, in the same commit of the store where that gathers writes, and goes with it.
A server that was killed in between leaves one too many or one too few: the next start puts that right.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Container, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

import orjson

from tiphys.api.validation.addresses import is_ipv6
from tiphys.apiserver.cache import ResourceCache
from tiphys.apiserver.feed import Caches
from tiphys.apiserver.storage import Author, Storage
from tiphys.base.clock import Clock, parse_rfc3339, rfc3339
from tiphys.store.types import Mismatch, StoreError

log = logging.getLogger(__name__)

Object = Mapping[str, Any]

FAMILY = "ipaddress.kubernetes.io/ip-family"
MANAGED_BY = "ipaddress.kubernetes.io/managed-by"
ALLOCATOR = "ipallocator.k8s.io"
AUTHOR = Author("system:apiserver", "service addresses")
GRACE = 60.0
"""Seconds for which an IPAddress may be there before its Service."""
_AT_ONCE = 200
"""Services looked at before others have their turn."""


def cluster_ips(service: Object | None) -> set[str]:
    """The addresses that a Service has."""
    spec = (service or {}).get("spec") or {}
    if spec.get("type") == "ExternalName":
        return set()
    return {ip for ip in (spec.get("clusterIPs") or [spec.get("clusterIP")]) if ip and ip != "None"}


class ServiceIps:
    """The IPAddresses of Services in the store."""

    def __init__(self, caches: Caches, storage: Storage, clock: Clock) -> None:
        self._addresses = caches.of("networking.k8s.io", "ipaddresses")
        self._services: ResourceCache = caches.of("", "services")
        self._storage, self._clock = storage, clock

    def exists(self, ip: str) -> bool:
        """Whether there is an IPAddress of that name, of whomever."""
        return self._addresses.get("", ip) is not None

    @asynccontextmanager
    async def following(self, new: Object, old: Object | None, *, dry_run: bool) -> AsyncIterator[None]:
        """`new` is written in the body: what it has got over `old` is created meanwhile, what it lost is deleted."""
        added, dropped = cluster_ips(new) - cluster_ips(old), cluster_ips(old) - cluster_ips(new)
        name = new["metadata"].get("name")
        if dry_run or not name or not added | dropped:  # one without a name is refused in the body
            yield
            return
        if old is None and self._services.get(_namespace(new), name) is not None:
            yield  # its name is taken: this is going to fail, unless the other one goes just now
            for ip in added:
                await self._create(ip, new)
            return
        failure: Exception | None = None
        async with asyncio.TaskGroup() as tasks:
            for ip in added:
                tasks.create_task(self._create(ip, new))
            try:
                yield
            except Exception as error:  # noqa: BLE001 - raised again below, past the group
                failure = error
        for ip in added if failure is not None else dropped:
            await self._delete(ip, new)
        if failure is not None:
            raise failure

    async def released(self, service: Object) -> None:
        """A Service has gone."""
        for ip in cluster_ips(service):
            await self._delete(ip, service)

    async def repair(self) -> None:
        """Create what is missing, delete what nobody has; returns when nothing is left to wait for."""
        held: set[str] = set()
        for number, entry in enumerate(self._services.range()):
            service = self._services.obj(entry)
            held |= cluster_ips(service)
            for ip in cluster_ips(service):
                if not self.exists(ip):
                    await self._create(ip, service)
            if number % _AT_ONCE == 0:
                await self._clock.sleep(0)
        while (wait := await self._delete_leaked(held)) is not None:
            await self._clock.sleep(wait)

    async def _delete_leaked(self, held: Container[str]) -> float | None:
        """Delete what nobody has and is old enough; returns the seconds until the next of the others is."""
        now, soonest = self._clock.time(), None
        for entry in self._addresses.range():
            ip = entry.key.rpartition("/")[2]
            if ip in held or self._is_used(obj := self._addresses.obj(entry)):
                continue
            left = GRACE - (now - parse_rfc3339(obj["metadata"]["creationTimestamp"]))
            if left > 0:
                soonest = min(left, soonest or left)
            else:
                log.warning("the address %s belongs to no Service any more", ip)
                await self._remove(ip)
        return soonest

    def _is_used(self, obj: Object) -> bool:
        """Whether it has a Service, or is none of ours."""
        if (obj["metadata"].get("labels") or {}).get(MANAGED_BY) != ALLOCATOR:
            return True
        parent = obj["spec"]["parentRef"]
        if parent.get("group") or parent.get("resource") != "services":
            return False
        entry = self._services.get(parent.get("namespace") or "", parent.get("name") or "")
        return entry is not None and obj["metadata"]["name"] in cluster_ips(self._services.obj(entry))

    async def _create(self, ip: str, service: Object) -> None:
        now = rfc3339(self._clock.time())
        try:
            await self._storage.create(
                self._addresses, self._key(ip), ip_address(ip, service, now), AUTHOR, _managed(now)
            )
        except Mismatch:
            log.info("the address %s has an IPAddress already", ip)
        except StoreError as error:
            log.warning("the IPAddress %s was not written, the next start repeats it: %s", ip, error)

    async def _delete(self, ip: str, service: Object) -> None:
        """Delete the IPAddress if it is that Service's."""
        entry = self._addresses.get("", ip)
        if entry is None:
            return
        parent = self._addresses.obj(entry)["spec"].get("parentRef") or {}
        if (parent.get("namespace"), parent.get("name")) == (_namespace(service), service["metadata"]["name"]):
            await self._remove(ip)

    async def _remove(self, ip: str) -> None:
        for _ in range(3):
            entry = self._addresses.get("", ip)
            if entry is None:
                return
            try:
                await self._storage.remove(self._addresses, entry, AUTHOR)
            except Mismatch:
                continue
            except StoreError as error:
                log.warning("the IPAddress %s was not deleted, the next start repeats it: %s", ip, error)
                return

    def _key(self, ip: str) -> str:
        return self._addresses.stored.key("", ip)


def _namespace(service: Object) -> str:
    return str(service["metadata"].get("namespace") or "")


def ip_address(ip: str, service: Object, now: str) -> dict[str, Any]:
    """The IPAddress of a Service's address, made at `now` (RFC 3339)."""
    metadata = {
        "name": ip,
        "uid": str(uuid.uuid4()),
        "creationTimestamp": now,
        "labels": {FAMILY: "IPv6" if is_ipv6(ip) else "IPv4", MANAGED_BY: ALLOCATOR},
    }
    parent = {"resource": "services", "namespace": _namespace(service), "name": service["metadata"]["name"]}
    kind = {"kind": "IPAddress", "apiVersion": "networking.k8s.io/v1"}
    return {**kind, "metadata": metadata, "spec": {"parentRef": parent}}


@lru_cache(maxsize=4)
def _managed(now: str) -> bytes:
    """managedFields: all of it is the API server's."""
    labels: dict[str, Any] = {".": {}, f"f:{FAMILY}": {}, f"f:{MANAGED_BY}": {}}
    parent: dict[str, Any] = {".": {}, "f:name": {}, "f:namespace": {}, "f:resource": {}}
    entry = {
        "manager": "kube-apiserver",
        "operation": "Update",
        "apiVersion": "networking.k8s.io/v1",
        "time": now,
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:labels": labels}, "f:spec": {"f:parentRef": parent}},
    }
    return orjson.dumps([entry])
