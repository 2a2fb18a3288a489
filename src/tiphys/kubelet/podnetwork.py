"""What a pod asks of its network: host ports and bandwidths. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tiphys.api.quantity import parse
from tiphys.kubelet.podspec import Object, init_containers, is_host_network, is_sidecar, main_containers
from tiphys.runtime.connectivity import Bandwidth, PortMapping
from tiphys.runtime.types import InvalidSpec

INGRESS, EGRESS = "kubernetes.io/ingress-bandwidth", "kubernetes.io/egress-bandwidth"
_LEAST, _MOST = 1000, 10**15


def port_mappings(pod: Object) -> tuple[PortMapping, ...]:
    """Of all containers that run side by side; none for a pod in the node's network, whose ports are the node's."""
    return () if is_host_network(pod) else tuple(_ports(pod))


def _ports(pod: Object) -> Iterator[PortMapping]:
    for container in (*filter(is_sidecar, init_containers(pod)), *main_containers(pod)):
        for port in container.get("ports") or ():
            if host_port := port.get("hostPort"):
                protocol = str(port.get("protocol") or "TCP").lower()
                yield PortMapping(protocol, int(host_port), int(port["containerPort"]), str(port.get("hostIP") or ""))


def bandwidth(pod: Object) -> Bandwidth:
    """By the pod's annotations. Raises InvalidSpec for what is no rate between 1k and 1P."""
    annotations = pod["metadata"].get("annotations") or {}
    return Bandwidth(_rate(annotations, INGRESS), _rate(annotations, EGRESS))


def _rate(annotations: Object, name: str) -> int:
    text = annotations.get(name)
    if text is None:
        return 0
    try:
        rate = parse(str(text)).value
    except ValueError as error:
        raise InvalidSpec(f"annotation {name}: {error}") from error
    if rate < _LEAST:
        raise InvalidSpec(f"annotation {name}: resource is unreasonably small (< 1kbit)")
    if rate > _MOST:
        raise InvalidSpec(f"annotation {name}: resoruce is unreasonably large (> 1Pbit)")
    return rate
