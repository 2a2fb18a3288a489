"""Prepares claims before a pod's sandbox is made, undoes that when the pod has ended, and knows what containers got."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from tiphys.base.clock import Clock
from tiphys.base.errors import ApiError
from tiphys.base.metrics import Registry
from tiphys.client.resources import RESOURCE_CLAIMS, RESOURCE_SLICES
from tiphys.client.types import Client
from tiphys.kubelet.dra.claims import Claim, ClaimError, ClaimLedger, checked, claim_names, wanted_requests
from tiphys.kubelet.dra.drivers import Drivers, Key
from tiphys.kubelet.podspec import Object, namespace_of, uid_of

log = logging.getLogger(__name__)

_OPERATIONS = (
    "dra_operations_duration_seconds",
    "Latency histogram in seconds for the duration of handling all ResourceClaims referenced by a pod when the pod "
    "starts or stops. Identified by the name of the operation (PrepareResources or UnprepareResources) and separated "
    "by the success of the operation. The number of failed operations is provided through the histogram's overall "
    "count.",
    ("operation_name", "is_error"),
    tuple(0.1 * 400 ** (step / 14) for step in range(15)),
)
_IN_USE = (
    "dra_resource_claims_in_use",
    "The number of ResourceClaims that are currently in use on the node, by driver name (driver_name label value) and "
    "across all drivers (special value <any> for driver_name). Note that the sum of all by-driver counts is not the "
    "total number of in-use ResourceClaims because the same ResourceClaim might use devices from different drivers. "
    "Instead, use the count for the <any> driver_name.",
    ("driver_name",),
)
WIPING_DELAY = 30.0
"""Seconds after which ResourceSlices of a driver that is gone are removed."""


class ClaimManager:
    """`changed(uids)`: the health of what these pods hold is another."""

    def __init__(
        self,
        root_dir: Path,
        node_name: str,
        client: Client,
        clock: Clock,
        changed: Callable[[set[str]], None],
        metrics: Registry,
    ) -> None:
        self._durations = metrics.histogram(*_OPERATIONS)
        self._in_use = metrics.gauge(*_IN_USE)
        self._seen: set[str] = set()
        """Drivers that are counted, also when nothing is left of theirs."""
        self.ledger = ClaimLedger(root_dir / "dra")
        self.drivers = Drivers(clock, self._health_changed, self._driver_gone)
        self._node_name = node_name
        self._client = client
        self._clock = clock
        self._changed = changed
        self._lock = asyncio.Lock()
        self._group: asyncio.TaskGroup | None = None

    def start(self, group: asyncio.TaskGroup) -> None:
        """Where tasks go that follow drivers."""
        self._group = self.drivers.group = group

    def wants(self, pod: Object) -> bool:
        """Whether it has claims at all."""
        return bool(pod["spec"].get("resourceClaims") or (pod.get("status") or {}).get("extendedResourceClaimStatus"))

    async def prepare(self, pod: Object) -> None:
        """Have drivers prepare all claims of a pod. Raises ClaimError."""
        try:
            await self._counted("PrepareResources", self._prepare(pod))
        except (ClaimError, OSError) as error:
            raise ClaimError(f"prepare dynamic resources: {error}") from error

    async def _counted(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """One at a time."""
        began, failed = self._clock.monotonic(), "true"
        try:
            async with self._lock:
                await work
            failed = "false"
        finally:
            self._durations.observe(self._clock.monotonic() - began, name, failed)
            self._count_claims()

    def _count_claims(self) -> None:
        claims = list(self.ledger.all())
        self._in_use.set(len(claims), "<any>")
        self._seen |= {driver for claim in claims for driver in claim.devices}
        for driver in self._seen:
            self._in_use.set(sum(driver in claim.devices for claim in claims), driver)

    async def _prepare(self, pod: Object) -> None:
        waiting: dict[str, list[Claim]] = {}
        for name in dict.fromkeys(name for _, name in claim_names(pod) if name):
            claim = self._joined(pod, checked(pod, await self._fetch(namespace_of(pod), name)))
            for driver in claim.devices if not claim.prepared else ():
                waiting.setdefault(driver, []).append(claim)
        for driver, claims in waiting.items():
            answers = await self.drivers.get(driver).prepare(claims)
            for claim in claims:
                claim.devices[driver] = answers[claim.uid]
        for claim in {claim.uid: claim for claims in waiting.values() for claim in claims}.values():
            self.ledger.save(claim)
            claim.prepared = True

    async def _fetch(self, namespace: str, name: str) -> Object:
        try:
            return await self._client.get(RESOURCE_CLAIMS, name, namespace)
        except ApiError as error:
            raise ClaimError(f"fetch ResourceClaim {name}: {error}") from error

    def _joined(self, pod: Object, fresh: Claim) -> Claim:
        """The claim's record with this pod among its users, on disk before anything is prepared."""
        for driver in fresh.devices:
            self.drivers.get(driver)
        claim = self.ledger.get(fresh.namespace, fresh.name) or fresh
        if claim.uid != fresh.uid:
            same = f"with same name {claim.name} and different UID {claim.uid}"
            raise ClaimError(f"old ResourceClaim {same} still exists (previous pod force-deleted?!)")
        claim.pods.add(uid_of(pod))
        self.ledger.save(claim)
        return claim

    async def unprepare(self, uid: str) -> None:
        """The pod has ended: undo what nobody else uses. Harmless when done. Raises ClaimError."""
        claims = self.ledger.of_pod(uid)
        if not claims:
            return
        try:
            await self._counted("UnprepareResources", self._unprepare(uid, claims))
        except (ClaimError, OSError) as error:
            raise ClaimError(f"unprepare dynamic resources: {error}") from error

    async def _unprepare(self, uid: str, claims: list[Claim]) -> None:
        last = [claim for claim in claims if claim.pods == {uid}]
        for claim in claims:
            if claim not in last:
                claim.pods.discard(uid)
                self.ledger.save(claim)
        for driver in sorted({driver for claim in last for driver in claim.devices}):
            await self.drivers.get(driver).unprepare([claim for claim in last if driver in claim.devices])
        for claim in last:
            self.ledger.drop(claim)

    def cdi_devices(self, pod: Object, container: Object) -> list[str]:
        """CDI names that a container is to get. Raises ClaimError."""
        names: list[str] = []
        for _, name, request in wanted_requests(pod, container):
            claim = self.ledger.get(namespace_of(pod), name)
            if claim is None:
                where = f"ResourceClaim {name} in namespace {namespace_of(pod)}"
                raise ClaimError(f"internal error: unable to get claim info for {where}")
            names += [id for _, device in claim.selected(request) for id in device["cdi_device_ids"]]
        return list(dict.fromkeys(names))

    def messages(self, pod: Object, container: Object) -> list[dict[str, Any]]:
        """dynamic_resources of the pod resources API."""
        try:
            names = list(dict.fromkeys(name for _, name, _ in wanted_requests(pod, container)))
        except ClaimError:
            return []
        claims = [claim for name in names if (claim := self.ledger.get(namespace_of(pod), name)) is not None]
        return [
            {
                "claim_name": claim.name,
                "claim_namespace": claim.namespace,
                "claim_resources": [_message(*one) for one in claim.selected()],
            }
            for claim in claims
        ]

    def health(self, pod: Object, container: Object) -> list[dict[str, Any]]:
        """Entries of allocatedResourcesStatus."""
        found: list[dict[str, Any]] = []
        try:
            wanted = [one for one in wanted_requests(pod, container) if one[0]]
        except ClaimError:
            return []
        for place, name, request in wanted:
            claim = self.ledger.get(namespace_of(pod), name)
            entries: dict[str, dict[str, Any]] = {}
            for driver, device in claim.selected(request) if claim is not None else ():
                entry = self._entry(driver, device)
                entries.setdefault(entry["resourceID"], entry)
            if entries:
                title = f"claim:{place}/{request}" if request else f"claim:{place}"
                found.append({"name": title, "resources": list(entries.values())})
        return found

    def _entry(self, driver: str, device: dict[str, Any]) -> dict[str, Any]:
        pool, name = device["pool_name"], device["device_name"]
        health, message = self.drivers.health((driver, pool, name))
        id = device["cdi_device_ids"][0] if device["cdi_device_ids"] else f"{driver}/{pool}/{name}"
        return {"resourceID": id, "health": health} | ({"message": message} if message else {})

    def _health_changed(self, keys: set[Key]) -> None:
        self._changed(
            {
                uid
                for claim in self.ledger.all()
                for driver, device in claim.selected()
                if (driver, device["pool_name"], device["device_name"]) in keys
                for uid in claim.pods
            }
        )

    def _driver_gone(self, name: str) -> None:
        if self._group is not None:
            self._group.create_task(self._wipe(name), name=f"slices of {name}")

    async def _wipe(self, driver: str) -> None:
        """Devices of a driver that is gone are not to be given to anybody."""
        await self._clock.sleep(WIPING_DELAY)
        if self.drivers.has(driver):
            return
        fields = f"spec.driver={driver},spec.nodeName={self._node_name}"
        try:
            for one in (await self._client.list(RESOURCE_SLICES, fields=fields)).items:
                await self._client.delete(RESOURCE_SLICES, one["metadata"]["name"])
        except (ApiError, OSError) as error:
            log.warning("ResourceSlices of driver %s, which is gone, are still there: %s", driver, error)


def _message(driver: str, device: dict[str, Any]) -> dict[str, Any]:
    found = {"driver_name": driver, "pool_name": device["pool_name"], "device_name": device["device_name"]}
    share = {"share_id": device["share_id"]} if device.get("share_id") else {}
    return {**found, "cdi_devices": [{"name": id} for id in device["cdi_device_ids"]], **share}
