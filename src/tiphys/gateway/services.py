"""The Services that lead to the gateway, and their EndpointSlices: what they are to be, and the calls for it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.base.errors import AlreadyExists, NotFound
from tiphys.client.resources import ENDPOINT_SLICES, SERVICES
from tiphys.client.types import MERGE_PATCH, Client, Object
from tiphys.gateway.plan import ServicePlan

MANAGED_BY = "gateway.tiphys.io"
LABELS = {"app.kubernetes.io/managed-by": "tiphys-gateway"}


def service(plan: ServicePlan) -> dict[str, Any]:
    """The Service as it is created."""
    metadata: dict[str, Any] = {
        "name": plan.name,
        "namespace": plan.namespace,
        "labels": {**plan.labels, **LABELS},
    }
    if plan.annotations:
        metadata["annotations"] = dict(plan.annotations)
    if plan.owner is not None:
        metadata["ownerReferences"] = [owner_reference(plan.owner)]
    spec: dict[str, Any] = {
        "type": "LoadBalancer",
        "ports": ports(plan),
        "ipFamilyPolicy": "PreferDualStack",
        "allocateLoadBalancerNodePorts": False,
        "externalTrafficPolicy": "Cluster",
    }
    if plan.address:
        spec["loadBalancerIP"] = plan.address
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def ports(plan: ServicePlan) -> list[dict[str, Any]]:
    return [{"name": name, "port": port, "protocol": "TCP"} for name, port in plan.ports.items()]


def owner_reference(owner: Object) -> dict[str, Any]:
    metadata = owner["metadata"]
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
    }


def service_patch(plan: ServicePlan, have: Object) -> dict[str, Any] | None:
    """A merge patch that brings a Service up to date; None when it is."""
    spec = have.get("spec") or {}
    wanted = {(port["name"], port["port"]) for port in ports(plan)}
    patch: dict[str, Any] = {}
    if {(port.get("name"), port.get("port")) for port in spec.get("ports") or ()} != wanted:
        patch["ports"] = ports(plan)
    if spec.get("type") != "LoadBalancer":
        patch["type"] = "LoadBalancer"
    if (spec.get("loadBalancerIP") or "") != plan.address:
        patch["loadBalancerIP"] = plan.address or None
    changed: dict[str, Any] = {"spec": patch} if patch else {}
    metadata = have["metadata"]
    for field, values in (("labels", plan.labels), ("annotations", plan.annotations)):
        if any((metadata.get(field) or {}).get(name) != value for name, value in values.items()):
            changed.setdefault("metadata", {})[field] = dict(values)
    return changed or None


def slice_of(plan: ServicePlan, owner: Object, family: str, addresses: Sequence[str], bound: Mapping[int, int]) -> Any:
    """The EndpointSlice of one family; `bound` says where each port of the Service is listened on."""
    suffix = family.lower()
    name = f"{plan.name}-{suffix}"
    if len(name) > 253:
        name = f"{plan.name[:230]}-{hashlib.sha256(plan.name.encode()).hexdigest()[:8]}-{suffix}"
    metadata = {
        "name": name,
        "namespace": plan.namespace,
        "labels": {
            "kubernetes.io/service-name": plan.name,
            "endpointslice.kubernetes.io/managed-by": MANAGED_BY,
        },
        "ownerReferences": [_of_service(plan.name, owner)],
    }
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": family,
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
        "ports": [
            {"name": name, "port": bound[port], "protocol": "TCP"}
            for name, port in plan.ports.items()
            if bound.get(port)
        ],
    }


def _of_service(name: str, service: Object) -> dict[str, str]:
    return {"apiVersion": "v1", "kind": "Service", "name": name, "uid": service["metadata"]["uid"]}


async def ensure(
    client: Client,
    plan: ServicePlan,
    have: Object | None,
    slices: Sequence[Object],
    addresses: Sequence[str],
    bound: Mapping[int, int],
) -> None:
    """Make the Service and its slices what they are to be. Raises ApiError, OSError."""
    if have is None:
        try:
            have = await client.create(SERVICES, service(plan), plan.namespace)
        except AlreadyExists:
            have = await client.get(SERVICES, plan.name, plan.namespace)
    if (patch := service_patch(plan, have)) is not None:
        have = await client.patch(SERVICES, plan.name, patch, plan.namespace, type=MERGE_PATCH)
    families = {"IPv4": [one for one in addresses if ":" not in one], "IPv6": [one for one in addresses if ":" in one]}
    known = {one["metadata"]["name"]: one for one in slices}
    for family, own in families.items():
        if own:
            await _ensure_slice(client, slice_of(plan, have, family, own, bound), known)


async def _ensure_slice(client: Client, wanted: dict[str, Any], known: Mapping[str, Object]) -> None:
    metadata = wanted["metadata"]
    have = known.get(metadata["name"])
    if have is not None and _same(have, wanted):
        return
    try:
        if have is None:
            await client.create(ENDPOINT_SLICES, wanted, metadata["namespace"])
            return
    except AlreadyExists:
        pass
    patch = {
        "endpoints": wanted["endpoints"],
        "ports": wanted["ports"],
        "metadata": {"ownerReferences": metadata["ownerReferences"], "labels": metadata["labels"]},
    }
    await client.patch(ENDPOINT_SLICES, metadata["name"], patch, metadata["namespace"], type=MERGE_PATCH)


def _same(have: Object, wanted: Mapping[str, Any]) -> bool:
    def shape(each: Mapping[str, Any]) -> object:
        addresses = [endpoint["addresses"] for endpoint in each.get("endpoints") or ()]
        ports = sorted((port.get("name") or "", port.get("port") or 0) for port in each.get("ports") or ())
        owners = [ref.get("uid") for ref in each["metadata"].get("ownerReferences") or ()]
        return addresses, ports, owners

    return shape(have) == shape(wanted)


async def remove(client: Client, namespace: str, name: str) -> None:
    """A Service that nobody needs any more; the garbage collector takes its slices."""
    try:
        await client.delete(SERVICES, name, namespace)
    except NotFound:
        return
