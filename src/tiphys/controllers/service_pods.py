"""Which pods are behind which Services: what the controllers of Endpoints and EndpointSlices have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, ClassVar

from tiphys.api import selectors
from tiphys.api.validation.addresses import parse, shown
from tiphys.client.backoff import Backoff
from tiphys.client.informer import key_of
from tiphys.client.resources import PODS, SERVICES
from tiphys.client.types import Object
from tiphys.client.workqueue import WorkQueue
from tiphys.controllers import pods as podlib
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import deleting, labels, name, namespace, spec, status, uid


def selects_pods(service: Object) -> bool:
    """Whether its endpoints are ours to work out: others are made by hand, or there are none."""
    return bool(spec(service).get("selector")) and spec(service).get("type") != "ExternalName"


@lru_cache(maxsize=1 << 15)
def family_of(text: str) -> tuple[str, str] | None:
    """("IPv4" or "IPv6", the address as it is written everywhere); None for what is no address."""
    address = parse(text)
    if address is None:
        return None
    plain = shown(address)
    return "IPv6" if ":" in plain else "IPv4", plain


def addresses_of(pod: Object, family: str) -> list[str]:
    """The pod's addresses of one family, in their usual form."""
    return [known[1] for text in addresses(pod) if (known := family_of(text)) is not None and known[0] == family]


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


def endpoint_ports(service: Object, pod: Object) -> list[dict[str, Any]]:
    """The ports of the Service as this pod has them; those that it has not are left out."""
    found = ((port, find_port(pod, port)) for port in spec(service).get("ports") or ())
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

    batch_setting: ClassVar[str]
    """The setting that says for how many seconds changes of pods are gathered."""
    first_retry: ClassVar[float] = 0.005
    """Seconds before the first retry of a failure; they double with each one."""

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.queue = WorkQueue(Backoff(base=self.first_retry, limit=1000.0))
        self._batch = float(context.settings.get(self.batch_setting, 0.0))
        self._services = self.watch(SERVICES)
        self._services.add_index("selector", _selector_index)
        self._pods = self.watch(PODS)
        self._sizes: dict[str, int] = {}
        """How many pods each Service had at the last look."""
        self._services.subscribe(self.enqueue)
        self._pods.subscribe(self._pod_changed)

    def pods_of(self, service: Object) -> list[Object]:
        """The pods that it selects."""
        selector = selectors.from_labels(spec(service).get("selector"))
        found = [pod for pod in self._pods.list(namespace(service)) if selector.matches(labels(pod))]
        self._sizes[key_of(service)] = len(found)
        return found

    def services_of(self, pod: Object) -> Iterator[Object]:
        """The Services that select it."""
        where, marks = namespace(pod), labels(pod)
        for label in marks.items():
            for service in self._services.by_index("selector", _index_value(where, *label)):
                if selects_pods(service) and spec(service)["selector"].items() <= marks.items():
                    yield service

    def enqueue_services_of(self, pod: Object) -> None:
        for service in self.services_of(pod):
            key = key_of(service)
            if self._batch:
                self.queue.add_after(key, self._batch)
            else:
                self.enqueue_owner(key, self._sizes.get(key, 0))

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


def _selector_index(service: Object) -> Iterable[str]:
    """A Service is found by one label of its selector: a pod without it is none of its pods."""
    selector = spec(service).get("selector") or {}
    return (_index_value(namespace(service), *min(selector.items())),) if selector else ()


def _index_value(where: str, key: str, value: str) -> str:
    return f"{where} {key}={value}"
