"""Which Services want a load balancer, and which addresses it gets: pure."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

from tiphys.client.types import Object
from tiphys.controllers.address_pool import AddressPool
from tiphys.controllers.objects import annotations_of, deleting, finalizers, labels, spec, status, uid
from tiphys.controllers.slices import families_of

FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
_TO_BE_DELETED = "ToBeDeletedByClusterAutoscaler"
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})
_WATCHED = (
    "loadBalancerSourceRanges",
    "sessionAffinity",
    "sessionAffinityConfig",
    "loadBalancerIP",
    "externalIPs",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "ports",
)


class NoAddress(Exception):
    """Why a Service gets no address now."""


def wants(service: Object) -> bool:
    """Whether it is ours to serve: those with a class are somebody else's."""
    return spec(service).get("type") == "LoadBalancer" and spec(service).get("loadBalancerClass") is None


def needs_cleanup(service: Object) -> bool:
    """Whether it had a load balancer and must not have it any longer."""
    return FINALIZER in finalizers(service) and (deleting(service) or spec(service).get("type") != "LoadBalancer")


def changed(old: Object, new: Object) -> bool:
    """Whether its load balancer has to be looked at again."""
    if wants(old) != wants(new):
        return True
    if not wants(new):
        return False
    if annotations_of(old) != annotations_of(new) or uid(old) != uid(new):
        return True
    if any(spec(old).get(field) != spec(new).get(field) for field in _WATCHED):
        return True
    return len(families_of(old)) != len(families_of(new))


def addresses_of(service: Object) -> list[str]:
    """What its status says."""
    ingress = (status(service).get("loadBalancer") or {}).get("ingress") or ()
    return [str(each["ip"]) for each in ingress if each.get("ip")]


def choose(service: Object, pool: AddressPool, held: Sequence[str], taken: Container[str]) -> list[str]:
    """The addresses that it shall have, one for each family that it and the pool have.

    What it holds already it keeps. Raises NoAddress."""
    asked = str(spec(service).get("loadBalancerIP") or "")
    if asked:
        return [_check(asked, pool, taken)]
    families = [family for family in families_of(service) if family in pool.families()]
    if not families:
        raise NoAddress(f"the pool of load balancers {pool} has no {families_of(service)[0]} addresses")
    chosen = []
    for family in families:
        own = next((each for each in held if _fits(each, family) and each in pool and each not in taken), None)
        found = own or pool.first_free(family, taken)
        if found is None:
            raise NoAddress(f"all addresses of the pool of load balancers {pool} are in use")
        chosen.append(found)
    return chosen


def _check(asked: str, pool: AddressPool, taken: Container[str]) -> str:
    if asked not in pool:
        raise NoAddress(f"the address {asked} is not in the pool of load balancers {pool}")
    if asked in taken:
        raise NoAddress(f"the address {asked} is in use by another service")
    return asked


def _fits(address: str, family: str) -> bool:
    return (":" in address) is (family == "IPv6")


def ingress(addresses: Sequence[str]) -> dict[str, Any]:
    """A merge patch of the status: these addresses, or none."""
    found = [{"ip": each, "ipMode": "VIP"} for each in addresses]
    return {"loadBalancer": {"ingress": found} if found else None}


def node_set(nodes: Sequence[Object]) -> Mapping[str, str]:
    """The nodes that may be behind load balancers, with what identifies their machines."""
    return {str(node["metadata"]["name"]): str(spec(node).get("providerID") or "") for node in nodes if _serves(node)}


def _serves(node: Object) -> bool:
    excluded = labels(node).get(EXCLUDED)
    leaving = any(taint.get("key") == _TO_BE_DELETED for taint in spec(node).get("taints") or ())
    return not deleting(node) and not leaving and (excluded is None or excluded in _FALSE)
