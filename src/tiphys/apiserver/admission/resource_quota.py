"""ResourceQuota: what a namespace may use in all. A write that fits is charged to its quotas before it is stored.

The charge is a compare-and-swap on the quota's status, so that of two writes for the last place one is refused.
Charges whose write fails afterwards are given back by the quota controller, which counts anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from tiphys.api.quantity import Quantity, from_units, parse
from tiphys.api.quota_pods import Usage
from tiphys.api.quota_usage import concerned, in_scope, unset, usage
from tiphys.apiserver.admission.decision import refuse
from tiphys.apiserver.types import Attributes, Object, Plugin, Reader
from tiphys.base.errors import Conflict

ATTEMPTS = 10
UPDATED = {
    ("", "services", ""),
    ("", "persistentvolumeclaims", ""),
    ("", "persistentvolumeclaims", "status"),
    ("resource.k8s.io", "resourceclaims", ""),
    ("", "pods", "resize"),
}
"""(group, resource, subresource) whose updates can use more; of the rest only creation counts."""


class QuotaLedger(Protocol):
    """How quotas are charged; the API server implements it over its storage."""

    async def charge(self, quota: Object, used: Mapping[str, str]) -> bool:
        """Store `used` as status.used of the quota as it was read; False if it has changed since."""
        ...


class ResourceQuota(Plugin):
    name = "ResourceQuota"

    def __init__(self, reader: Reader, ledger: QuotaLedger) -> None:
        self._reader = reader
        self._ledger = ledger

    async def validate(self, attributes: Attributes) -> None:
        info = attributes.info
        if not info.namespace or attributes.obj is None or not _counts(attributes):
            return
        for quota in tuple(self._reader.list("", "resourcequotas", info.namespace)):
            await self._charge(attributes, quota)

    async def _charge(self, attributes: Attributes, quota: Object) -> None:
        metadata = quota["metadata"]
        for _ in range(ATTEMPTS):
            used = _charged(attributes, quota)
            if used is None or attributes.dry_run or await self._ledger.charge(quota, used):
                return
            current = self._reader.get("", "resourcequotas", metadata["namespace"], metadata["name"])
            if current is None:
                return
            quota = current
        raise Conflict(
            f'Operation cannot be fulfilled on resourcequotas "{metadata["name"]}": the object has been modified; '
            "please apply your changes to the latest version and try again",
            details={"name": metadata["name"], "kind": "resourcequotas"},
        )


def _counts(attributes: Attributes) -> bool:
    info = attributes.info
    if attributes.operation == "CREATE":
        return not info.subresource
    if attributes.operation != "UPDATE":
        return False
    kind = (info.group, info.resource, info.subresource)
    return kind in UPDATED or (
        kind == ("", "pods", "") and _terminating(attributes.obj) != _terminating(attributes.old)
    )


def _terminating(pod: Object | None) -> bool:
    """Whether a pod has a deadline: its change moves the pod to other quotas."""
    return pod is not None and (pod.get("spec") or {}).get("activeDeadlineSeconds") is not None


def _charged(attributes: Attributes, quota: Object) -> dict[str, str] | None:
    """The quota's status.used with the request's share; None if it is not concerned. Raises Forbidden."""
    info, obj, name = attributes.info, attributes.obj or {}, quota["metadata"]["name"]
    is_pod = not info.group and info.resource == "pods"
    if not in_scope(info.group, info.resource, quota, obj):
        return None
    status = quota.get("status") or {}
    hard, used = _quantities(status.get("hard")), _quantities(status.get("used"))
    new = usage(info.group, info.resource, obj)
    names = concerned(info.group, info.resource, hard, new)
    problem = unset(obj, names) if is_pod else ""
    if problem:
        raise refuse(attributes, f"failed quota: {name}: {problem}")
    unknown = sorted(set(names) - used.keys())
    if unknown:
        raise refuse(attributes, f"status unknown for quota: {name}, resources: {','.join(unknown)}")
    counted = attributes.old is not None and in_scope(info.group, info.resource, quota, attributes.old)
    wanted = _delta(attributes, new, names, counted=counted)
    over = [key for key, amount in wanted.items() if used[key] + amount > hard[key]]
    if over:
        detail = f"requested: {_show(wanted, over)}, used: {_show(used, over)}, limited: {_show(hard, over)}"
        raise refuse(attributes, f"exceeded quota: {name}, {detail}")
    if not wanted:
        return None
    return {key: str(used[key] + wanted[key] if key in wanted else used[key]) for key in used}


def _delta(attributes: Attributes, new: Usage, names: Iterable[str], *, counted: bool) -> Usage:
    """What the request uses more than before, of the quota's resources; `counted`: it was of the quota before, too."""
    info, old = attributes.info, attributes.old or {}
    before = usage(info.group, info.resource, old) if attributes.operation == "UPDATE" and counted else {}
    more = {key: new[key] - before.get(key, from_units(0)) for key in names if key in new}
    return {key: amount for key, amount in more.items() if amount.nanos > 0}


def _quantities(values: Mapping[str, str] | None) -> dict[str, Quantity]:
    return {name: parse(str(value)) for name, value in (values or {}).items()}


def _show(amounts: Mapping[str, Quantity], keys: Iterable[str]) -> str:
    return ",".join(f"{key}={amounts[key]}" for key in sorted(keys))
