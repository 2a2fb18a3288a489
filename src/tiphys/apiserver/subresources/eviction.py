"""pods/eviction: a deletion that PodDisruptionBudgets may refuse (KEP-85, API-initiated eviction).

A pod that runs takes a disruption from its budget first; the compare-and-swap on the budget's status is what keeps
evictions at the same moment within it. Pods that no budget guards go only as they were when that was decided.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

from tiphys.api import errors
from tiphys.api.kinds.base import invalid
from tiphys.apiserver import deleting, options, respond
from tiphys.apiserver.deletion import check_preconditions
from tiphys.apiserver.entries import Entry
from tiphys.apiserver.parts import Parts
from tiphys.apiserver.resource import Call, Resource
from tiphys.apiserver.subresources import eviction_budget as budgets
from tiphys.apiserver.subresources.bodies import created, decode
from tiphys.apiserver.updating import Change, update
from tiphys.base.clock import rfc3339
from tiphys.base.errors import ApiError, BadRequest, Conflict
from tiphys.base.http.types import Response

Object = Mapping[str, Any]

_ATTEMPTS = 20
_PAUSE = 0.5
"""Seconds between attempts."""
_UNSAFE = "ignoreStoreReadErrorWithClusterBreakingPotential"
_MANY = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."


class Evictions:
    """`budgets` is policy/v1 poddisruptionbudgets."""

    def __init__(self, parts: Parts, budgets: Resource) -> None:
        self._parts, self._budgets = parts, budgets
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def evict(self, call: Call) -> Response:
        """POST pods/NAME/eviction."""
        options.read_write_options(call)
        eviction = decode(self._parts, call, "policy", "v1", "Eviction", others=(("policy", "v1beta1"),))
        name = call.info.name
        if (eviction.get("metadata") or {}).get("name") != name:
            raise BadRequest("name in URL does not match name in Eviction object")
        wanted = _options(call, name, eviction)
        await self._parts.admission.consult(call, "CREATE", eviction)
        call.admitted = True
        pod = await self._delete_unguarded(call, name, wanted)
        if pod is not None:
            await self._delete_guarded(call, pod, wanted)
        return respond.plain(call.request, created(), 201)

    async def _delete_unguarded(self, call: Call, name: str, wanted: Object) -> Object | None:
        """Delete the pod if no budget has a say; else return it."""
        for attempt in range(_ATTEMPTS):
            pod = self._pod(call, name)
            if not budgets.unguarded(pod):
                return pod
            pinned = budgets.may_become_ready(pod) and not _version(wanted)
            try:
                await self._delete(call, name, _pinned(wanted, pod) if pinned else wanted)
            except Conflict:
                if _version(wanted) or attempt == _ATTEMPTS - 1:
                    raise
                await self._parts.clock.sleep(_PAUSE)
            else:
                return None
        raise AssertionError("the last attempt raises or returns")

    async def _delete_guarded(self, call: Call, pod: Object, wanted: Object) -> None:
        name = pod["metadata"]["name"]
        found = budgets.covering(self._parts.caches.list("policy", "poddisruptionbudgets", call.namespace), pod)
        if len(found) > 1:
            raise _unexplained(_MANY)
        if found and (budgets.ready(pod) or not budgets.ignores_unready(found[0])):
            await self._take(call, found[0]["metadata"]["name"], name)
        elif found:
            await self._delete_unready(call, found[0], pod, wanted)
            return
        await self._delete(call, name, wanted)

    async def _delete_unready(self, call: Call, budget: Object, pod: Object, wanted: Object) -> None:
        """Delete a pod that its budget does not count, unless it has become ready."""
        try:
            await self._delete(call, pod["metadata"]["name"], _pinned(wanted, pod))
        except Conflict as error:
            if _version(wanted):
                raise
            raise budgets.not_yet(budget["metadata"]["name"]) from error

    async def _take(self, call: Call, budget: str, pod: str) -> None:
        """Take one disruption from the budget. Evictions of its pods take turns: they would only collide."""

        async def make(found: Object, _: Entry) -> dict[str, Any]:
            refusal = budgets.refusal(found)
            if refusal is not None:
                raise refusal
            return budgets.granted(found, pod, call.now)

        info = replace(
            call.info, group="policy", resource="poddisruptionbudgets", subresource="status", name=budget, verb="update"
        )
        own = replace(call, info=info, resource=self._budgets)
        turn = self._turns.setdefault((call.namespace, budget), asyncio.Lock())
        async with turn:
            await update(self._parts, own, budget, Change(make, "status", _ATTEMPTS, raw=True))

    async def _delete(self, call: Call, name: str, wanted: Object) -> None:
        """Note on the pod why it goes, and delete it; both only if it meets the preconditions."""
        if not call.dry_run:

            async def mark(pod: Object, _: Entry) -> dict[str, Any]:
                check_preconditions(call.resource.kind, pod, wanted)
                return _marked(pod, call.now)

            own = replace(call, info=replace(call.info, subresource="status"))
            entry = await update(self._parts, own, name, Change(mark, "status", raw=True))
            if _version(wanted):
                wanted = _pinned(wanted, call.resource.current(entry))
        own = replace(call, info=replace(call.info, verb="delete"), options=wanted)
        await deleting.delete(self._parts, own, name, wanted)

    def _pod(self, call: Call, name: str) -> Object:
        pod = self._parts.caches.get("", "pods", call.namespace, name)
        if pod is None:
            raise errors.not_found("", "pods", name)
        return pod


def _options(call: Call, name: str, eviction: Object) -> dict[str, Any]:
    """The options of the deletion; a dry run may be asked for there, too. Raises Invalid, BadRequest."""
    wanted = dict(eviction.get("deleteOptions") or {})
    if wanted.get(_UNSAFE):
        problem = invalid(
            f"deleteOptions.{_UNSAFE}", True, "can not be set for pod eviction, try after removing the option"
        )
        raise errors.invalid("policy", "Eviction", name, [problem])
    asked = wanted.get("dryRun") or []
    if call.dry_run and asked and list(asked) != ["All"]:
        raise errors.client_fault(
            f"Non-matching dry-run options in request and content: [All] and [{' '.join(map(str, asked))}]"
        )
    call.dry_run = call.dry_run or bool(asked)
    return wanted


def _version(wanted: Object) -> str | None:
    """The resourceVersion that the pod must have."""
    return (wanted.get("preconditions") or {}).get("resourceVersion")


def _pinned(wanted: Object, pod: Object) -> dict[str, Any]:
    """The options, for the pod as it is."""
    conditions = {**(wanted.get("preconditions") or {}), "resourceVersion": pod["metadata"]["resourceVersion"]}
    return {**wanted, "preconditions": conditions}


def _unexplained(text: str) -> ApiError:
    """500 without a reason."""
    error = ApiError(text)
    error.reason = ""
    return error


def _marked(pod: Object, now: float) -> dict[str, Any]:
    """The pod with the condition that tells its owner why it goes."""
    present = list((pod.get("status") or {}).get("conditions") or ())
    old = next((one for one in present if one.get("type") == "DisruptionTarget"), None)
    same = old is not None and old.get("status") == "True"
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": old["lastTransitionTime"] if old is not None and same else rfc3339(now),
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    }
    conditions = [*present, condition] if old is None else [condition if one is old else one for one in present]
    status = {**(pod.get("status") or {}), "conditions": conditions}
    return {**pod, "metadata": dict(pod["metadata"]), "status": status}
