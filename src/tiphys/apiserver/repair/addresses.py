"""Whether a Service's cluster IPs and the IPAddress objects agree (KEP-1880). Pure.

Each cluster IP has the IPAddress of its name, which names its Service. What is missing is made, what names nobody that
exists is removed; two Services of one address are only told, since one of them has to be made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from tiphys.api.validation.addresses import parse
from tiphys.apiserver.repair.findings import Finding, Later, Object, Repair
from tiphys.apiserver.service_ips import ALLOCATOR, FAMILY, MANAGED_BY
from tiphys.apiserver.service_ranges import Network, gives
from tiphys.base.clock import parse_rfc3339

GRACE = 60.0
"""Seconds for which an IPAddress may be there without its Service: no request takes longer."""
REVERTING = 5.0
"""Seconds that a create of a Service which exists already may need to take back its IPAddress."""
_ALLOCATION, _VALIDATION, _ADDRESS = "ClusterIPAllocation", "ClusterIPValidation", "IPAddressAllocation"

Addresses = Callable[[str], Object | None]
Services = Callable[[str, str], Object | None]


def of_service(
    service: Object, addresses: Addresses, services: Services, networks: Sequence[Network]
) -> Iterator[Finding]:
    """What is wrong with a Service's cluster IPs. `networks` are all ranges, also those on their way out."""
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName" or spec.get("clusterIP") in (None, "", "None"):
        return
    for text in spec.get("clusterIPs") or ():
        address = parse(text)
        if address is None:
            message = "Cluster IP <nil> is not a valid IP; please recreate Service"
            yield Finding(service, "invalid", "ClusterIPNotValid", _VALIDATION, message)
            continue
        what = f"Cluster IP [IPv{address.version}]"
        if not any(gives(network, address) for network in networks if network.version == address.version):
            message = f"{what}: {address} is not within any configured Service CIDR; please recreate service"
            yield Finding(service, "outOfRange", "ClusterIPOutOfRange", _ALLOCATION, message)
        else:
            yield from _allocated(service, str(address), addresses(str(address)), services, what)


def _allocated(service: Object, ip: str, held: Object | None, services: Services, what: str) -> Iterator[Finding]:
    """What is wrong with the IPAddress of one cluster IP."""
    reason = "ClusterIPNotAllocated"
    if held is None:
        message = f"{what}: {ip} is not allocated; repairing"
        yield Finding(service, "repair", reason, _ALLOCATION, message, Repair.CREATE, ip)
        return
    parent = _parent(held)
    if not _is_service(parent) or (not _is(parent, service) and _owner(parent, services) is None):
        whose = f"for Service {_text(service)} has a wrong reference; repairing"
        message = f"the {what.replace('Cluster IP', 'ClusterIP')}: {ip} {whose}"
        yield Finding(service, "repair", reason, _ALLOCATION, message, Repair.RECREATE, ip)
        return
    if not _is(parent, service) and ip in _cluster_ips(_owner(parent, services)):
        message = f"{what}:{ip} was assigned to multiple services; please recreate service"
        yield Finding(service, "duplicate", "ClusterIPAlreadyAllocated", _ALLOCATION, message)
    if not _has_labels(held):
        yield Finding(service, "repair", repair=Repair.RECREATE, ip=ip)


def of_address(held: Object, services: Services, now: float) -> Finding | Later | None:
    """What is wrong with an IPAddress of the Services' allocator; those of others are their own business.

    `now` is in seconds since the epoch."""
    if (held["metadata"].get("labels") or {}).get(MANAGED_BY) != ALLOCATOR:
        return None
    ip, parent = held["metadata"]["name"], _parent(held)
    if not _is_service(parent):
        text = f"IPAddress {ip} appears to have been modified, not referencing a Service {_go(parent)}: cleaning up"
        return Finding(held, "repair", "IPAddressNotAllocated", _ADDRESS, text, Repair.DELETE, ip)
    age = now - parse_rfc3339(held["metadata"]["creationTimestamp"])
    service, whose = _owner(parent, services), f"{parent.get('namespace') or ''}/{parent.get('name') or ''}"
    if service is None:
        if age < GRACE:
            return Later(GRACE - age)
        text = f"IPAddress: {ip} for Service {whose} appears to have leaked: cleaning up"
        return Finding(held, "leak", "IPAddressNotAllocated", _ADDRESS, text, Repair.DELETE, ip)
    if ip in _cluster_ips(service):
        return None
    if (service.get("spec") or {}).get("type") == "ExternalName" and age < GRACE:
        return Later(GRACE - age)  # it is about to become one with an address
    made = parse_rfc3339(service["metadata"]["creationTimestamp"])
    if now - age > made and age < REVERTING:
        return Later(REVERTING)
    text = f"IPAddress: {ip} for Service {whose} has a wrong reference; cleaning up"
    return Finding(held, "repair", "IPAddressWrongReference", _ADDRESS, text, Repair.DELETE, ip)


def _parent(held: Object) -> Mapping[str, Any]:
    return (held.get("spec") or {}).get("parentRef") or {}


def _is_service(parent: Mapping[str, Any]) -> bool:
    return not parent.get("group") and parent.get("resource") == "services"


def _is(parent: Mapping[str, Any], service: Object) -> bool:
    return (parent.get("namespace"), parent.get("name")) == _key(service)


def _owner(parent: Mapping[str, Any], services: Services) -> Object | None:
    return services(parent.get("namespace") or "", parent.get("name") or "")


def _key(obj: Object) -> tuple[str | None, str | None]:
    return obj["metadata"].get("namespace"), obj["metadata"].get("name")


def _text(service: Object) -> str:
    return "/".join(str(part) for part in _key(service))


def _cluster_ips(service: Object | None) -> Sequence[str]:
    return ((service or {}).get("spec") or {}).get("clusterIPs") or ()


def _has_labels(held: Object) -> bool:
    labels = held["metadata"].get("labels") or {}
    family = f"IPv{ip_address(held['metadata']['name']).version}"
    return labels.get(FAMILY) == family and labels.get(MANAGED_BY) == ALLOCATOR


def _go(parent: Mapping[str, Any]) -> str:
    """A ParentReference as Go prints it."""
    names = ("group", "resource", "namespace", "name")
    return "&ParentReference{" + "".join(f"{one.capitalize()}:{parent.get(one) or ''}," for one in names) + "}"
