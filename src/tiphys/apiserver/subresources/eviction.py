"""pods/eviction: a deletion that PodDisruptionBudgets may refuse (KEP-85, API-initiated eviction)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tiphys.api import errors
from tiphys.api.selectors import from_object
from tiphys.apiserver import deleting, options, respond
from tiphys.apiserver.entries import Entry
from tiphys.apiserver.parts import Parts
from tiphys.apiserver.resource import Call, Resource
from tiphys.apiserver.subresources.bodies import created, decode
from tiphys.apiserver.updating import Change, update
from tiphys.base.clock import rfc3339
from tiphys.base.errors import ApiError, BadRequest, Conflict, InternalError, TooManyRequests
from tiphys.base.http.types import Response

Object = Mapping[str, Any]
FINISHED = ("Succeeded", "Failed", "Pending")
MOST_DISRUPTED = 2000
VIOLATES = "Cannot evict pod as it would violate the pod's disruption budget."
CAUSE = "DisruptionBudget"


class Evictions:
    """`budgets` is policy/v1 poddisruptionbudgets."""

    def __init__(self, parts: Parts, budgets: Resource) -> None:
        self._parts, self._budgets = parts, budgets

    async def evict(self, call: Call) -> Response:
        """POST pods/NAME/eviction."""
        options.read_write_options(call)
        eviction = decode(self._parts, call, "policy", "v1", "Eviction")
        name = call.info.name
        if (eviction.get("metadata") or {}).get("name", name) != name:
            raise BadRequest("name in URL does not match name in Eviction object")
        await self._parts.admission.consult(call, "CREATE", eviction)
        call.admitted = True
        wanted = dict(eviction.get("deleteOptions") or {})
        call.dry_run = call.dry_run or bool(wanted.get("dryRun"))
        pod = self._parts.caches.get("", "pods", call.namespace, name)
        if pod is None:
            raise errors.not_found("", "pods", name)
        pinned = await self._ask_budget(call, pod)
        if pinned:
            conditions = {"resourceVersion": pod["metadata"]["resourceVersion"], **(wanted.get("preconditions") or {})}
            wanted["preconditions"] = conditions
        await self._delete(call, name, wanted)
        return respond.plain(call.request, created(), 201)

    async def _ask_budget(self, call: Call, pod: Object) -> bool:
        """Take one disruption from the pod's budget. True: only evict the pod as it is now (it is not ready)."""
        if (pod.get("status") or {}).get("phase") in FINISHED or "deletionTimestamp" in pod["metadata"]:
            return False
        budgets = [budget for budget in self._all(call.namespace) if _covers(budget, pod)]
        if len(budgets) > 1:
            text = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
            raise InternalError(text)
        if not budgets:
            return False
        budget = budgets[0]
        if not _ready(pod) and _ignores_unready(budget):
            return True
        await self._take(call, budget["metadata"]["name"], pod["metadata"]["name"])
        return False

    def _all(self, namespace: str) -> list[Object]:
        return list(self._parts.caches.list("policy", "poddisruptionbudgets", namespace))

    async def _take(self, call: Call, name: str, pod: str) -> None:
        async def make(budget: Object, _: Entry) -> dict[str, Any]:
            status = dict(budget.get("status") or {})
            refusal = _refusal(budget, status, name)
            if refusal is not None:
                raise refusal
            status["disruptionsAllowed"] = status["disruptionsAllowed"] - 1
            status["disruptedPods"] = {**(status.get("disruptedPods") or {}), pod: rfc3339(call.now)}
            return {**budget, "metadata": dict(budget["metadata"]), "status": status}

        info = replace(
            call.info, group="policy", resource="poddisruptionbudgets", subresource="status", name=name, verb="update"
        )
        own = replace(call, info=info, resource=self._budgets)
        await update(self._parts, own, name, Change(make, "status", raw=True))

    async def _delete(self, call: Call, name: str, wanted: dict[str, Any]) -> None:
        if not call.dry_run:
            change = Change(lambda pod, _: _marked(pod, call.now), "status", raw=True)
            own = replace(call, info=replace(call.info, subresource="status"))
            if not wanted.get("preconditions"):
                await update(self._parts, own, name, change)
        call.options = wanted
        try:
            await deleting.delete(self._parts, replace(call, info=replace(call.info, verb="delete")), name, wanted)
        except Conflict as error:
            raise _too_many(name) from error


def _covers(budget: Object, pod: Object) -> bool:
    selector = (budget.get("spec") or {}).get("selector")
    try:
        return from_object(selector).matches(pod["metadata"].get("labels"))
    except ValueError:
        return False


def _ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def _ignores_unready(budget: Object) -> bool:
    spec, status = budget.get("spec") or {}, budget.get("status") or {}
    if spec.get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    desired = status.get("desiredHealthy", 0)
    return bool(desired > 0 and status.get("currentHealthy", 0) >= desired)


def _refusal(budget: Object, status: Object, name: str) -> ApiError | None:
    """Why the budget does not allow a disruption now; None if it does."""
    if status.get("observedGeneration", 0) < (budget["metadata"].get("generation") or 0):
        return _too_many(name)
    allowed = status.get("disruptionsAllowed", 0)
    if allowed < 0:
        return errors.forbidden("policy", "poddisruptionbudget", name, "pdb disruptions allowed is negative")
    if len(status.get("disruptedPods") or ()) > MOST_DISRUPTED:
        text = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        return errors.forbidden("policy", "poddisruptionbudget", name, text)
    if allowed:
        return None
    desired, current = status.get("desiredHealthy", 0), status.get("currentHealthy", 0)
    text = f"The disruption budget {name} does not allow evicting pods currently"
    if current <= desired:
        text = f"The disruption budget {name} needs {desired} healthy pods and has {current} currently"
    return TooManyRequests(VIOLATES, details={"causes": [{"reason": CAUSE, "message": text}]})


def _too_many(name: str) -> TooManyRequests:
    text = f"The disruption budget {name} is still being processed by the server."
    return TooManyRequests(VIOLATES, details={"causes": [{"reason": CAUSE, "message": text}]}, retry_after=10)


async def _marked(pod: Object, now: float) -> dict[str, Any]:
    """The pod with the condition that tells its owner why it goes."""
    status = dict(pod.get("status") or {})
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": rfc3339(now),
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    }
    others = [one for one in status.get("conditions") or () if one.get("type") != "DisruptionTarget"]
    status["conditions"] = [*others, condition]
    return {**pod, "metadata": dict(pod["metadata"]), "status": status}
