"""How the endpoints of a Service are divided into EndpointSlices: pure, with as few writes as possible."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tiphys.client.types import Object
from tiphys.controllers import pods as podlib
from tiphys.controllers.objects import (
    controlled_by,
    controller_reference,
    deleting,
    labels,
    name,
    namespace,
    semantically_equal,
    spec,
)
from tiphys.controllers.service_pods import HEADLESS, addresses, endpoint_ports, headless, hostname, included
from tiphys.controllers.service_pods import pod_reference as reference

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
ZONE = "topology.kubernetes.io/zone"
PER_SLICE = 100

Endpoint = Mapping[str, Any]
Ports = tuple[tuple[tuple[str, Any], ...], ...]


@dataclass(slots=True)
class Writes:
    """What to do with EndpointSlices."""

    create: list[dict[str, Any]] = field(default_factory=list)
    update: list[dict[str, Any]] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)


def plan(service: Object, pods: Sequence[Object], zones: Mapping[str, str], existing: Iterable[Object]) -> Writes:
    """What brings the existing slices of the Service in line with its pods. `zones` has the zone of each node."""
    out = Writes()
    families = _families(service)
    by_family: dict[str, list[Object]] = {family: [] for family in families}
    for held in existing:
        family = held.get("addressType")
        if family in by_family and controlled_by(held, service):
            by_family[family].append(held)
        else:
            out.delete.append(held)
    for family, slices in by_family.items():
        _plan_family(out, service, family, _groups(service, pods, zones, family), slices)
    return out


def _families(service: Object) -> list[str]:
    return list(spec(service).get("ipFamilies") or ()) or ["IPv4"]


def _groups(
    service: Object, pods: Sequence[Object], zones: Mapping[str, str], family: str
) -> dict[Ports, dict[str, Endpoint]]:
    """Endpoints by uid of their pods, together with those that have the same ports."""
    out: dict[Ports, dict[str, Endpoint]] = {}
    for pod in pods:
        own = [each for each in addresses(pod) if f"IPv{ipaddress.ip_address(each).version}" == family]
        if own and included(pod, terminating=True):
            ports = _key(endpoint_ports(service, pod) or ())
            made = endpoint(service, pod, own, zones)
            out.setdefault(ports, {})[made["targetRef"]["uid"]] = made
    return out


def endpoint(service: Object, pod: Object, own: Sequence[str], zones: Mapping[str, str]) -> dict[str, Any]:
    """One pod's endpoint."""
    serving = podlib.ready(pod)
    published = bool(spec(service).get("publishNotReadyAddresses"))
    conditions = {
        "ready": published or (serving and not deleting(pod)),
        "serving": serving,
        "terminating": deleting(pod),
    }
    out: dict[str, Any] = {"addresses": list(own), "conditions": conditions, "targetRef": reference(pod)}
    node = spec(pod).get("nodeName")
    optional = {"nodeName": node, "zone": zones.get(node or ""), "hostname": hostname(service, pod)}
    return {**out, **{key: value for key, value in optional.items() if value}}


def _key(ports: Iterable[Mapping[str, Any]]) -> Ports:
    return tuple(sorted(tuple(sorted(port.items())) for port in ports))


def _plan_family(
    out: Writes, service: Object, family: str, groups: Mapping[Ports, dict[str, Endpoint]], slices: Sequence[Object]
) -> None:
    kept = 0
    for ports, endpoints in groups.items():
        mine = [held for held in slices if _key(held.get("ports") or ()) == ports]
        kept += _plan_group(out, service, family, ports, dict(endpoints), mine)
    for held in slices:
        ports = _key(held.get("ports") or ())
        if ports in groups:
            continue
        if kept or ports or held.get("endpoints"):
            out.delete.append(held)
        else:
            kept += _relabel(out, service, held)  # an empty one says that the Service is looked after
    if not kept:
        out.create.append(_new(service, family, (), ()))


def _plan_group(
    out: Writes, service: Object, family: str, ports: Ports, left: dict[str, Endpoint], slices: Sequence[Object]
) -> int:
    """Keep endpoints where they are, fill gaps with new ones, and make slices for what is left over.

    Returns how many slices there will be. `left` is used up."""
    contents = [(held, [left.pop(uid) for uid in _uids(held) if uid in left]) for held in slices]
    contents.sort(key=lambda each: (len(each[1]) == len(each[0].get("endpoints") or ()), -len(each[1])))
    count = 0
    for held, content in contents:
        room = PER_SLICE - len(content)
        content += [left.pop(uid) for uid in list(left)[:room]]
        if not content:
            out.delete.append(held)
            continue
        count += 1
        if not semantically_equal(held.get("endpoints"), content):
            out.update.append({**_marked(service, held), "endpoints": content})
        else:
            _relabel(out, service, held)
    rest = list(left.values())
    chunks = [rest[start : start + PER_SLICE] for start in range(0, len(rest), PER_SLICE)]
    out.create += [_new(service, family, ports, chunk) for chunk in chunks]
    return count + len(chunks)


def _uids(held: Object) -> list[str]:
    return [(each.get("targetRef") or {}).get("uid", "") for each in held.get("endpoints") or ()]


def _relabel(out: Writes, service: Object, held: Object) -> int:
    if labels(held) != _marks(service):
        out.update.append(_marked(service, held))
    return 1


def _marked(service: Object, held: Object) -> dict[str, Any]:
    return {**held, "metadata": {**held["metadata"], "labels": _marks(service)}}


def _marks(service: Object) -> dict[str, str]:
    own = {key: value for key, value in labels(service).items() if key != HEADLESS}
    extra = {HEADLESS: ""} if headless(service) else {}
    return {**own, **extra, SERVICE_NAME: name(service), MANAGED_BY: MANAGER}


def _new(service: Object, family: str, ports: Ports, endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    owner = {"apiVersion": "v1", "kind": "Service", **service}
    meta = {
        "generateName": f"{name(service)}-",
        "namespace": namespace(service),
        "labels": _marks(service),
        "ownerReferences": [controller_reference(owner)],
    }
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": meta,
        "addressType": family,
        "endpoints": list(endpoints),
        "ports": [dict(port) for port in ports],
    }
