"""Where the connections of a published port go: from Services, slices, nodes and pods to addresses. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from tiphys.client.types import Object
from tiphys.cluster.ports.published import PublishedPort

Backend = tuple[str, int]
"""Address and port."""


@dataclass(frozen=True, slots=True)
class World:
    """What is looked at; `slices` gives those of a Service."""

    services: Sequence[Object]
    slices: Callable[[str, str], Sequence[Object]]
    nodes: Sequence[Object] = ()
    pods: Sequence[Object] = ()


@dataclass(frozen=True, slots=True)
class Backends:
    """None of them: `missing` says why."""

    backends: tuple[Backend, ...] = ()
    sticky: bool = False
    """Whether a client comes to the same one again (sessionAffinity: ClientIP)."""
    missing: str = ""


def resolve(port: PublishedPort, world: World) -> Backends:
    """The backends of a published port; of both IP families, those of the host's address are all there are if any."""
    namespace, name = port.service
    number = port.target.port
    if not name:
        found = _by_node_port(int(number), port.protocol, world.services)
        return _of_service(*found, port, world) if found else _of_nodes(int(number), port, world)
    service = next((one for one in world.services if _key(one) == (namespace, name)), None)
    if service is None:
        return Backends(missing=f"Service {namespace}/{name} does not exist")
    entry = _port_of(service, number, port.protocol)
    if entry is None:
        return Backends(missing=f"Service {namespace}/{name} has no {port.protocol.upper()} port {number}")
    return _of_service(service, entry, port, world)


def needs_pods(ports: Iterable[PublishedPort]) -> bool:
    """Whether any leads to a port of the nodes."""
    return any(not port.service[1] for port in ports)


def _key(obj: Object) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _ports(service: Object) -> Sequence[Mapping[str, Any]]:
    return service.get("spec", {}).get("ports") or ()


def _speaks(entry: Mapping[str, Any], protocol: str) -> bool:
    return str(entry.get("protocol", "TCP")).lower() == protocol


def _port_of(service: Object, wanted: str, protocol: str) -> Mapping[str, Any] | None:
    fitting = [entry for entry in _ports(service) if _speaks(entry, protocol)]
    return next((entry for entry in fitting if wanted in (str(entry.get("port")), entry.get("name"))), None)


def _by_node_port(number: int, protocol: str, services: Iterable[Object]) -> tuple[Object, Mapping[str, Any]] | None:
    for service in services:
        for entry in _ports(service):
            if entry.get("nodePort") == number and _speaks(entry, protocol):
                return service, entry
    return None


def _of_service(service: Object, entry: Mapping[str, Any], port: PublishedPort, world: World) -> Backends:
    namespace, name = _key(service)
    ready: dict[int, list[Backend]] = {4: [], 6: []}
    leaving: dict[int, list[Backend]] = {4: [], 6: []}
    for one in world.slices(namespace, name):
        number = _slice_port(one, entry.get("name") or "", port.protocol)
        version = {"IPv4": 4, "IPv6": 6}.get(one.get("addressType", ""))
        if number is None or version is None:
            continue
        for endpoint in one.get("endpoints") or ():
            conditions = endpoint.get("conditions") or {}
            kind = ready if conditions.get("ready") is not False else leaving if _leaving(conditions) else None
            if kind is not None:
                kind[version].extend((each, number) for each in endpoint.get("addresses") or () if is_ip(each, version))
    backends = _preferred(ready, port.version) or _preferred(leaving, port.version)
    sticky = service.get("spec", {}).get("sessionAffinity") == "ClientIP"
    return Backends(backends, sticky, "" if backends else f"Service {namespace}/{name} has no ready endpoints")


def is_ip(text: str, version: int) -> bool:
    """Whether it is an address: what is put into rules."""
    try:
        return ip_address(text).version == version
    except ValueError:
        return False


def _leaving(conditions: Mapping[str, Any]) -> bool:
    """Whether it still serves while it ends: better than nothing."""
    return bool(conditions.get("serving")) and bool(conditions.get("terminating"))


def _slice_port(one: Object, name: str, protocol: str) -> int | None:
    for entry in one.get("ports") or ():
        if (entry.get("name") or "") == name and _speaks(entry, protocol) and entry.get("port"):
            return int(entry["port"])
    return None


def _preferred(found: Mapping[int, Iterable[Backend]], version: int) -> tuple[Backend, ...]:
    return tuple(sorted(set(found[version]))) or tuple(sorted(set(found[10 - version])))


def _of_nodes(number: int, port: PublishedPort, world: World) -> Backends:
    """That port of the nodes on which a pod has it, as its host port or in the node's network; else of any node."""
    holders = {
        pod["spec"].get("nodeName", "") for pod in world.pods if _ready(pod) and _has_host_port(pod, number, port)
    }
    ready = [node for node in world.nodes if _ready(node)]
    chosen = [node for node in ready if node["metadata"]["name"] in holders] or ready
    found: dict[int, list[Backend]] = {4: [], 6: []}
    for node in chosen:
        for address in node.get("status", {}).get("addresses") or ():
            text = address.get("address", "")
            version = 6 if ":" in text else 4
            if address.get("type") == "InternalIP" and is_ip(text, version):
                found[version].append((text, number))
    backends = _preferred(found, port.version)
    return Backends(backends if holders else backends[:1], missing="" if backends else "no node is ready")


def _ready(obj: Object) -> bool:
    conditions = obj.get("status", {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def _has_host_port(pod: Object, number: int, port: PublishedPort) -> bool:
    containers = (*(pod["spec"].get("containers") or ()), *(pod["spec"].get("initContainers") or ()))
    entries = (entry for container in containers for entry in container.get("ports") or ())
    key = "containerPort" if pod["spec"].get("hostNetwork") else "hostPort"
    return any(entry.get(key) == number and _speaks(entry, port.protocol) for entry in entries)
