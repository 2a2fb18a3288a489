"""RuntimeClass (API reference, node.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, Object
from tiphys.api.kinds.common import PlainKind
from tiphys.api.kinds.deprecations import LABELS
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.labels import labels
from tiphys.api.validation.names import dns_label
from tiphys.api.validation.quantities import resource_requirements
from tiphys.api.validation.scheduling import tolerations

Struct = Mapping[str, Any]

_TOLERATION = ("key", "operator", "value", "effect")


class RuntimeClass(PlainKind):
    group, plural, kind = "node.k8s.io", "runtimeclasses", "RuntimeClass"
    allow_create_on_update = True
    unconditional_update = False
    revalidates_metadata = True
    columns = (printing.NAME, Column("Handler", description="@ObjectMeta.handler"), printing.AGE)

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        if errors.non_empty("handler", obj.get("handler")):
            errors.each("handler", obj["handler"], dns_label(obj["handler"]))
        if (overhead := obj.get("overhead")) is not None:
            resource_requirements(errors, "overhead", {"limits": overhead.get("podFixed")})
        if (scheduling := obj.get("scheduling")) is not None:
            labels(errors, "scheduling.nodeSelector", scheduling.get("nodeSelector"))
            _tolerations(errors, "scheduling.tolerations", scheduling.get("tolerations") or ())

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        self.check(errors, new, context)
        errors.immutable("handler", new.get("handler", ""), old.get("handler"))

    def warnings(self, obj: Object, old: Object | None, context: Context) -> list[str]:
        wanted = (obj.get("scheduling") or {}).get("nodeSelector") or {}
        return [f"scheduling.nodeSelector: {LABELS[key]}" for key in sorted(wanted) if key in LABELS]

    def cells(self, obj: Object, now: float) -> list[Any]:
        return [printing.name(obj), obj.get("handler", ""), printing.age(obj, now)]


def _tolerations(errors: Errors, path: str, listed: Sequence[Struct]) -> None:
    tolerations(errors, path, listed)
    seen: set[tuple[str, ...]] = set()
    for i, toleration in enumerate(listed):
        values = tuple(toleration.get(name, "") for name in _TOLERATION)
        if values in seen:
            shown: dict[str, Any] = dict(zip(map(str.capitalize, _TOLERATION), values, strict=True))
            errors.duplicate(f"{path}[{i}]", {**shown, "TolerationSeconds": toleration.get("tolerationSeconds")})
        seen.add(values)
