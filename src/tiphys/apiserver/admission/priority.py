"""Priority: a pod's priority comes from its PriorityClass, or from the default one."""

from __future__ import annotations

from typing import Any

from tiphys.apiserver.admission.decision import concerns, creates_pod, refuse
from tiphys.apiserver.types import Attributes, Object, Plugin, Reader

GROUP = "scheduling.k8s.io"
PREEMPT = "PreemptLowerPriority"


class Priority(Plugin):
    name = "Priority"
    resources = frozenset({("", "pods"), (GROUP, "priorityclasses")})

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._known: tuple[int, Object | None] = (-1, None)
        """The default class as of a revision of the priority classes."""

    async def admit(self, attributes: Attributes) -> None:
        pod = creates_pod(attributes)
        if pod is not None:
            self._set_priority(attributes, pod["spec"])
        elif attributes.operation == "UPDATE" and concerns(attributes, "", "pods") and attributes.obj is not None:
            old = (attributes.old or {}).get("spec") or {}
            for field in ("priority", "preemptionPolicy"):
                if field in old:
                    attributes.obj["spec"].setdefault(field, old[field])

    async def validate(self, attributes: Attributes) -> None:
        obj = attributes.obj
        if obj is None or not concerns(attributes, GROUP, "priorityclasses") or not obj.get("globalDefault"):
            return
        default = self._default()
        name = default["metadata"]["name"] if default is not None else None
        if name is not None and (attributes.operation == "CREATE" or name != obj["metadata"].get("name")):
            raise refuse(attributes, f"PriorityClass {name} is already marked as default. Only one default can exist")

    def _set_priority(self, attributes: Attributes, spec: dict[str, Any]) -> None:
        name = spec.get("priorityClassName")
        found = self._reader.get(GROUP, "priorityclasses", "", name) if name else self._default()
        if name and found is None:
            raise refuse(attributes, f"no PriorityClass with name {name} was found")
        value = found.get("value", 0) if found is not None else 0
        policy = found.get("preemptionPolicy") if found is not None else PREEMPT
        if found is not None:
            spec["priorityClassName"] = found["metadata"]["name"]
        given, wanted = spec.get("priority"), spec.get("preemptionPolicy")
        if given is not None and given != value:
            raise refuse(attributes, _contradiction(f"integer value of priority ({given})", value))
        if policy and wanted is not None and wanted != policy:
            raise refuse(attributes, _contradiction(f"string value of PreemptionPolicy ({wanted})", policy))
        spec["priority"] = value
        if policy:
            spec["preemptionPolicy"] = policy

    def _default(self) -> Object | None:
        revision, default = self._known
        current = self._reader.revision(GROUP, "priorityclasses")
        if revision != current:
            defaults = [c for c in self._reader.list(GROUP, "priorityclasses") if c.get("globalDefault")]
            default = min(defaults, key=lambda c: c.get("value", 0), default=None)
            self._known = current, default
        return default


def _contradiction(given: str, computed: object) -> str:
    return (
        f"the {given} must not be provided in pod spec; priority admission controller computed {computed} "
        "from the given PriorityClass name"
    )
