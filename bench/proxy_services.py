"""Services of every kind for `proxy_differences.py`, with EndpointSlices made by hand, and what to ask them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from proxy_worlds import NODE, OTHER, PORT

L1, L2, L3 = "10.244.1.1", "10.244.1.2", "10.244.1.3"
"""Pods of this node; L3 is no endpoint of most."""
R1, R2 = "10.244.2.1", "10.244.2.2"
PODS = [L1, L2, L3, R1, R2]
READY, NOT_READY = {"ready": True, "serving": True}, {"ready": False, "serving": False}
GOING = {"ready": False, "serving": True, "terminating": True}
GONE = {"ready": False, "serving": False, "terminating": True}
NS = "default"


@dataclass(frozen=True)
class Case:
    """A Service: its endpoints with their conditions, its spec, the load balancer's addresses in its status."""

    name: str
    endpoints: tuple[tuple[str, dict[str, bool]], ...]
    spec: dict[str, Any] = field(default_factory=dict)
    balancers: tuple[dict[str, str], ...] = ()
    hints: dict[str, dict[str, Any]] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)

    def service(self) -> dict[str, Any]:
        ports = [{"name": p.lower(), "port": 80, "targetPort": PORT, "protocol": p} for p in ("TCP", "UDP")]
        metadata = {"name": self.name, "namespace": NS, **self.metadata}
        return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports, **self.spec}}

    def slice(self) -> dict[str, Any]:
        labels = {"kubernetes.io/service-name": self.name}
        ports = [{"name": p.lower(), "port": PORT, "protocol": p} for p in ("TCP", "UDP")]
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": f"{self.name}-1", "namespace": NS, "labels": labels},
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": [self._endpoint(*one) for one in self.endpoints],
        }

    def _endpoint(self, address: str, conditions: dict[str, bool]) -> dict[str, Any]:
        node = "n1" if address.startswith("10.244.1.") else "n2"
        hints = {"hints": self.hints[address]} if address in self.hints else {}
        return {"addresses": [address], "conditions": conditions, "nodeName": node, **hints}


def ready(*addresses: str) -> tuple[tuple[str, dict[str, bool]], ...]:
    return tuple((address, READY) for address in addresses)


LOCAL, INTERNAL = {"externalTrafficPolicy": "Local"}, {"internalTrafficPolicy": "Local"}
NODE_PORT, BALANCER = {"type": "NodePort"}, {"type": "LoadBalancer"}


def _balanced(name: str, last: int, endpoints: tuple[tuple[str, dict[str, bool]], ...], **spec: Any) -> Case:
    return Case(name, endpoints, {**BALANCER, **spec}, ({"ip": f"198.51.100.{last}"},))


def cases() -> Iterator[Case]:
    yield Case("cluster", ready(L1, L2, R1))
    yield Case("single", ready(L1))
    yield Case("moving", ready(L1), {**NODE_PORT, "externalIPs": ["198.51.100.25"]})
    yield Case("remote", ready(R1))
    yield Case("internal-local", ready(L1, R1), INTERNAL)
    yield Case("internal-elsewhere", ready(R1, R2), INTERNAL)
    yield Case("internal-nobody", (), INTERNAL)
    yield Case("nobody", ())
    yield Case("not-ready", ((L1, NOT_READY), (R1, NOT_READY)))
    yield Case("going", ((L1, GOING), (R1, GOING)))
    yield Case("gone", ((L1, GONE), (R1, GONE)))
    yield Case("one-goes", ((L1, READY), (R1, GOING)))
    yield Case("affine", ready(L1, L2, R1), {"sessionAffinity": "ClientIP"})
    yield Case("node-port", ready(L1, R1), NODE_PORT)
    yield Case("node-port-affine", ready(L1, R1), {**NODE_PORT, "sessionAffinity": "ClientIP"})
    yield Case("node-port-local", ready(L1, R1), {**NODE_PORT, **LOCAL})
    yield Case("node-port-elsewhere", ready(R1), {**NODE_PORT, **LOCAL})
    yield Case("node-port-nobody", (), NODE_PORT)
    yield Case("node-port-nobody-local", (), {**NODE_PORT, **LOCAL})
    yield Case("node-port-going", ((L1, GOING), (R1, READY)), {**NODE_PORT, **LOCAL})
    yield Case("node-port-both-local", ready(L1, R1), {**NODE_PORT, **LOCAL, **INTERNAL})
    yield Case("node-port-both-elsewhere", ready(R1), {**NODE_PORT, **LOCAL, **INTERNAL})
    yield from _balancers()
    yield from _others()


def _balancers() -> Iterator[Case]:
    yield _balanced("balanced", 10, ready(L1, R1))
    yield _balanced("balanced-local", 11, ready(L1, R1), **LOCAL)
    yield _balanced("balanced-elsewhere", 12, ready(R1), **LOCAL)
    yield _balanced("balanced-nobody", 13, ())
    yield _balanced("balanced-for-client", 14, ready(L1, R1), loadBalancerSourceRanges=["192.0.2.0/24"])
    yield _balanced("balanced-for-others", 15, ready(L1, R1), loadBalancerSourceRanges=["203.0.113.0/24"])
    yield _balanced("balanced-for-node", 16, ready(L1, R1), loadBalancerSourceRanges=[f"{NODE}/32"])
    yield _balanced("balanced-for-pods", 17, ready(L1, R1), loadBalancerSourceRanges=["10.244.0.0/16"])
    yield _balanced("balanced-for-local", 22, ready(L1, R1), loadBalancerSourceRanges=["203.0.113.0/24"], **LOCAL)
    yield _balanced("balanced-nobody-others", 23, (), loadBalancerSourceRanges=["203.0.113.0/24"])
    yield _balanced("balanced-portless", 18, ready(L1, R1), allocateLoadBalancerNodePorts=False)
    yield _balanced("balanced-affine", 19, ready(L1, R1), sessionAffinity="ClientIP")
    yield Case("by-proxy", ready(L1, R1), BALANCER, ({"ip": "198.51.100.30", "ipMode": "Proxy"},))
    yield Case("by-name", ready(L1, R1), BALANCER, ({"hostname": "lb.example"},))


def _others() -> Iterator[Case]:
    yield Case("external", ready(L1, R1), {"externalIPs": ["198.51.100.20"]})
    yield Case("external-local", ready(L1, R1), {"externalIPs": ["198.51.100.21"], **NODE_PORT, **LOCAL})
    yield Case("external-nobody", (), {"externalIPs": ["198.51.100.24"]})
    yield Case("external-node", ready(R1), {"externalIPs": [NODE], "ports": [
        {"name": "tcp", "port": 8081, "targetPort": PORT, "protocol": "TCP"}
    ]})  # fmt: skip
    for_nodes = {L1: {"forNodes": [{"name": "n1"}]}, R1: {"forNodes": [{"name": "n2"}]}}
    yield Case("hints-nodes", ready(L1, R1), hints=for_nodes)
    yield Case(
        "hints-elsewhere", ready(R1, R2), hints={R1: {"forNodes": [{"name": "n2"}]}, R2: {"forNodes": [{"name": "n3"}]}}
    )
    zones = {L1: {"forZones": [{"name": "z2"}]}, R1: {"forZones": [{"name": "z1"}]}}
    yield Case("hints-zones", ready(L1, R1), hints=zones)
    yield Case("hints-some", ready(L1, R1), hints={L1: {"forZones": [{"name": "z1"}]}})
    label = {"labels": {"service.kubernetes.io/service-proxy-name": "other"}}
    yield Case("of-another", ready(L1, R1), metadata=label)
    yield Case("same-twice", ready(L1, L1))


def nodes() -> Iterator[dict[str, Any]]:
    for name, zone, cidr, address in (("n1", "z1", "10.244.1.0/24", NODE), ("n2", "z2", "10.244.2.0/24", OTHER)):
        labels = {"topology.kubernetes.io/zone": zone, "kubernetes.io/hostname": name}
        yield {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": labels},
            "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
            "status": {
                "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}]
            },
        }
