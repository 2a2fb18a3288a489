"""PriorityLevelConfiguration (API reference, flowcontrol.apiserver.k8s.io/v1)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, FieldError, MutableObject, Object
from tiphys.api.kinds.common import StatusKind, child, fill_empty, setdefaults
from tiphys.api.kinds.flowcontrol.flowschema import unique_conditions
from tiphys.api.validation.errors import Errors

Struct = Mapping[str, Any]

_KEEP_ZERO = "flowcontrol.k8s.io/preserve-zero-concurrency-shares"
_MAX_QUEUES, _MAX_BITS = 10_000_000, 60
_CATCH_ALL: Struct = {
    "type": "Limited",
    "limited": {"nominalConcurrencyShares": 5, "limitResponse": {"type": "Reject"}, "lendablePercent": 0},
}


class PriorityLevelConfiguration(StatusKind):
    group, plural, kind = "flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations", "PriorityLevelConfiguration"
    revalidates_metadata = True
    columns = (
        printing.NAME,
        Column("Type", description="@PriorityLevelConfigurationSpec.type"),
        Column("NominalConcurrencyShares", description="@LimitedPriorityLevelConfiguration.nominalConcurrencyShares"),
        Column("Queues", description="@QueuingConfiguration.queues"),
        Column("HandSize", description="@QueuingConfiguration.handSize"),
        Column("QueueLengthLimit", description="@QueuingConfiguration.queueLengthLimit"),
        printing.AGE,
    )

    def default(self, obj: MutableObject, version: str) -> None:
        spec = child(obj, "spec")
        if (exempt := spec.get("exempt")) is not None:
            setdefaults(exempt, nominalConcurrencyShares=0, lendablePercent=0)
        if (limited := spec.get("limited")) is not None:
            setdefaults(limited, nominalConcurrencyShares=30, lendablePercent=0)
            if (queuing := (limited.get("limitResponse") or {}).get("queuing")) is not None:
                fill_empty(queuing, handSize=8, queues=64, queueLengthLimit=50)

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        name, spec = printing.name(obj), obj.get("spec") or {}
        if _KEEP_ZERO in ((obj.get("metadata") or {}).get("annotations") or {}):
            errors.forbidden("metadata.annotations", f"annotation '{_KEEP_ZERO}' is forbidden")
        _spec(errors, "spec", spec, name)
        given = {key: value for key, value in spec.items() if value is not None}
        if name == "exempt" and {key: value for key, value in given.items() if key != "exempt"} != {"type": "Exempt"}:
            errors.invalid("spec", spec, "spec of 'exempt' except the 'spec.exempt' field must equal the fixed value")
        elif name == "catch-all" and given != _CATCH_ALL:
            errors.invalid("spec", spec, "spec of 'catch-all' must equal the fixed value")
        unique_conditions(errors, obj)

    def validate_status_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        errors = Errors()
        unique_conditions(errors, new)
        return errors

    def cells(self, obj: Object, now: float) -> list[Any]:
        spec = obj.get("spec") or {}
        limited = spec.get("limited")
        queuing = ((limited or {}).get("limitResponse") or {}).get("queuing")
        numbers = [queuing.get(key) or 0 for key in ("queues", "handSize", "queueLengthLimit")] if queuing else None
        return [
            printing.name(obj),
            spec.get("type", ""),
            printing.NONE if limited is None else limited.get("nominalConcurrencyShares") or 0,
            *(numbers or [printing.NONE] * 3),
            printing.age(obj, now),
        ]


def _spec(errors: Errors, path: str, spec: Struct, name: str) -> None:
    kind, exempt, limited = spec.get("type", ""), spec.get("exempt"), spec.get("limited")
    if (name == "exempt") != (kind == "Exempt"):
        errors.invalid(f"{path}.type", kind, "must be 'Exempt' if and only if `name` is 'exempt'")
    if kind == "Exempt":
        if limited is not None:
            errors.forbidden(f"{path}.limited", "must be nil if the type is not Limited")
        if exempt is not None:
            _shares(errors, f"{path}.exempt", exempt)
    elif kind == "Limited":
        if exempt is not None:
            errors.forbidden(f"{path}.exempt", "must be nil if the type is Limited")
        if limited is None:
            errors.required(f"{path}.limited", "must not be empty when type is Limited")
        else:
            _limited(errors, f"{path}.limited", limited)
    else:
        errors.unsupported(f"{path}.type", kind, ("Exempt", "Limited"))


def _shares(errors: Errors, path: str, level: Struct) -> None:
    if (shares := level.get("nominalConcurrencyShares") or 0) < 0:
        errors.invalid(f"{path}.nominalConcurrencyShares", shares, "must be a non-negative integer")
    _lendable(errors, path, level)


def _lendable(errors: Errors, path: str, level: Struct) -> None:
    errors.within(f"{path}.lendablePercent", level.get("lendablePercent") or 0, 0, 100)


def _limited(errors: Errors, path: str, level: Struct) -> None:
    if (shares := level.get("nominalConcurrencyShares") or 0) < 0:
        errors.invalid(f"{path}.nominalConcurrencyShares", shares, "must be a non-negative integer")
    _response(errors, f"{path}.limitResponse", level.get("limitResponse") or {})
    _lendable(errors, path, level)
    if (most := level.get("borrowingLimitPercent") or 0) < 0:
        errors.invalid(f"{path}.borrowingLimitPercent", most, "if specified, must be a non-negative integer")


def _response(errors: Errors, path: str, response: Struct) -> None:
    kind, queuing = response.get("type", ""), response.get("queuing")
    if kind == "Reject":
        if queuing is not None:
            errors.forbidden(f"{path}.queuing", "must be nil if limited.limitResponse.type is not Limited")
    elif kind == "Queue":
        if queuing is None:
            errors.required(f"{path}.queuing", "must not be empty if limited.limitResponse.type is Limited")
        else:
            _queuing(errors, f"{path}.queuing", queuing)
    else:
        errors.unsupported(f"{path}.type", kind, ("Queue", "Reject"))


def _queuing(errors: Errors, path: str, queuing: Struct) -> None:
    queues, hand = queuing.get("queues") or 0, queuing.get("handSize") or 0
    for name in ("queueLengthLimit", "queues", "handSize"):
        if (value := queuing.get(name) or 0) <= 0:
            errors.invalid(f"{path}.{name}", value, "must be positive")
        elif name == "queues" and queues > _MAX_QUEUES:
            errors.invalid(f"{path}.queues", queues, f"must not be greater than {_MAX_QUEUES}")
        elif name == "handSize":
            _hand(errors, f"{path}.handSize", queues, hand)


def _hand(errors: Errors, path: str, queues: int, hand: int) -> None:
    if hand > queues:
        errors.invalid(path, hand, f"should not be greater than queues ({queues})")
    elif math.ceil(math.log2(queues) * hand) > _MAX_BITS:
        detail = (
            f"required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {_MAX_BITS}"
        )
        errors.invalid(path, hand, detail)
