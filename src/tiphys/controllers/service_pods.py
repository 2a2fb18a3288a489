"""Which pods are behind which Services: what the controllers of Endpoints and EndpointSlices have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tiphys.api import selectors
from tiphys.client.informer import key_of
from tiphys.client.resources import PODS, SERVICES
from tiphys.client.types import Object
from tiphys.controllers import pods as podlib
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import deleting, labels, name, namespace, spec, status, uid

HEADLESS = "service.kubernetes.io/headless"
_GATHER = 0.05
"""Seconds in which further changes of a Service's pods are awaited."""


def selects_pods(service: Object) -> bool:
    """Whether its endpoints are ours to work out: others are made by hand, or there are none."""
    return bool(spec(service).get("selector")) and spec(service).get("type") != "ExternalName"


def headless(service: Object) -> bool:
    return spec(service).get("clusterIP") in (None, "", "None")


def addresses(pod: Object) -> list[str]:
    """All its addresses, the primary one first."""
    many = [each["ip"] for each in status(pod).get("podIPs") or () if each.get("ip")]
    one = status(pod).get("podIP")
    return many or ([one] if one else [])


def included(pod: Object, *, terminating: bool) -> bool:
    """Whether it has endpoints at all: it has an address and has not ended; those being deleted on demand."""
    return bool(addresses(pod)) and not podlib.terminal(pod) and (terminating or not deleting(pod))


def find_port(pod: Object, port: Mapping[str, Any]) -> int | None:
    """The number of a Service's port on this pod; None if it names a port that the pod has not."""
    target = port.get("targetPort", port["port"])
    if isinstance(target, int):
        return target
    sidecars = [each for each in spec(pod).get("initContainers") or () if each.get("restartPolicy") == "Always"]
    for container in (*(spec(pod).get("containers") or ()), *sidecars):
        for offered in container.get("ports") or ():
            if offered.get("name") == target and _protocol(offered) == _protocol(port):
                return int(offered["containerPort"])
    return None


def _protocol(port: Mapping[str, Any]) -> str:
    return str(port.get("protocol") or "TCP")


def endpoint_ports(service: Object, pod: Object) -> list[dict[str, Any]] | None:
    """The ports of the Service as this pod has them; None if the Service needs ports and has none."""
    ports = spec(service).get("ports") or ()
    if not ports and not headless(service):
        return None
    found = ((port, find_port(pod, port)) for port in ports)
    return [_endpoint_port(port, number) for port, number in found if number is not None]


def _endpoint_port(port: Mapping[str, Any], number: int) -> dict[str, Any]:
    out = {"name": port.get("name") or "", "port": number, "protocol": _protocol(port)}
    if port.get("appProtocol"):
        out["appProtocol"] = port["appProtocol"]
    return out


def hostname(service: Object, pod: Object) -> str:
    """The name under which the Service gives the pod a DNS record of its own; "" for none."""
    own = spec(pod)
    return str(own.get("hostname") or "") if own.get("subdomain") == name(service) else ""


def pod_reference(pod: Object) -> dict[str, str]:
    return {"kind": "Pod", "namespace": namespace(pod), "name": name(pod), "uid": uid(pod)}


class ServicePodsController(Controller):
    """Keys are Services; they are added when the Service changes or pods that it selects do."""

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._services = self.watch(SERVICES)
        self._pods = self.watch(PODS)
        self._services.subscribe(self.enqueue)
        self._pods.subscribe(self._pod_changed)

    def pods_of(self, service: Object) -> Iterator[Object]:
        """The pods that it selects."""
        selector = selectors.from_labels(spec(service).get("selector"))
        return (pod for pod in self._pods.list(namespace(service)) if selector.matches(labels(pod)))

    def enqueue_services_of(self, pod: Object) -> None:
        for service in self._services.list(namespace(pod)):
            if selects_pods(service) and selectors.from_labels(spec(service)["selector"]).matches(labels(pod)):
                self.queue.add_after(key_of(service), _GATHER)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and _matters(old) == _matters(new):
            return
        for pod in (old, new):
            if pod is not None:
                self.enqueue_services_of(pod)


def _matters(pod: Object) -> tuple[Any, ...]:
    """What of a pod shows in endpoints."""
    own = spec(pod)
    placed = own.get("nodeName"), own.get("hostname"), own.get("subdomain")
    return labels(pod), addresses(pod), podlib.ready(pod), podlib.terminal(pod), deleting(pod), placed
