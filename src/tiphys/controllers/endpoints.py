"""Endpoints: for every Service with a selector, the addresses and ports of its pods, ready or not.

The older form, kept for clients that have not moved to EndpointSlices; at most 1,000 addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tiphys.base.errors import ApiError, NotFound
from tiphys.client.events import WARNING
from tiphys.client.informer import key_of, split_key
from tiphys.client.reconcile import Result
from tiphys.client.resources import ENDPOINTS
from tiphys.client.types import Object
from tiphys.controllers import pods as podlib
from tiphys.controllers.base import ControllerContext
from tiphys.controllers.objects import (
    annotations_of,
    deleting,
    labels,
    name,
    namespace,
    namespace_terminating,
    semantically_equal,
    spec,
)
from tiphys.controllers.service_pods import (
    HEADLESS,
    ServicePodsController,
    addresses,
    endpoint_ports,
    headless,
    hostname,
    included,
    pod_reference,
    selects_pods,
)

MANAGED_BY = "endpoints.kubernetes.io/managed-by"
MANAGER = "endpoint-controller"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
CAPACITY = 1000
_LEADER = "control-plane.alpha.kubernetes.io/leader"
"""Endpoints with this annotation were locks of leader elections, and have no Service."""

Port = tuple[str, int, str, str]
"""Name, number, protocol, application protocol; what is compared to merge subsets."""
_NO_PORT: Port = ("", -1, "", "")


def subsets(service: Object, pods: Iterable[Object]) -> list[dict[str, Any]]:
    """The pods' addresses, those with the same set of ports together; a ready address is no unready one."""
    publish = bool(spec(service).get("publishNotReadyAddresses"))
    known: dict[str, dict[str, Any]] = {}
    by_port: dict[Port, dict[str, bool]] = {}
    for pod in pods:
        ports = endpoint_ports(service, pod)
        if ports is None or not included(pod, terminating=publish):
            continue
        address = _address(service, pod)
        key = f"{address['ip']}/{address['targetRef']['uid']}"
        known[key] = address
        fits = [_as_port(port) for port in ports] if spec(service).get("ports") else [_NO_PORT]
        for port in fits:
            by_port.setdefault(port, {})[key] = publish or podlib.ready(pod)
    groups: dict[frozenset[tuple[str, bool]], list[Port]] = {}
    for port, found in sorted(by_port.items()):
        groups.setdefault(frozenset(found.items()), []).append(port)
    return [_subset(sorted(members), ports, known) for members, ports in groups.items()]


def _address(service: Object, pod: Object) -> dict[str, Any]:
    out: dict[str, Any] = {"ip": addresses(pod)[0], "targetRef": pod_reference(pod)}
    if spec(pod).get("nodeName"):
        out["nodeName"] = spec(pod)["nodeName"]
    if own := hostname(service, pod):
        out["hostname"] = own
    return out


def _as_port(port: Mapping[str, Any]) -> Port:
    return port["name"], port["port"], port["protocol"], port.get("appProtocol", "")


def _subset(
    members: Iterable[tuple[str, bool]], ports: Iterable[Port], known: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, ready in members:
        out.setdefault("addresses" if ready else "notReadyAddresses", []).append(known[key])
    numbered = [port for port in ports if port != _NO_PORT]
    if numbered:
        fields = ("name", "port", "protocol", "appProtocol")
        out["ports"] = [{key: value for key, value in zip(fields, port, strict=True) if value} for port in numbered]
    return out


def truncated(found: list[dict[str, Any]], capacity: int = CAPACITY) -> tuple[list[dict[str, Any]], bool]:
    """No more than `capacity` addresses, ready ones first; and whether any were left out."""
    total = sum(len(each.get(kind) or ()) for each in found for kind in ("addresses", "notReadyAddresses"))
    if total <= capacity:
        return found, False
    out = [dict(each) for each in found]
    for kind in ("addresses", "notReadyAddresses"):
        for each in out:
            if kind in each:
                each[kind] = each[kind][:capacity]
                capacity -= len(each[kind])
    return [{key: value for key, value in each.items() if value} for each in out], True


def wanted(service: Object, pods: Iterable[Object], held: Object | None) -> dict[str, Any] | None:
    """The Endpoints as they should be written; None if `held` are right."""
    found, over = truncated(subsets(service, pods))
    marks = {**labels(service), MANAGED_BY: MANAGER, **({HEADLESS: ""} if headless(service) else {})}
    notes = dict(annotations_of(held)) if held is not None else {}
    notes.pop(OVER_CAPACITY, None)
    if over:
        notes[OVER_CAPACITY] = "truncated"
    if held is None:
        meta = {"name": name(service), "namespace": namespace(service), "labels": marks, "annotations": notes}
        return {"apiVersion": "v1", "kind": "Endpoints", "metadata": meta, "subsets": found}
    same = semantically_equal(held.get("subsets"), found)
    if same and labels(held) == marks and annotations_of(held) == notes:
        return None
    return {**held, "metadata": {**held["metadata"], "labels": marks, "annotations": notes}, "subsets": found}


class EndpointsController(ServicePodsController):
    """The shell; Endpoints have the name of their Service."""

    name = "endpoints-controller"
    account = "endpoint-controller"
    component = "endpoint-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._endpoints = self.watch(ENDPOINTS)
        self._endpoints.subscribe(self._endpoints_changed)

    async def background(self) -> None:
        """What was left behind while nobody looked: Endpoints whose Service has gone."""
        for each in self._endpoints.list():
            if _LEADER not in annotations_of(each):
                self.queue.add(key_of(each))

    async def reconcile(self, key: str) -> Result | None:
        service = self._services.by_key(key)
        if service is None:
            await self._delete(key)
        elif selects_pods(service) and not deleting(service):
            held = self._endpoints.by_key(key)
            new = wanted(service, self.pods_of(service), held)
            if new is not None:
                await self._write(service, new, held)
        return None

    async def _write(self, service: Object, new: Object, held: Object | None) -> None:
        try:
            if held is None:
                await self.client.create(ENDPOINTS, new)
            else:
                await self.client.update(ENDPOINTS, new)
        except ApiError as error:
            if held is None and namespace_terminating(error):
                return
            if error.code not in (404, 409):
                verb, what = (
                    ("Create", "create endpoint for service") if held is None else ("Update", "update endpoint")
                )
                text = f"Failed to {what} {key_of(service)}: {error}"
                self.recorder.event(new, WARNING, f"FailedTo{verb}Endpoint", text)
            raise

    async def _delete(self, key: str) -> None:
        where, what = split_key(key)
        try:
            await self.client.delete(ENDPOINTS, what, where)
        except NotFound:
            return

    def _endpoints_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None or old is not None:
            self.enqueue(old, new)
