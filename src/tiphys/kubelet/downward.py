"""The downward API: what a pod may be told about itself (fieldRef, resourceFieldRef). Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiphys.api.quantity import Quantity, parse
from tiphys.kubelet.podspec import Object, init_containers, main_containers

_DEFAULTED = ("cpu", "memory", "ephemeral-storage")
"""Resources whose limits have a default; huge pages, which are never overcommitted, have none."""


class NoSuchField(ValueError):
    """The path names nothing that the downward API offers."""


@dataclass(frozen=True, slots=True)
class PodFacts:
    """What is known of a pod when its environment and files are made."""

    pod: Object
    pod_ips: Sequence[str] = ()
    host_ips: Sequence[str] = ()
    node_name: str = ""
    allocatable: Mapping[str, str] | None = None
    """Of the node: the default of limits that a container does not set."""


def field_value(facts: PodFacts, path: str) -> str:
    """The value of a fieldRef. Raises NoSuchField."""
    pod = facts.pod
    simple: dict[str, Callable[[], Any]] = {
        "metadata.name": lambda: pod["metadata"]["name"],
        "metadata.namespace": lambda: pod["metadata"].get("namespace", ""),
        "metadata.uid": lambda: pod["metadata"]["uid"],
        "spec.nodeName": lambda: pod["spec"].get("nodeName", ""),
        "spec.serviceAccountName": lambda: pod["spec"].get("serviceAccountName", ""),
        "status.hostIP": lambda: _first(facts.host_ips),
        "status.hostIPs": lambda: ",".join(facts.host_ips),
        "status.podIP": lambda: _first(facts.pod_ips),
        "status.podIPs": lambda: ",".join(facts.pod_ips),
        "metadata.labels": lambda: _map_text(pod["metadata"].get("labels")),
        "metadata.annotations": lambda: _map_text(pod["metadata"].get("annotations")),
    }
    if path in simple:
        return str(simple[path]())
    for prefix in ("metadata.labels", "metadata.annotations"):
        if path.startswith(f"{prefix}['") and path.endswith("']"):
            source = pod["metadata"].get(prefix.removeprefix("metadata.")) or {}
            return str(source.get(path[len(prefix) + 2 : -2], ""))
    raise NoSuchField(f"unsupported fieldPath: {path}")


def _first(values: Sequence[str]) -> str:
    return values[0] if values else ""


def _map_text(values: Mapping[str, Any] | None) -> str:
    """Labels or annotations as a file has them: key="value" lines, sorted, values quoted as Go does."""
    return "\n".join(f"{key}={_go_quote(str(value))}" for key, value in sorted((values or {}).items()))


def _go_quote(text: str) -> str:
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    shown = (escapes.get(char) or (char if char.isprintable() else _escape(char)) for char in text)
    return '"' + "".join(shown) + '"'


def _escape(char: str) -> str:
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def resource_value(facts: PodFacts, reference: Mapping[str, Any], container: Object | None) -> str:
    """The value of a resourceFieldRef, divided by its divisor and rounded up. `container` is that whose environment
    it is for; None for a volume. Limits that a container does not set are the pod's (in environments only) or the
    node's. Raises NoSuchField."""
    own = container
    if name := reference.get("containerName"):
        own = next(
            (one for one in (*main_containers(facts.pod), *init_containers(facts.pod)) if one["name"] == name), None
        )
    if own is None:
        raise NoSuchField(f"container {reference.get('containerName', '')} not found")
    kind, _, resource = str(reference["resource"]).partition(".")
    if kind not in ("limits", "requests") or not (resource in _DEFAULTED or resource.startswith("hugepages-")):
        raise NoSuchField(f"unsupported container resource : {reference['resource']}")
    whole = (facts.pod["spec"].get("resources") or {}).get("limits") or {} if container is not None else {}
    amount = _amount(facts, own, kind, resource, whole)
    divisor = parse(str(reference.get("divisor") or "1"))
    divisor = divisor if divisor.nanos else parse("1")
    if resource == "cpu":
        return str(-(-amount.milli // max(1, divisor.milli)))
    return str(-(-amount.value // max(1, divisor.value)))


def _amount(facts: PodFacts, container: Object, kind: str, resource: str, whole: Mapping[str, Any]) -> Quantity:
    """A container's own amount; limits that it does not set are the pod's (`whole`), else the node's."""
    own = parse(str(((container.get("resources") or {}).get(kind) or {}).get(resource) or "0"))
    allocatable = facts.allocatable or {}
    if own.nanos or kind != "limits" or resource not in _DEFAULTED or resource not in allocatable:
        return own
    asked = parse(str(whole.get(resource) or "0")) if resource != "ephemeral-storage" else own
    return asked if asked.nanos else parse(str(allocatable[resource]))
