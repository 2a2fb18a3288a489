"""The status of a HorizontalPodAutoscaler in the making, and what one look at its target decides. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tiphys.api import quantity
from tiphys.base.clock import rfc3339
from tiphys.client.types import Object
from tiphys.controllers.autoscaler_replicas import Tolerances
from tiphys.controllers.objects import int_of, semantically_equal, spec, status

ABLE, ACTIVE, LIMITED, TO_ZERO = "AbleToScale", "ScalingActive", "ScalingLimited", "ScaledToZero"

ABOVE_MOST = "Current number of replicas above Spec.MaxReplicas"
BELOW_LEAST = "Current number of replicas below Spec.MinReplicas"

Struct = Mapping[str, Any]


@dataclass(slots=True)
class Draft:
    """The next status of `autoscaler`."""

    autoscaler: Object
    now: float
    conditions: list[Struct] = field(default_factory=list)
    current: int = 0
    desired: int = 0
    metrics: Sequence[Struct] = ()
    scaled: bool = False

    @staticmethod
    def of(autoscaler: Object, now: float) -> Draft:
        """What the stored status says so far."""
        old = status(autoscaler)
        return Draft(
            autoscaler,
            now,
            list(old.get("conditions") or ()),
            int_of(old.get("currentReplicas")),
            int_of(old.get("desiredReplicas")),
            old.get("currentMetrics") or (),
        )

    def set(self, type: str, value: str, reason: str, message: str) -> None:
        """Set a condition, in its place."""
        old = next((each for each in self.conditions if each.get("type") == type), None)
        same = old is not None and old.get("status") == value
        since = (old.get("lastTransitionTime") if old is not None and same else None) or rfc3339(self.now)
        new = {"type": type, "status": value, "lastTransitionTime": since, "reason": reason, "message": message}
        if old is None:
            self.conditions.append(new)
        else:
            self.conditions = [new if each is old else each for each in self.conditions]

    def remove(self, type: str) -> None:
        self.conditions = [each for each in self.conditions if each.get("type") != type]

    def status(self) -> dict[str, Any]:
        """The whole status."""
        new: dict[str, Any] = {"desiredReplicas": self.desired, "currentMetrics": list(self.metrics) or None}
        if self.current:
            new["currentReplicas"] = self.current
        last = rfc3339(self.now) if self.scaled else status(self.autoscaler).get("lastScaleTime")
        if last:
            new["lastScaleTime"] = last
        if self.conditions:
            new["conditions"] = self.conditions
        return new

    def differs(self) -> bool:
        """Whether it says something else than the stored one."""
        stored = {key: value for key, value in status(self.autoscaler).items() if key != "observedGeneration"}
        return not semantically_equal(self.status(), stored)


def least_of(autoscaler: Object) -> int:
    return int_of(spec(autoscaler).get("minReplicas"), 1)


def forced(autoscaler: Object, current: int) -> tuple[int, str] | None:
    """(the size, why) where the bounds alone decide; None if metrics are to be asked."""
    most, least = int_of(spec(autoscaler).get("maxReplicas")), least_of(autoscaler)
    if current > most:
        return most, ABOVE_MOST
    if current < least:
        return least, BELOW_LEAST
    return None


def tolerances_of(autoscaler: Object, default: float) -> Tolerances:
    """The tolerances of `behavior`, or the controller's."""
    behavior = spec(autoscaler).get("behavior") or {}

    def of(direction: str) -> float:
        given = (behavior.get(direction) or {}).get("tolerance")
        return default if given is None else quantity.parse(str(given)).nanos / 1e9

    return Tolerances(of("scaleDown"), of("scaleUp"))


def milli(value: Any) -> int:
    """The thousandths of a target's quantity."""
    return quantity.parse(str(value)).milli


def amount(value: int, resource: str = "") -> str:
    """Thousandths as a quantity: memory in binary units, everything else in decimal ones."""
    return str(quantity.from_milli(value, "binary" if resource == "memory" else "decimal"))
