"""An IPAddress object for every address that a Service has, so that all can see who has it (KEP-1880).

It is written together with its Service, in the same commit of the store where that gathers writes, and goes with it.
What a server that was killed in between leaves behind is put right by `repair`.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

import orjson

from tiphys.api.validation.addresses import is_ipv6
from tiphys.apiserver.cache import ResourceCache
from tiphys.apiserver.feed import Caches
from tiphys.apiserver.storage import Author, Storage
from tiphys.base.clock import Clock, rfc3339
from tiphys.store.types import Mismatch, StoreError

log = logging.getLogger(__name__)

Object = Mapping[str, Any]

FAMILY = "ipaddress.kubernetes.io/ip-family"
MANAGED_BY = "ipaddress.kubernetes.io/managed-by"
ALLOCATOR = "ipallocator.k8s.io"
AUTHOR = Author("system:apiserver", "service addresses")


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
                await self.create(ip, new)
            return
        failure: Exception | None = None
        async with asyncio.TaskGroup() as tasks:
            for ip in added:
                tasks.create_task(self.create(ip, new))
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

    async def create(self, ip: str, service: Object) -> bool:
        """Write the IPAddress of a Service's address; whether there is one now."""
        now = rfc3339(self._clock.time())
        try:
            await self._storage.create(
                self._addresses, self._key(ip), ip_address(ip, service, now), AUTHOR, _managed(now)
            )
        except Mismatch:
            log.info("the address %s has an IPAddress already", ip)
        except StoreError as error:
            log.warning("the IPAddress %s was not written, which is to be repaired: %s", ip, error)
            return False
        return True

    async def _delete(self, ip: str, service: Object) -> None:
        """Delete the IPAddress if it is that Service's."""
        entry = self._addresses.get("", ip)
        if entry is None:
            return
        parent = self._addresses.obj(entry)["spec"].get("parentRef") or {}
        if (parent.get("namespace"), parent.get("name")) == (_namespace(service), service["metadata"]["name"]):
            await self.remove(ip)

    async def remove(self, ip: str) -> bool:
        """Delete the IPAddress, whosever it is; whether there is none now."""
        for _ in range(3):
            entry = self._addresses.get("", ip)
            if entry is None:
                return True
            try:
                await self._storage.remove(self._addresses, entry, AUTHOR)
            except Mismatch:
                continue
            except StoreError as error:
                log.warning("the IPAddress %s was not deleted, which is to be repaired: %s", ip, error)
                return False
        return self._addresses.get("", ip) is None

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
