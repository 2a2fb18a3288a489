"""LimitRanger: containers get the namespace's default requests and limits, and must keep within its bounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.api import pod_resources
from tiphys.api.quantity import Quantity, from_milli, from_units, parse
from tiphys.apiserver.admission.decision import aggregate, concerns, creates_pod, refuse
from tiphys.apiserver.types import Attributes, Object, Plugin, Reader

ANNOTATION = "kubernetes.io/limit-ranger"
GROUPS = (("containers", "container"), ("initContainers", "init container"))
Quantities = Mapping[str, Quantity]


class LimitRanger(Plugin):
    name = "LimitRanger"
    resources = frozenset({("", "pods"), ("", "persistentvolumeclaims")})

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def admit(self, attributes: Attributes) -> None:
        pod = creates_pod(attributes)
        if pod is None:
            return
        for limit_range in self._ranges(attributes):
            _set_defaults(pod, [item for item in _items(limit_range) if item.get("type") == "Container"])

    async def validate(self, attributes: Attributes) -> None:
        check = _checker(attributes)
        if check is None:
            return
        for limit_range in self._ranges(attributes):
            problems = [problem for item in _items(limit_range) for problem in check(item)]
            if problems:
                raise refuse(attributes, aggregate(problems))

    def _ranges(self, attributes: Attributes) -> Iterable[Object]:
        return self._reader.list("", "limitranges", attributes.info.namespace)


def _items(limit_range: Object) -> Iterable[Object]:
    return (limit_range.get("spec") or {}).get("limits") or ()


def _checker(attributes: Attributes) -> Any:
    """What checks the request's object against one item; None if no LimitRange is about it."""
    obj = attributes.obj
    resizes = attributes.operation == "UPDATE" and concerns(attributes, "", "pods", "resize")
    if obj is None or (attributes.old or {"metadata": {}})["metadata"].get("deletionTimestamp"):
        return None
    if creates_pod(attributes) is not None or resizes:
        return lambda item: _check_pod(item, obj)
    if concerns(attributes, "", "persistentvolumeclaims") and attributes.operation in ("CREATE", "UPDATE"):
        return lambda item: _check_claim(item, obj)
    return None


def _set_defaults(pod: dict[str, Any], items: list[Object]) -> None:
    requests = {name: value for item in items for name, value in (item.get("defaultRequest") or {}).items()}
    limits = {name: value for item in items for name, value in (item.get("default") or {}).items()}
    notes: list[str] = []
    for group, label in GROUPS:
        for container in pod["spec"].get(group) or ():
            resources = container.setdefault("resources", {})
            for field, word, defaults in (("requests", "request", requests), ("limits", "limit", limits)):
                have = resources.get(field) or {}
                added = sorted(name for name in defaults if name not in have)
                if added:
                    resources[field] = {**have, **{name: defaults[name] for name in added}}
                    notes.append(f"{', '.join(added)} {word} for {label} {container['name']}")
    if notes:
        annotations = pod["metadata"].get("annotations") or {}
        pod["metadata"]["annotations"] = {**annotations, ANNOTATION: f"LimitRanger plugin set: {'; '.join(notes)}"}


def _check_pod(item: Object, pod: Object) -> Iterator[str]:
    if item.get("type") == "Container":
        for group, _ in GROUPS:
            for container in pod["spec"].get(group) or ():
                resources = container.get("resources") or {}
                requests, limits = _quantities(resources.get("requests")), _quantities(resources.get("limits"))
                yield from Bounds("Container", requests, limits).check(item)
    elif item.get("type") == "Pod":
        requests, limits = _sums(pod_resources.requests(pod)), _sums(pod_resources.limits(pod))
        yield from Bounds("Pod", requests, limits).check(item)


def _check_claim(item: Object, claim: Object) -> Iterator[str]:
    if item.get("type") != "PersistentVolumeClaim":
        return
    requests = _quantities(((claim.get("spec") or {}).get("resources") or {}).get("requests"))
    bounds = Bounds("PersistentVolumeClaim", requests, {})
    for name, bound in _quantities(item.get("min")).items():
        yield from bounds.minimum(name, bound)
    for name, bound in _quantities(item.get("max")).items():
        have = requests.get(name)
        if have is None:
            yield f"maximum {name} usage per {bounds.kind} is {bound}.  No request is specified"
        elif have > bound:
            yield f"maximum {name} usage per {bounds.kind} is {bound}, but request is {have}"


@dataclass(frozen=True, slots=True)
class Bounds:
    """The requests and limits of something of a kind (Container, Pod ...), to be checked against an item."""

    kind: str
    requests: Quantities
    limits: Quantities

    def check(self, item: Object) -> Iterator[str]:
        """What is wrong, in upstream's words."""
        for name, bound in _quantities(item.get("min")).items():
            yield from self.minimum(name, bound)
        for name, bound in _quantities(item.get("max")).items():
            yield from self.maximum(name, bound)
        for name, bound in _quantities(item.get("maxLimitRequestRatio")).items():
            yield from self.ratio(name, bound)

    def minimum(self, name: str, bound: Quantity) -> Iterator[str]:
        request, limit = self.requests.get(name), self.limits.get(name)
        text = f"minimum {name} usage per {self.kind} is {bound}"
        if request is None:
            yield f"{text}.  No request is specified"
        elif request < bound:
            yield f"{text}, but request is {request}"
        elif limit is not None and limit < bound:
            yield f"{text}, but limit is {limit}"

    def maximum(self, name: str, bound: Quantity) -> Iterator[str]:
        request, limit = self.requests.get(name), self.limits.get(name)
        text = f"maximum {name} usage per {self.kind} is {bound}"
        if limit is None:
            yield f"{text}.  No limit is specified"
        elif limit > bound:
            yield f"{text}, but limit is {limit}"
        elif request is not None and request > bound:
            yield f"{text}, but request is {request}"

    def ratio(self, name: str, bound: Quantity) -> Iterator[str]:
        request, limit = self.requests.get(name), self.limits.get(name)
        text = f"{name} max limit to request ratio per {self.kind} is {bound}"
        if request is None or not request.nanos:
            yield f"{text}, but no request is specified or request is 0"
        elif limit is None or not limit.nanos:
            yield f"{text}, but no limit is specified or limit is 0"
        elif limit.nanos * 10**9 > bound.nanos * request.nanos:
            yield f"{text}, but provided ratio is {limit.nanos / request.nanos:f}"


def _quantities(values: Mapping[str, Any] | None) -> dict[str, Quantity]:
    return {name: parse(str(value)) for name, value in (values or {}).items()}


def _sums(amounts: Mapping[str, int]) -> dict[str, Quantity]:
    """A pod's totals as quantities; memory-like ones print with binary suffixes."""
    return {
        name: from_milli(amount) if name == "cpu" else from_units(amount, "binary") for name, amount in amounts.items()
    }
