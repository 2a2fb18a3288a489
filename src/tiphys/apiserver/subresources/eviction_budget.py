"""What a PodDisruptionBudget says to an eviction, and its status once it was granted. Pure (KEP-85, KEP-3017)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tiphys.api import errors
from tiphys.api.selectors import from_object
from tiphys.base.clock import rfc3339
from tiphys.base.errors import ApiError, TooManyRequests

Object = Mapping[str, Any]

MOST_DISRUPTED = 2000
"""So many evictions may wait for the disruption controller to see them."""
CONDITION = "DisruptionAllowed"

_VIOLATES = "Cannot evict pod as it would violate the pod's disruption budget."
_AGAIN = 10
"""Seconds after which it is worth asking again."""
_UNGUARDED = ("Succeeded", "Failed", "Pending")


def covering(budgets: Iterable[Object], pod: Object) -> list[Object]:
    """The budgets that select `pod`; one with an unreadable selector selects nothing."""
    return [each for each in budgets if _selects(each, pod)]


def unguarded(pod: Object) -> bool:
    """Whether no budget is asked: the pod does not run, or goes already."""
    return (pod.get("status") or {}).get("phase") in _UNGUARDED or "deletionTimestamp" in pod["metadata"]


def may_become_ready(pod: Object) -> bool:
    """Whether an unguarded pod could turn into one that a budget counts, so that it must not change meanwhile."""
    return (pod.get("status") or {}).get("phase") == "Pending" and "deletionTimestamp" not in pod["metadata"]


def ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def ignores_unready(budget: Object) -> bool:
    """Whether pods that are not ready may go without being counted."""
    if (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    desired = _number(budget, "desiredHealthy")
    return desired > 0 and _number(budget, "currentHealthy") >= desired


def refusal(budget: Object) -> ApiError | None:
    """Why the budget does not allow a disruption now; None if it does."""
    name = str(budget["metadata"]["name"])
    if _number(budget, "observedGeneration") < (budget["metadata"].get("generation") or 0):
        return not_yet(name)
    if _number(budget, "disruptionsAllowed") < 0:
        return errors.forbidden("policy", "poddisruptionbudget", name, "pdb disruptions allowed is negative")
    if len((budget.get("status") or {}).get("disruptedPods") or ()) > MOST_DISRUPTED:
        text = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        return errors.forbidden("policy", "poddisruptionbudget", name, text)
    if _number(budget, "disruptionsAllowed"):
        return None
    return TooManyRequests(_VIOLATES, details=_cause(_explanation(budget, name)))


def not_yet(name: str) -> TooManyRequests:
    """429: the budget `name` has to be looked at again first."""
    text = f"The disruption budget {name} is still being processed by the server."
    return TooManyRequests(_VIOLATES, details=_cause(text), retry_after=_AGAIN)


def granted(budget: Object, pod: str, now: float) -> dict[str, Any]:
    """The budget with one disruption less, spent on `pod`."""
    status = dict(budget.get("status") or {})
    status["disruptionsAllowed"] = _number(budget, "disruptionsAllowed") - 1
    status["disruptedPods"] = {**(status.get("disruptedPods") or {}), pod: rfc3339(now)}
    if status["disruptionsAllowed"] == 0:
        status["conditions"] = _exhausted(status, now)
    return {**budget, "metadata": dict(budget["metadata"]), "status": status}


def _explanation(budget: Object, name: str) -> str:
    denied = next((one for one in _conditions(budget) if one.get("type") == CONDITION), {})
    told = denied.get("message") if denied.get("status") == "False" else ""
    if told and denied.get("reason") == "SyncFailed":
        return f"The disruption budget {name} does not allow evicting pods currently because it failed sync: {told}"
    desired, current = _number(budget, "desiredHealthy"), _number(budget, "currentHealthy")
    if current <= desired:
        return f"The disruption budget {name} needs {desired} healthy pods and has {current} currently"
    if told:
        return f"The disruption budget {name} does not allow evicting pods currently ({denied.get('reason')}): {told}"
    return f"The disruption budget {name} does not allow evicting pods currently"


def _exhausted(status: Object, now: float) -> list[Object]:
    """The conditions when no disruption is left."""
    present = list(status.get("conditions") or ())
    old = next((one for one in present if one.get("type") == CONDITION), None)
    since = old["lastTransitionTime"] if old is not None and old.get("status") == "False" else rfc3339(now)
    new: dict[str, Any] = {"type": CONDITION, "status": "False"}
    if status.get("observedGeneration"):
        new["observedGeneration"] = status["observedGeneration"]
    new |= {"lastTransitionTime": since, "reason": "InsufficientPods", "message": ""}
    return [*present, new] if old is None else [new if one is old else one for one in present]


def _selects(budget: Object, pod: Object) -> bool:
    try:
        return from_object((budget.get("spec") or {}).get("selector")).matches(pod["metadata"].get("labels"))
    except ValueError:
        return False


def _conditions(obj: Object) -> Iterable[Object]:
    return (obj.get("status") or {}).get("conditions") or ()


def _number(budget: Object, field: str) -> int:
    return int((budget.get("status") or {}).get(field) or 0)


def _cause(text: str) -> dict[str, Any]:
    return {"causes": [{"reason": "DisruptionBudget", "message": text}]}
