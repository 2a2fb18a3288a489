"""The objects that a new cluster starts with."""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from ipaddress import ip_address, ip_network
from typing import Any

import orjson

from tiphys.apiserver.bootstrap import flow, rbac
from tiphys.base.clock import rfc3339, rfc3339_micro

NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
PRIORITY_CLASSES = {
    "system-cluster-critical": (
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    "system-node-critical": (
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
}
_PROXY_HEADERS = {
    "requestheader-allowed-names": '["front-proxy-client"]',
    "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
    "requestheader-group-headers": '["X-Remote-Group"]',
    "requestheader-uid-headers": '["X-Remote-Uid"]',
    "requestheader-username-headers": '["X-Remote-User"]',
}
IDENTITY = "kube-apiserver"


@dataclass(frozen=True, slots=True)
class BootstrapConfig:
    """What the objects say of this API server."""

    advertise_address: str
    """The address that the service `kubernetes` leads to."""
    port: int
    servers: tuple[tuple[str, int], ...] = ()
    """Addresses and ports of all API servers, in order; none: this one is alone."""
    service_cidr: str = "10.96.0.0/16"
    """One range, or one of each family by commas, the primary one first."""
    hostname: str = "localhost"
    front_proxy_ca: str = ""
    """PEM of the CA of the certificate that this server shows to API servers behind it."""
    client_ca: str = ""
    """PEM of the CA of client certificates, for extension API servers."""
    objects: tuple[Desired, ...] = ()
    """What else is to be there."""

    @property
    def service_address(self) -> str:
        """The cluster IP of the service `kubernetes`: the first of the primary range."""
        return str(ip_network(self.service_cidrs[0])[1])

    @property
    def service_cidrs(self) -> list[str]:
        return [each.strip() for each in self.service_cidr.split(",")]


@dataclass(frozen=True, slots=True)
class Desired:
    """One object and how an existing one is brought up to date."""

    group: str
    plural: str
    obj: dict[str, Any]
    update: str = ""
    """"" leaves an existing one alone; "rbac" adds what is missing; "spec" and "all" replace that much; "family" adds
    the range of a second IP family."""
    renew: Callable[[Mapping[str, Any]], dict[str, Any] | None] | None = None
    """Instead of `update`: the existing one as it is to be, None when it is."""


def desired(config: BootstrapConfig, now: float) -> Iterator[Desired]:
    """All of them; `now` is in seconds since the epoch. Namespaces come first."""
    moment = rfc3339(now)
    for name in NAMESPACES:
        yield _core("namespaces", "Namespace", _namespace(name))
    for plural, obj in rbac.objects(_load("rbac.json")):
        yield Desired(rbac.GROUP, plural, obj, "rbac")
    for plural, obj in flow.objects(_load("flow.json"), moment):
        yield Desired(flow.GROUP, plural, obj, "spec")
    for name, (value, text) in PRIORITY_CLASSES.items():
        yield _priority_class(name, value, text)
    yield _core("services", "Service", _service(config), "spec")
    yield _core("endpoints", "Endpoints", _endpoints(config), "all")
    yield _endpoint_slice(config)
    yield _service_cidr(config, moment)
    yield _lease(config, now)
    yield from _config_maps(config, moment)
    for name, (group_priority, version_priority) in _load("apiservices.json").items():
        yield _api_service(name, group_priority, version_priority, moment)
    yield from config.objects


def _load(name: str) -> Any:
    return orjson.loads(resources.files(__package__).joinpath(name).read_bytes())


def _core(plural: str, kind: str, body: dict[str, Any], update: str = "") -> Desired:
    return Desired("", plural, {"kind": kind, "apiVersion": "v1", **body}, update)


def _namespace(name: str) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"kubernetes.io/metadata.name": name}}
    return {"metadata": metadata, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}


def _priority_class(name: str, value: int, text: str) -> Desired:
    head = {"kind": "PriorityClass", "apiVersion": "scheduling.k8s.io/v1", "metadata": {"name": name, "generation": 1}}
    body = {"value": value, "description": text, "preemptionPolicy": "PreemptLowerPriority"}
    return Desired("scheduling.k8s.io", "priorityclasses", {**head, **body})


def _service(config: BootstrapConfig) -> dict[str, Any]:
    address = config.service_address
    family = "IPv6" if ":" in address else "IPv4"
    labels = {"component": "apiserver", "provider": "kubernetes"}
    spec = {
        "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": config.port}],
        "clusterIP": address,
        "clusterIPs": [address],
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "ipFamilies": [family],
        "ipFamilyPolicy": "SingleStack",
        "internalTrafficPolicy": "Cluster",
    }
    metadata = {"name": "kubernetes", "namespace": "default", "labels": labels}
    return {"metadata": metadata, "spec": spec, "status": {"loadBalancer": {}}}


def _by_port(config: BootstrapConfig) -> dict[int, list[str]]:
    """The servers' addresses for each port; all have the same one, except perhaps on one machine."""
    found: dict[int, list[str]] = {}
    for address, port in config.servers or ((config.advertise_address, config.port),):
        found.setdefault(port, []).append(address)
    return found


def _endpoints(config: BootstrapConfig) -> dict[str, Any]:
    labels = {"endpointslice.kubernetes.io/skip-mirror": "true"}
    subsets = [
        {
            "addresses": [{"ip": address} for address in addresses],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        }
        for port, addresses in sorted(_by_port(config).items())
    ]
    return {"metadata": {"name": "kubernetes", "namespace": "default", "labels": labels}, "subsets": subsets}


def _endpoint_slice(config: BootstrapConfig) -> Desired:
    """A slice has one port; servers with different ones are a matter of one machine, where any of them will do."""
    labels = {"kubernetes.io/service-name": "kubernetes"}
    port, addresses = min(_by_port(config).items())
    obj = {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"name": "kubernetes", "namespace": "default", "generation": 1, "labels": labels},
        "addressType": f"IPv{ip_address(addresses[0]).version}",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
        "ports": [{"name": "https", "protocol": "TCP", "port": port}],
    }
    return Desired("discovery.k8s.io", "endpointslices", obj, "all")


def _api_service(name: str, group_priority: int, version_priority: int, moment: str) -> Desired:
    """A group and version that this server serves itself."""
    version, _, group = name.partition(".")
    condition = {
        "type": "Available",
        "status": "True",
        "lastTransitionTime": moment,
        "reason": "Local",
        "message": "Local APIServices are always available",
    }
    spec: dict[str, Any] = {"group": group} if group else {}
    spec |= {"version": version, "groupPriorityMinimum": group_priority, "versionPriority": version_priority}
    metadata = {"name": name, "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"}}
    head = {"kind": "APIService", "apiVersion": "apiregistration.k8s.io/v1", "metadata": metadata}
    body = {"spec": spec, "status": {"conditions": [condition]}}
    return Desired("apiregistration.k8s.io", "apiservices", {**head, **body})


def _service_cidr(config: BootstrapConfig, moment: str) -> Desired:
    condition = {
        "type": "Ready",
        "status": "True",
        "lastTransitionTime": moment,
        "reason": "",
        "message": "Kubernetes default Service CIDR is ready",
    }
    head = {"kind": "ServiceCIDR", "apiVersion": "networking.k8s.io/v1", "metadata": {"name": "kubernetes"}}
    body = {"spec": {"cidrs": config.service_cidrs}, "status": {"conditions": [condition]}}
    return Desired("networking.k8s.io", "servicecidrs", {**head, **body}, "family")


def _lease(config: BootstrapConfig, now: float) -> Desired:
    """The API server's identity (KEP-1965)."""
    digest = hashlib.sha256(config.hostname.encode()).digest()[:16]
    name = "apiserver-" + base64.b32encode(digest).decode().rstrip("=").lower()
    labels = {"apiserver.kubernetes.io/identity": IDENTITY, "kubernetes.io/hostname": config.hostname}
    spec = {
        "holderIdentity": f"{name}_{uuid.uuid4()}",
        "leaseDurationSeconds": 3600,
        "renewTime": rfc3339_micro(now),
    }
    metadata = {"name": name, "namespace": "kube-system", "labels": labels}
    head = {"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": metadata}
    return Desired("coordination.k8s.io", "leases", {**head, "spec": spec}, "spec")


def _config_maps(config: BootstrapConfig, moment: str) -> Iterator[Desired]:
    tracking = "kube-apiserver-legacy-service-account-token-tracking"
    yield _config_map(tracking, {"since": moment[:10]})
    if config.client_ca:
        data = {"client-ca-file": config.client_ca}
        if config.front_proxy_ca:
            data |= {**_PROXY_HEADERS, "requestheader-client-ca-file": config.front_proxy_ca}
        yield _config_map("extension-apiserver-authentication", data, "all")


def _config_map(name: str, data: dict[str, str], update: str = "") -> Desired:
    metadata = {"name": name, "namespace": "kube-system"}
    return _core("configmaps", "ConfigMap", {"metadata": metadata, "data": data}, update)
