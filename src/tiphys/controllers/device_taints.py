"""Taints of devices (KEP-5055): when a pod has to go because a device of one of its claims is tainted. Pure rules.

Only NoExecute taints of what drivers publish in ResourceSlices count; DeviceTaintRules are off in 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tiphys.client.types import Object
from tiphys.controllers.objects import moment, namespace, spec, status, uid
from tiphys.controllers.resource_claims import GetClaim, claims_of, is_for, named

NO_EXECUTE = "NoExecute"

Taint = Mapping[str, Any]
Taints = Callable[[str, str, str], Iterable[Taint]]
"""The NoExecute taints of a device, by driver, pool and name."""


def pool_key(driver: Any, pool: Any) -> str:
    return f"{driver}/{pool}"


def slice_pools(slice: Object) -> list[str]:
    """An Indexer: the pool of a ResourceSlice."""
    return [pool_key(spec(slice).get("driver"), (spec(slice).get("pool") or {}).get("name"))]


def devices_of(claim: Object) -> list[Mapping[str, Any]]:
    """What was allocated for a claim."""
    allocation = status(claim).get("allocation") or {}
    return list((allocation.get("devices") or {}).get("results") or ())


def claim_pools(claim: Object) -> list[str]:
    """An Indexer: the pools of a claim's devices."""
    return sorted({pool_key(each.get("driver"), each.get("pool")) for each in devices_of(claim)})


def taints_in(slices: Iterable[Object], device: str) -> list[Taint]:
    """The NoExecute taints of a device, from its pool's slices; those of an older generation do not count."""
    listed = list(slices)
    newest = max(map(_generation, listed), default=0)
    for slice in listed:
        if _generation(slice) != newest:
            continue
        for each in spec(slice).get("devices") or ():
            if each.get("name") == device:
                return [taint for taint in each.get("taints") or () if taint.get("effect") == NO_EXECUTE]
    return []


def any_taint(slice: Object | None) -> bool:
    """Whether a slice has a device from which pods have to go."""
    return slice is not None and any(
        taint.get("effect") == NO_EXECUTE
        for device in spec(slice).get("devices") or ()
        for taint in device.get("taints") or ()
    )


def _generation(slice: Object) -> int:
    return int((spec(slice).get("pool") or {}).get("generation") or 0)


def tolerates(toleration: Mapping[str, Any], taint: Taint) -> bool:
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    operator = toleration.get("operator") or "Equal"
    return operator == "Exists" or (
        operator == "Equal" and (toleration.get("value") or "") == (taint.get("value") or "")
    )


def claim_end(claim: Object, taints: Taints) -> float | None:
    """When pods that use the claim have to go, in seconds since the epoch; None: they may stay."""
    ends = []
    for device in devices_of(claim):
        place = str(device.get("driver")), str(device.get("pool")), str(device.get("device"))
        ends += [end for taint in taints(*place) if (end := _end(taint, device)) is not None]
    return min(ends, default=None)


def _end(taint: Taint, device: Mapping[str, Any]) -> float | None:
    used = [
        each for each in device.get("tolerations") or () if each.get("effect") == NO_EXECUTE and tolerates(each, taint)
    ]
    if any(each.get("tolerationSeconds") is None for each in used):
        return None
    patience = min((max(0, int(each["tolerationSeconds"])) for each in used), default=0)
    return moment(taint.get("timeAdded")) + patience


def pod_end(pod: Object, get: GetClaim, taints: Taints) -> float | None:
    """When `pod` has to go, by all its claims."""
    if not spec(pod).get("nodeName"):
        return None
    ends = []
    for entry in claims_of(pod):
        known = named(pod, entry)
        claim = get(namespace(pod), known.name) if known and known.name else None
        if known is None or claim is None or (known.generated and not is_for(pod, claim)):
            continue
        if any(each.get("uid") == uid(pod) for each in status(claim).get("reservedFor") or ()):
            ends.append(claim_end(claim, taints))
    return min((end for end in ends if end is not None), default=None)
