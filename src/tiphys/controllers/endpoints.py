"""Endpoints: for every Service with a selector, the addresses and ports of its pods, ready or not.

The older form, kept for clients that have not moved to EndpointSlices; at most 1,000 addresses.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tiphys.base.errors import AlreadyExists, ApiError, NotFound
from tiphys.client.events import WARNING
from tiphys.client.informer import key_of, split_key
from tiphys.client.reconcile import Result
from tiphys.client.resources import ENDPOINTS
from tiphys.client.types import Object
from tiphys.controllers import pods as podlib
from tiphys.controllers.base import ControllerContext
from tiphys.controllers.objects import annotations_of, int_of, labels, name, namespace, namespace_terminating, spec
from tiphys.controllers.service_pods import (
    ServicePodsController,
    addresses,
    addresses_of,
    endpoint_ports,
    family_of,
    hostname,
    included,
    pod_reference,
    selects_pods,
)
from tiphys.controllers.slice_packing import HEADLESS
from tiphys.controllers.subsets import repack
from tiphys.controllers.trigger_times import TriggerTimes, annotated

MANAGED_BY = "endpoints.kubernetes.io/managed-by"
MANAGER = "endpoint-controller"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
CAPACITY = 1000
LEADER = "control-plane.alpha.kubernetes.io/leader"
"""Endpoints with this annotation were locks of leader elections, and have no Service."""

_READY, _UNREADY = "addresses", "notReadyAddresses"


def subsets(service: Object, pods: Iterable[Object]) -> list[dict[str, Any]]:
    """The pods' addresses, those with the same set of ports together; a ready address is no unready one."""
    return repack(_expanded(service, pods))


def _expanded(service: Object, pods: Iterable[Object]) -> Iterator[dict[str, Any]]:
    publish = bool(spec(service).get("publishNotReadyAddresses"))
    needs_ports = bool(spec(service).get("ports"))
    for pod in pods:
        ip = _address(service, pod) if included(pod, terminating=publish) else None
        if ip is None or not (needs_ports or spec(service).get("clusterIP") == "None"):
            continue
        address: dict[str, Any] = {"ip": ip, "targetRef": pod_reference(pod)}
        optional = {"nodeName": spec(pod).get("nodeName"), "hostname": hostname(service, pod)}
        address |= {key: value for key, value in optional.items() if value}
        kind = _READY if publish or podlib.ready(pod) else _UNREADY
        ports = endpoint_ports(service, pod)
        if ports or not needs_ports:
            yield {kind: [address], "ports": ports}


def _address(service: Object, pod: Object) -> str | None:
    """The pod's address of the Service's first family."""
    families = spec(service).get("ipFamilies") or ()
    own = spec(service).get("clusterIP") or ""
    if families:
        family = str(families[0])
    else:
        known = family_of(own if own and own != "None" else addresses(pod)[0])
        family = known[0] if known is not None else "IPv4"
    return next(iter(addresses_of(pod, family)), None)


def truncated(found: list[dict[str, Any]], capacity: int = CAPACITY) -> tuple[list[dict[str, Any]], bool]:
    """No more than `capacity` addresses, ready ones first, each subset in proportion; and whether any are left out."""
    ready, unready = (sum(len(each.get(kind) or ()) for each in found) for kind in (_READY, _UNREADY))
    if ready + unready <= capacity:
        return found, False
    kind, total, room = (_READY, ready, capacity) if ready > capacity else (_UNREADY, unready, capacity - ready)
    left, out = room, []
    for each in found:
        listed = each.get(kind) or []
        kept = listed[: min(left, math.ceil(len(listed) / total * room))]
        left -= len(kept)
        dropped = _UNREADY if kind == _READY else ""
        rest = {key: value for key, value in each.items() if key not in (kind, dropped)}
        out.append({**({kind: kept} if kept else {}), **rest})
    return out, True


def wanted(service: Object, pods: Iterable[Object], held: Object | None, trigger: float = 0.0) -> dict[str, Any] | None:
    """The Endpoints as they should be written because of a change at `trigger`; None if `held` are right."""
    found, over = truncated(subsets(service, pods))
    if held is not None and _right(service, held, found, over=over):
        return None
    headless = spec(service).get("clusterIP") in (None, "", "None")
    rest = {key: value for key, value in labels(service).items() if key != HEADLESS}
    marks = {**rest, **({HEADLESS: ""} if headless else {}), MANAGED_BY: MANAGER}
    notes = annotated(annotations_of(held) if held is not None else {}, trigger)
    notes.pop(OVER_CAPACITY, None)
    if over:
        notes[OVER_CAPACITY] = "truncated"
    base = held or {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": name(service)}}
    meta = {**base["metadata"], "namespace": namespace(service), "labels": marks, "annotations": notes}
    return {**base, "metadata": meta, "subsets": found}


def _right(service: Object, held: Object, found: list[dict[str, Any]], *, over: bool) -> bool:
    return (
        repack(held.get("subsets") or ()) == found
        and _own_labels(labels(held)) == _own_labels({**labels(service), MANAGED_BY: MANAGER})
        and (annotations_of(held).get(OVER_CAPACITY) is not None) == over
    )


def _own_labels(marks: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in marks.items() if key != HEADLESS}


class EndpointsController(ServicePodsController):
    """The shell; Endpoints have the name of their Service."""

    name = "endpoints-controller"
    account = "endpoint-controller"
    component = "endpoint-controller"
    batch_setting = "endpoint-updates-batch-period"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._times = TriggerTimes()
        self._endpoints = self.watch(ENDPOINTS)
        self._endpoints.subscribe(self._endpoints_changed)

    async def background(self) -> None:
        """What was left behind while nobody looked: Endpoints whose Service has gone."""
        for each in self._endpoints.list():
            if LEADER not in annotations_of(each):
                self.queue.add(key_of(each))

    async def reconcile(self, key: str) -> Result | None:
        service = self._services.by_key(key)
        if service is None:
            self._times.forget(key)
            self._sizes.pop(key, None)
            await self._delete(key)
        elif selects_pods(service):
            held = self._endpoints.by_key(key)
            if held is not None and self.behind(key, held):
                return None
            pods = self.pods_of(service)
            new = wanted(service, pods, held, self._times.note(key, service, pods))
            if new is not None:
                await self._write(service, new, held)
        return None

    async def _write(self, service: Object, new: Object, held: Object | None) -> None:
        try:
            if held is None:
                written = await self.client.create(ENDPOINTS, new)
            else:
                written = await self.client.update(ENDPOINTS, new)
        except ApiError as error:
            if held is None and namespace_terminating(error):
                return
            if isinstance(error, AlreadyExists):
                raise  # the cache is behind
            verb, what = ("Create", "create endpoint for service") if held is None else ("Update", "update endpoint")
            text = f"Failed to {what} {key_of(service)}: {error}"
            self.recorder.event(new, WARNING, f"FailedTo{verb}Endpoint", text)
            raise
        self._written[key_of(written)] = int_of(written["metadata"].get("resourceVersion"))

    async def _delete(self, key: str) -> None:
        where, what = split_key(key)
        try:
            await self.client.delete(ENDPOINTS, what, where)
        except NotFound:
            return

    def _endpoints_changed(self, old: Object | None, new: Object | None) -> None:
        """What others write there stays until the pods change; what they delete is made again."""
        if new is None or key_of(new) in self._written:
            self.enqueue(old, new)
