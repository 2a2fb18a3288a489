"""RuntimeClass: a pod gets the overhead and the node selection of its runtime."""

from __future__ import annotations

from typing import Any

from tiphys.api import quantity
from tiphys.api.errors import client_fault
from tiphys.api.validation.names import path_segment
from tiphys.apiserver.admission.decision import creates_pod, refuse
from tiphys.apiserver.types import Attributes, Object, Plugin, Reader


class RuntimeClass(Plugin):
    name = "RuntimeClass"
    resources = frozenset({("", "pods")})

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def admit(self, attributes: Attributes) -> None:
        pod = creates_pod(attributes)
        runtime = self._runtime(attributes, pod) if pod is not None else None
        if pod is None or runtime is None:
            return
        spec = pod["spec"]
        overhead = (runtime.get("overhead") or {}).get("podFixed")
        if overhead:
            if spec.get("overhead") and not _same(spec["overhead"], overhead):
                raise refuse(attributes, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
            spec["overhead"] = dict(overhead)
        if runtime.get("scheduling"):
            _set_scheduling(attributes, spec, runtime["scheduling"])

    async def validate(self, attributes: Attributes) -> None:
        pod = creates_pod(attributes)
        if pod is None:
            return
        runtime = self._runtime(attributes, pod)
        overhead = ((runtime or {}).get("overhead") or {}).get("podFixed")
        given = pod["spec"].get("overhead")
        if overhead and not _same(given or {}, overhead):
            raise refuse(attributes, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
        if not overhead and given is not None:
            detail = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
            raise refuse(attributes, detail)

    def _runtime(self, attributes: Attributes, pod: Object) -> Object | None:
        name = pod["spec"].get("runtimeClassName")
        if name is None:
            return None
        runtime = self._reader.get("node.k8s.io", "runtimeclasses", "", name)
        if runtime is None:
            _usable(name)
            raise refuse(attributes, f'pod rejected: RuntimeClass "{name}" not found')
        return runtime


def _usable(name: str) -> None:
    """Upstream's client would not ask for such a name, and its problem is the answer."""
    found = path_segment(name)
    if not name or found:
        text = f'invalid resource name "{name}": [{", ".join(found)}]' if name else "resource name may not be empty"
        raise client_fault(text)


def _set_scheduling(attributes: Attributes, spec: dict[str, Any], scheduling: Object) -> None:
    selector = dict(spec.get("nodeSelector") or {})
    for key, value in (scheduling.get("nodeSelector") or {}).items():
        if selector.get(key, value) != value:
            raise refuse(
                attributes,
                f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; "
                f"pod.spec.nodeSelector[{key}] = {selector[key]}",
            )
        selector[key] = value
    if selector:
        spec["nodeSelector"] = selector
    tolerations = list(spec.get("tolerations") or ())
    tolerations += [toleration for toleration in scheduling.get("tolerations") or () if toleration not in tolerations]
    if tolerations:
        spec["tolerations"] = tolerations


def _same(one: Object, other: Object) -> bool:
    """Whether two ResourceLists mean the same."""
    return {k: quantity.parse(str(v)) for k, v in one.items()} == {k: quantity.parse(str(v)) for k, v in other.items()}
