"""The EndpointSlices of a Service with a selector, worked out from its pods: pure.

There is one set of slices for each address family, and within it one for each set of ports. A Service that nothing is
behind keeps one empty slice, which says that it is looked after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tiphys.api.validation.addresses import is_ipv6
from tiphys.api.validation.names import dns_subdomain
from tiphys.client.types import Object
from tiphys.controllers import pods as podlib
from tiphys.controllers import slice_hints as hints
from tiphys.controllers.objects import (
    controller_reference,
    deleting,
    labels,
    name,
    namespace,
    semantically_equal,
    spec,
    uid,
)
from tiphys.controllers.service_pods import addresses_of, endpoint_ports, hostname, included
from tiphys.controllers.service_pods import pod_reference as reference
from tiphys.controllers.slice_hints import Event, Hinted
from tiphys.controllers.slice_packing import (
    HEADLESS,
    MANAGED_BY,
    SERVICE_NAME,
    Endpoint,
    Packing,
    Ports,
    Slice,
    Writes,
    by_identity,
    endpoints_of,
    foreign,
    ports_of,
    recycle,
)
from tiphys.controllers.slice_topology import ZONE, Topology

MANAGER = "endpointslice-controller.k8s.io"
PER_SLICE = 100

NodeOf = Callable[[str], Object | None]


@dataclass(slots=True)
class FamilyPlan:
    """What to do with the slices of one address family."""

    family: str
    writes: Writes
    events: list[Event] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """Why some pods are left out for now."""


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans for Services; `topology` remembers which of them have hints by zones."""

    node_of: NodeOf
    topology: Topology
    limit: int = PER_SLICE

    def plan(self, service: Object, pods: Sequence[Object], existing: Iterable[Object]) -> list[FamilyPlan]:
        """What brings the existing slices of the Service in line with its pods: a plan for each address family, and
        one for the slices of families that it does not have any more."""
        families = families_of(service)
        by_family: dict[str, list[Object]] = {family: [] for family in families}
        dropped = Writes()
        for held in existing:
            by_family.get(str(held.get("addressType")), dropped.delete).append(held)
        key = _key(service)
        for held in dropped.delete:
            self.topology.forget(key, str(held.get("addressType")))
        plans = [self._family(service, pods, family, held) for family, held in by_family.items()]
        return [*plans, FamilyPlan("", dropped)] if dropped.delete else plans

    def _family(self, service: Object, pods: Sequence[Object], family: str, existing: list[Object]) -> FamilyPlan:
        plan = FamilyPlan(family, Writes())
        groups = self._groups(plan, service, pods)
        mine = [held for held in existing if owned(held, service)]
        plan.writes.delete = [held for held in existing if not owned(held, service)]
        for ports, endpoints in groups.items():
            same_ports = [held for held in mine if ports_of(held.get("ports")) == ports]
            template = new_slice(service, family, ports)
            packed = Packing(same_ports, by_identity(endpoints), marks(service), template, self.limit).run()
            plan.writes.create += packed.create
            plan.writes.update += packed.update
            plan.writes.delete += packed.delete
        plan.writes.delete += [held for held in mine if ports_of(held.get("ports")) not in groups]
        if len(plan.writes.delete) == len(existing) and not plan.writes.create:
            _keep_placeholder(plan.writes, new_slice(service, family, ()))
        self._hint(plan, service, existing)
        recycle(plan.writes, mine)
        if deleting(service):
            plan.writes.create.clear()  # garbage collection has begun to delete its slices
        return plan

    def _groups(self, plan: FamilyPlan, service: Object, pods: Sequence[Object]) -> dict[Ports, list[Endpoint]]:
        """Endpoints, together with those that have the same ports."""
        out: dict[Ports, list[Endpoint]] = {}
        published = bool(spec(service).get("publishNotReadyAddresses"))
        fixed = _fixed_ports(service)
        for pod in pods:
            if not included(pod, terminating=True):
                continue
            group = out.setdefault(ports_of(endpoint_ports(service, pod)) if fixed is None else fixed, [])
            placed = str(spec(pod).get("nodeName") or "")
            node = self.node_of(placed)
            if node is None and not published:
                plan.problems.append(f"skipping Pod {name(pod)} for Service {_key(service)}: Node {placed} Not Found")
            elif own := addresses_of(pod, plan.family):
                group.append(endpoint(service, pod, own, node))
        return out

    def _hint(self, plan: FamilyPlan, service: Object, existing: Iterable[Object]) -> None:
        touched = {name(each) for each in (*plan.writes.update, *plan.writes.delete)}
        hinted = Hinted(plan.writes, [held for held in existing if name(held) not in touched], plan.events)
        if hints.topology_mode(service):
            self.topology.assign(_key(service), plan.family, hinted)
            return
        self.topology.disable(_key(service), plan.family, hinted)
        if wanted := hints.distribution(service):
            hints.distribute(hinted, wanted)
        else:
            hints.remove(hinted)


def _fixed_ports(service: Object) -> Ports | None:
    """The ports of all pods, if they do not depend on what the pods call theirs."""
    ports = spec(service).get("ports") or ()
    if any(isinstance(port.get("targetPort"), str) for port in ports):
        return None
    return ports_of(endpoint_ports(service, {}))


def _key(service: Object) -> str:
    return f"{namespace(service)}/{name(service)}"


def families_of(service: Object) -> list[str]:
    """Its address families; where an old server did not say, those that its address allows for."""
    known = [family for family in spec(service).get("ipFamilies") or () if family in ("IPv4", "IPv6")]
    if known:
        return list(dict.fromkeys(known))
    address = spec(service).get("clusterIP") or ""
    if address and address != "None":
        return ["IPv6" if is_ipv6(address) else "IPv4"]
    return ["IPv4", "IPv6"]


def owned(held: Object, service: Object) -> bool:
    """Whether the slice is this very Service's, not that of an earlier one of the same name."""
    return any(
        each.get("uid") == uid(service) and each.get("kind") == "Service" and each.get("apiVersion") == "v1"
        for each in held["metadata"].get("ownerReferences") or ()
    )


def endpoint(service: Object, pod: Object, own: list[str], node: Object | None) -> dict[str, Any]:
    """One pod's endpoint with these of its addresses."""
    serving = podlib.ready(pod)
    published = bool(spec(service).get("publishNotReadyAddresses"))
    conditions = {
        "ready": published or (serving and not deleting(pod)),
        "serving": serving,
        "terminating": deleting(pod),
    }
    out: dict[str, Any] = {"addresses": own, "conditions": conditions, "targetRef": reference(pod)}
    zone = labels(node).get(ZONE) if node is not None else ""
    optional = {"nodeName": spec(pod).get("nodeName"), "zone": zone, "hostname": hostname(service, pod)}
    return {**out, **{key: value for key, value in optional.items() if value}}


def marks(service: Object) -> dict[str, str]:
    """The labels of its slices: its own, and what controllers of slices say."""
    headless = spec(service).get("clusterIP") in (None, "", "None")
    reserved = {SERVICE_NAME: name(service), MANAGED_BY: MANAGER, **({HEADLESS: ""} if headless else {})}
    return {**foreign(labels(service)), **reserved}


def prefix(owner: str) -> str:
    """What generated names begin with."""
    return f"{owner}-" if not dns_subdomain(f"{owner}-a") else owner


def new_slice(service: Object, family: str, ports: Ports) -> Slice:
    owner = {"apiVersion": "v1", "kind": "Service", **service}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": prefix(name(service)),
            "namespace": namespace(service),
            "labels": marks(service),
            "ownerReferences": [controller_reference(owner)],
        },
        "addressType": family,
        "endpoints": [],
        "ports": as_ports(ports),
    }


def as_ports(ports: Ports) -> list[dict[str, Any]]:
    """Ports as a slice has them."""
    out = []
    for port, number, protocol, application in ports:
        extra = {"appProtocol": application} if application else {}
        out.append({"name": port, "port": number, "protocol": protocol, **extra})
    return out


def _keep_placeholder(writes: Writes, wanted: Slice) -> None:
    """The one slice of a Service without endpoints: keep it if it is there, else make it."""
    held = writes.delete[0] if len(writes.delete) == 1 else None
    if held is not None and _is_placeholder(held, wanted):
        writes.delete.clear()
    else:
        writes.create.append(wanted)


def _is_placeholder(held: Object, wanted: Slice) -> bool:
    same_labels = semantically_equal(labels(held), wanted["metadata"]["labels"])
    return same_labels and not endpoints_of(held) and not held.get("ports")
