"""ServiceCIDRs: ready as soon as they exist, and kept until no address of theirs is in use that no other range has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from tiphys.api.validation.addresses import Address, is_mapped, parse, parse_cidr
from tiphys.base.clock import rfc3339
from tiphys.base.errors import ApiError, NotFound
from tiphys.client.events import WARNING
from tiphys.client.informer import Informer
from tiphys.client.reconcile import Result
from tiphys.client.resources import IP_ADDRESSES, SERVICE_CIDRS
from tiphys.client.types import APPLY_PATCH, STRATEGIC_PATCH, Object
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import condition, deleting, finalizers, labels, moment, name, spec, status

FINALIZER = "networking.k8s.io/service-cidr-finalizer"
MANAGED_BY = "ipaddress.kubernetes.io/managed-by"
ALLOCATOR = "ipallocator.k8s.io"
GRACE = 10.0
"""Seconds between a deletion and the end: the servers' allocators have stopped using the range by then."""

READY = ("True", "", "Kubernetes Service CIDR is ready")
TERMINATING = (
    "False",
    "Terminating",
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
)

Network = IPv4Network | IPv6Network


def networks(cidr: Object) -> list[Network]:
    """Its ranges; what is none is left out."""
    return [parsed[1] for text in spec(cidr).get("cidrs") or () if (parsed := parse_cidr(str(text))) is not None]


def address_of(obj: Object) -> Address | None:
    """The address that an IPAddress of the Services' allocator stands for."""
    return parse(name(obj)) if labels(obj).get(MANAGED_BY) == ALLOCATOR else None


def holding(cidrs: Iterable[Object], address: Address) -> list[str]:
    """Names of the ServiceCIDRs from which the address may have been given out."""
    return [name(cidr) for cidr in cidrs if any(_gives(network, address) for network in networks(cidr))]


def _gives(network: Network, address: Address) -> bool:
    """Not the first address of a range, nor an IPv4 range's last one, unless it has no others."""
    if address.version != network.version or address not in network or is_mapped(address):
        return False
    unused = {network.network_address, *({network.broadcast_address} if network.version == 4 else ())}
    return address not in unused


def overlapping(cidrs: Iterable[Object], cidr: Object) -> list[str]:
    own = networks(cidr)
    return [name(each) for each in cidrs if any(a.overlaps(b) for a in networks(each) for b in own if _kin(a, b))]


def _kin(one: Network, other: Network) -> bool:
    return one.version == other.version


def removable(cidr: Object, cidrs: Iterable[Object], addresses: Iterable[Address]) -> bool:
    """Whether no address in use would be left without a range."""
    others = [each for each in cidrs if name(each) != name(cidr)]
    if all(any(_covers(each, network) for each in others) for network in networks(cidr)):
        return True
    return not any(
        any(_gives(network, address) for network in networks(cidr)) and not holding(others, address)
        for address in addresses
    )


def _covers(cidr: Object, network: Network) -> bool:
    return any(
        (isinstance(wide, IPv4Network) and isinstance(network, IPv4Network) and network.subnet_of(wide))
        or (isinstance(wide, IPv6Network) and isinstance(network, IPv6Network) and network.subnet_of(wide))
        for wide in networks(cidr)
    )


def has_condition(cidr: Object, wanted: tuple[str, str, str]) -> bool:
    found: Mapping[str, Any] = condition(status(cidr), "Ready") or {}
    return (found.get("status"), found.get("reason") or "", found.get("message")) == wanted


class ServiceCidrController(Controller):
    """Keys are ServiceCIDRs."""

    name = "service-cidr-controller"
    account = "service-cidrs-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._cidrs = self.watch(SERVICE_CIDRS)
        self._addresses: Informer | None = None
        """There are as many as Services: not watched before somebody deletes a range."""
        self._cidrs.subscribe(self._cidr_changed)

    async def reconcile(self, key: str) -> Result | None:
        cidr = self._cidrs.get("", key)
        if cidr is None:
            return None
        if deleting(cidr):
            return await self._release(cidr)
        if FINALIZER not in finalizers(cidr):
            await self._patch(cidr, {"finalizers": [FINALIZER]})
        try:
            await self._tell(cidr, READY)
        except ApiError:
            text = "The ServiceCIDR Status can not be set to Ready=True"
            self.recorder.event(cidr, WARNING, "KubernetesServiceCIDRError", text)
            raise
        return None

    async def _release(self, cidr: Object) -> Result | None:
        used = [found for each in (await self._watch_addresses()).list() if (found := address_of(each)) is not None]
        if not removable(cidr, self._cidrs.list(), used):
            await self._tell(cidr, TERMINATING)
            return None
        left = GRACE - (self.clock.time() - moment(cidr["metadata"]["deletionTimestamp"]))
        if left > 0:
            return Result(left)
        if FINALIZER in finalizers(cidr):
            await self._patch(cidr, {"$deleteFromPrimitiveList/finalizers": [FINALIZER]})
        return None

    async def _watch_addresses(self) -> Informer:
        if self._addresses is None:
            self._addresses = self.watch(IP_ADDRESSES)
            self._addresses.subscribe(self._address_changed)
        await self._addresses.wait_synced()
        return self._addresses

    async def _patch(self, cidr: Object, metadata: Mapping[str, Any]) -> None:
        try:
            await self.client.patch(SERVICE_CIDRS, name(cidr), {"metadata": metadata}, type=STRATEGIC_PATCH)
        except NotFound:
            return

    async def _tell(self, cidr: Object, wanted: tuple[str, str, str]) -> None:
        if has_condition(cidr, wanted):
            return
        value, reason, message = wanted
        ready = {"type": "Ready", "status": value, "reason": reason, "message": message}
        ready["lastTransitionTime"] = rfc3339(self.clock.time())
        apply = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "ServiceCIDR",
            "metadata": {"name": name(cidr)},
            "status": {"conditions": [ready]},
        }
        await self.client.patch(
            SERVICE_CIDRS,
            name(cidr),
            apply,
            type=APPLY_PATCH,
            subresource="status",
            field_manager=self.name,
            force=True,
        )

    def _cidr_changed(self, old: Object | None, new: Object | None) -> None:
        self.enqueue(old, new)
        if old is None or new is None:
            for key in overlapping(self._cidrs.list(), new or old or {}):
                self.queue.add(key)

    def _address_changed(self, old: Object | None, new: Object | None) -> None:
        """An address in use came or went: only ranges on their way out mind."""
        if (old is None) is (new is None):
            return
        address = address_of(new or old or {"metadata": {"name": ""}})
        if address is not None:
            for key in holding([each for each in self._cidrs.list() if deleting(each)], address):
                self.queue.add(key)
