"""The cluster's name servers as a Service: kube-system/kube-dns at the address that pods are told.

Every node that runs one says so by a label. The Service has no selector; its EndpointSlices, one an address family,
name each such node with a hint for that node, so that pods ask their own node's.

Whoever wants other name servers may have them: a Service that is there is its user's, and only made again when it is
gone. Without the setting this does nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from tiphys.api.wellknown import CLUSTER_DNS_LABEL
from tiphys.base.errors import AlreadyExists, NotFound
from tiphys.client.backoff import Backoff
from tiphys.client.informer import key_of
from tiphys.client.reconcile import Result
from tiphys.client.resources import ENDPOINT_SLICES, NODES, SERVICES
from tiphys.client.types import Object
from tiphys.client.workqueue import WorkQueue
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.nodes import is_ready
from tiphys.controllers.objects import controller_reference, deleting, labels, name, spec, status

SETTING = "cluster-dns"
"""The Service's addresses, by commas: one of each IP family, the primary one first."""
NAMESPACE, NAME = "kube-system", "kube-dns"
KEY = f"{NAMESPACE}/{NAME}"
APP = {"k8s-app": NAME}
MANAGER = "cluster-dns.tiphys.io"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
SERVICE_NAME = "kubernetes.io/service-name"
ZONE = "topology.kubernetes.io/zone"
PORTS = (("dns", "UDP", 53, 10053), ("dns-tcp", "TCP", 53, 10053), ("metrics", "TCP", 9153, 9153))
"""Name, protocol, the Service's port, the node's port."""
MAX_ENDPOINTS = 1000
"""Of one slice."""


def new_service(addresses: Sequence[str]) -> dict[str, Any]:
    """The Service, with the labels by which tools know it in any cluster."""
    marks = {**APP, "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}
    notes = {"prometheus.io/port": "9153", "prometheus.io/scrape": "true"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": marks, "annotations": notes},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": addresses[0],
            "clusterIPs": list(addresses),
            "ipFamilies": [family_of(each) for each in addresses],
            "ipFamilyPolicy": "RequireDualStack" if len(addresses) > 1 else "SingleStack",
            "ports": [
                {"name": each, "protocol": protocol, "port": port, "targetPort": target}
                for each, protocol, port, target in PORTS
            ],
            "trafficDistribution": "PreferSameNode",
        },
    }


def family_of(address: str) -> str:
    return f"IPv{ip_address(address).version}"


def slices(service: Object, nodes: Iterable[Object]) -> dict[str, dict[str, Any]]:
    """The slices of the Service, by name; none for one that selects pods."""
    if spec(service).get("selector"):
        return {}
    owner = {"apiVersion": "v1", "kind": "Service", **service}
    serving = sorted(filter(_serves, nodes), key=name)
    found: dict[str, dict[str, Any]] = {}
    for family in spec(service).get("ipFamilies") or ("IPv4",):
        endpoints = [each for node in serving if (each := _endpoint(node, family)) is not None]
        for part in range(0, max(1, len(endpoints)), MAX_ENDPOINTS):
            made = _slice(owner, family, part // MAX_ENDPOINTS, endpoints[part : part + MAX_ENDPOINTS])
            found[name(made)] = made
    return found


def _serves(node: Object) -> bool:
    return labels(node).get(CLUSTER_DNS_LABEL) == "true"


def _slice(owner: Object, family: str, part: int, endpoints: list[dict[str, Any]]) -> dict[str, Any]:
    suffix = f"-{part + 1}" if part else ""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{NAME}-{family.lower()}{suffix}",
            "namespace": NAMESPACE,
            "labels": {**APP, SERVICE_NAME: NAME, MANAGED_BY: MANAGER},
            "ownerReferences": [controller_reference(owner)],
        },
        "addressType": family,
        "endpoints": endpoints,
        "ports": [{"name": each, "protocol": protocol, "port": target} for each, protocol, _, target in PORTS],
    }


def _endpoint(node: Object, family: str) -> dict[str, Any] | None:
    """The name server of a node; None if it has no address of that family."""
    told = status(node).get("addresses") or ()
    own = [each["address"] for each in told if each.get("type") == "InternalIP"]
    address = next((each for each in own if family_of(each) == family), "")
    if not address:
        return None
    ready = is_ready(node) and not deleting(node)
    made: dict[str, Any] = {
        "addresses": [address],
        "conditions": {"ready": ready, "serving": ready, "terminating": False},
        "nodeName": name(node),
    }
    hints: dict[str, Any] = {"forNodes": [{"name": name(node)}]}
    if zone := labels(node).get(ZONE):
        made["zone"] = zone
        hints["forZones"] = [{"name": zone}]
    return {**made, "hints": hints} if ready else made


def differs(held: Object, wanted: Mapping[str, Any]) -> bool:
    """Whether the slice in the store says something else."""
    mine, theirs = wanted["metadata"], held["metadata"]
    return (
        any(labels(held).get(key) != value for key, value in mine["labels"].items())
        or theirs.get("ownerReferences") != mine["ownerReferences"]
        or (held.get("endpoints") or []) != wanted["endpoints"]
        or held.get("ports") != wanted["ports"]
    )


class ClusterDnsController(Controller):
    """There is one key: the Service."""

    name = "cluster-dns-controller"
    account = "cluster-dns-controller"
    workers = 1

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.queue = WorkQueue(Backoff(base=1.0, limit=60.0))
        self._addresses = [each for each in str(context.settings.get(SETTING) or "").split(",") if each]
        if not self._addresses:
            return
        self._services = self.watch(SERVICES)
        self._nodes = self.watch(NODES)
        self._slices = self.watch(ENDPOINT_SLICES)
        self._services.subscribe(self._service_changed)
        self._slices.subscribe(self._slice_changed)
        self._nodes.subscribe(self._node_changed)
        self.queue.add(KEY)

    async def reconcile(self, key: str) -> Result | None:
        service = self._services.by_key(KEY)
        if service is None:
            with contextlib.suppress(AlreadyExists):  # it is on its way into the cache
                await self.client.create(SERVICES, new_service(self._addresses))
        elif not deleting(service):
            await self._write(slices(service, self._nodes.list()))
        return None

    async def _write(self, wanted: Mapping[str, dict[str, Any]]) -> None:
        held = {name(each): each for each in self._slices.list(NAMESPACE) if labels(each).get(MANAGED_BY) == MANAGER}
        for each, obj in wanted.items():
            if each not in held:
                await self.client.create(ENDPOINT_SLICES, obj)
            elif differs(held[each], obj):
                version = held[each]["metadata"].get("resourceVersion")
                await self.client.update(
                    ENDPOINT_SLICES, {**obj, "metadata": {**obj["metadata"], "resourceVersion": version}}
                )
        for each in held.keys() - wanted.keys():
            try:
                await self.client.delete(ENDPOINT_SLICES, each, NAMESPACE)
            except NotFound:
                continue

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        if key_of(new or old or {"metadata": {"name": ""}}) == KEY:
            self.queue.add(KEY)

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        if any(each is not None and labels(each).get(MANAGED_BY) == MANAGER for each in (old, new)):
            self.queue.add(KEY)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        """Most changes of a node are heartbeats."""
        if _told(old) != _told(new):
            self.queue.add(KEY)


def _told(node: Object | None) -> tuple[Any, ...]:
    """What the slices say of a node."""
    if node is None or not _serves(node):
        return ()
    return tuple(_endpoint(node, family) for family in ("IPv4", "IPv6"))
