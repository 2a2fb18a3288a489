"""What policies look at of pods: a few fields of each, kept instead of the object."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

Object = Mapping[str, Any]

PROTOCOLS = ("tcp", "udp", "sctp")
FINISHED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class NamedPort:
    name: str
    protocol: str
    """Lower case, as nft(8) has it."""
    number: int


@dataclass(frozen=True, slots=True)
class Pod:
    """`addresses` are those at which it may be met: none of a finished pod, and none of one in its host's network,
    whose traffic is its node's."""

    uid: str
    namespace: str
    labels: Mapping[str, str]
    ports: tuple[NamedPort, ...] = ()
    addresses: tuple[str, ...] = ()
    created: str = ""
    terminating: bool = False
    finished: bool = False
    revision: int = 0

    def same_peer(self, other: Pod) -> bool:
        """Whether rules that are about the one are about the other in the same way."""
        return (self.namespace, self.labels, self.ports) == (other.namespace, other.labels, other.ports)


def pod_of(obj: Object) -> Pod:
    """From a Pod object, or from what `reduced` left of it."""
    metadata, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    finished = status.get("phase") in FINISHED
    revision = str(metadata.get("resourceVersion") or "")
    return Pod(
        uid=str(metadata.get("uid") or ""),
        namespace=str(metadata.get("namespace") or ""),
        labels=metadata.get("labels") or {},
        ports=tuple(_named_ports(spec)),
        addresses=() if finished or spec.get("hostNetwork") else addresses_of(status),
        created=str(metadata.get("creationTimestamp") or ""),
        terminating=bool(metadata.get("deletionTimestamp")),
        finished=finished,
        revision=int(revision) if revision.isdigit() else 0,
    )


def addresses_of(status: Object) -> tuple[str, ...]:
    """The addresses in a pod's status, each in its canonical form; what is no address is left out."""
    listed = [str(one.get("ip") or "") for one in status.get("podIPs") or ()] or [str(status.get("podIP") or "")]
    return tuple(filter(None, map(canonical, listed)))


def canonical(address: str) -> str:
    """As nft(8) and the API write it: fd00::1, not fd00:0::1; "" for what is no address, or one of a link only."""
    try:
        return str(ip_address(address)) if "%" not in address else ""
    except ValueError:
        return ""


def _containers(spec: Object) -> Iterator[Object]:
    """Those that run beside each other: sidecars are init containers that are always restarted."""
    yield from spec.get("containers") or ()
    yield from (one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always")


def _named_ports(spec: Object) -> Iterator[NamedPort]:
    seen: set[tuple[str, str]] = set()
    for container in _containers(spec):
        for port in container.get("ports") or ():
            name, protocol = str(port.get("name") or ""), str(port.get("protocol") or "TCP").lower()
            if name and protocol in PROTOCOLS and (name, protocol) not in seen:
                seen.add((name, protocol))  # of several the first counts, as for Services
                yield NamedPort(sys.intern(name), sys.intern(protocol), int(port["containerPort"]))


def reduced(obj: Object) -> dict[str, Any]:
    """The same Pod object with no more than `pod_of` looks at (an informer's transform)."""
    metadata, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    keep = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp")
    small: dict[str, Any] = {key: metadata[key] for key in keep if metadata.get(key)}
    if labels := metadata.get("labels"):
        small["labels"] = {sys.intern(str(key)): sys.intern(str(value)) for key, value in labels.items()}
    network: dict[str, Any] = {"hostNetwork": True} if spec.get("hostNetwork") else {}
    for kind in ("containers", "initContainers"):
        if with_names := [_ports_only(one) for one in spec.get(kind) or () if _has_names(one)]:
            network[kind] = with_names
    state = {key: status[key] for key in ("phase", "podIP", "podIPs") if status.get(key)}
    return {"metadata": small, "spec": network, "status": state}


def _has_names(container: Object) -> bool:
    return any(port.get("name") for port in container.get("ports") or ())


def _ports_only(container: Object) -> dict[str, Any]:
    ports = [port for port in container["ports"] if port.get("name")]
    policy = container.get("restartPolicy")
    return {"ports": ports, "restartPolicy": policy} if policy else {"ports": ports}


def reduced_namespace(obj: Object) -> dict[str, Any]:
    """The same Namespace object with only its name and labels (an informer's transform)."""
    keep = ("name", "uid", "resourceVersion", "labels")
    return {"metadata": {key: obj["metadata"][key] for key in keep if obj["metadata"].get(key)}}
