"""The status of a CustomResourceDefinition: which names it has, and its conditions. Pure.

The rules and texts are those of upstream's naming, establishing, schema and approval controllers; what they write in
several steps is one change here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tiphys.api.kinds.base import quote
from tiphys.api.meta import find_condition, is_true, set_condition
from tiphys.apiserver.extensions.describing import ESTABLISHED, NAMES_ACCEPTED, TERMINATING
from tiphys.base.clock import rfc3339

Object = Mapping[str, Any]
FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
_FIELDS = ("lastTransitionTime", "message", "reason", "status", "type")
SCHEMA, APPROVAL = "NonStructuralSchema", "KubernetesAPIApprovalPolicyConformant"


def names_of(accepted: Object) -> tuple[set[str], set[str]]:
    """What accepted names take: resources and kinds."""
    resources = {accepted.get("plural", ""), accepted.get("singular", ""), *(accepted.get("shortNames") or ())}
    return resources, {accepted.get("kind", ""), accepted.get("listKind", "")}


def naming(crd: Object, taken: Iterable[Object]) -> tuple[dict[str, Any], dict[str, str]]:
    """(acceptedNames, the NamesAccepted condition). `taken` are the acceptedNames of all definitions of the group, its
    own included."""
    wanted, accepted = crd["spec"]["names"], (crd.get("status") or {}).get("acceptedNames") or {}
    resources: set[str] = set()
    kinds: set[str] = set()
    for names in taken:
        more_resources, more_kinds = names_of(names)
        resources |= more_resources
        kinds |= more_kinds
    new, problem = dict(accepted), ("", "")
    for field, used in (("plural", resources), ("singular", resources), ("shortNames", resources)):
        problem = _claim(new, wanted, accepted, field, used) or problem
    for field in ("kind", "listKind"):
        problem = _claim(new, wanted, accepted, field, kinds) or problem
    _put(new, "categories", wanted.get("categories"))
    if problem[0]:
        return new, _condition(NAMES_ACCEPTED, "False", *problem)
    return new, _condition(NAMES_ACCEPTED, "True", "NoConflicts", "no conflicts found")


def _claim(new: dict[str, Any], wanted: Object, accepted: Object, field: str, used: set[str]) -> tuple[str, str] | None:
    """Take over one name, or say who stands in the way: (reason, message)."""
    value, own = wanted.get(field) or "", accepted.get(field) or ""
    values, owned = (value, own or []) if isinstance(value, list) else ([value], [own])
    taken = [name for name in values if name not in owned and name in used]
    if not taken:
        _put(new, field, value)
        return None
    texts = [f"{quote(name)} is already in use" for name in taken]
    message = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    return f"{field[0].upper()}{field[1:]}Conflict", message


def _put(names: dict[str, Any], field: str, value: Any) -> None:
    if value:
        names[field] = value
    else:
        names.pop(field, None)


def established(crd: Object, named: Mapping[str, str], *, usable_bundle: bool) -> dict[str, str]:
    """The Established condition after the names were looked at: once true, it stays."""
    old = find_condition(crd, ESTABLISHED)
    if old is not None and old.get("status") == "True":
        return dict(old)
    if named["status"] != "True":
        return (
            dict(old)
            if old is not None
            else _condition(ESTABLISHED, "False", "NotAccepted", "not all names are accepted")
        )
    if not usable_bundle:
        return _condition(ESTABLISHED, "False", "InvalidCABundle", "The conversion webhook CABundle is invalid")
    return _condition(ESTABLISHED, "True", "InitialNamesAccepted", "the initial names have been accepted")


def settled(
    crd: Object, taken: Iterable[Object], others: Sequence[Mapping[str, str] | None], *, usable_bundle: bool, now: float
) -> dict[str, Any]:
    """The status as it should be; equal to the present one if there is nothing to do. `others` are the conditions
    NonStructuralSchema and KubernetesAPIApprovalPolicyConformant, None for those that it should not have."""
    status = dict(crd.get("status") or {})
    accepted = status.get("acceptedNames") or {}
    conditions: list[Mapping[str, Any]] = list(status.get("conditions") or ())
    if crd["spec"]["names"] != accepted or not is_true(crd, ESTABLISHED):
        new, named = naming(crd, taken)
        status["acceptedNames"] = new
        conditions = _set(conditions, named, now)
        conditions = _set(conditions, established(crd, named, usable_bundle=usable_bundle), now)
    for type, condition in zip((SCHEMA, APPROVAL), others, strict=True):
        if condition is not None:
            conditions = _set(conditions, condition, now)
        elif type == SCHEMA:
            conditions = [one for one in conditions if one.get("type") != type]
    status["conditions"] = conditions
    return status


def terminating(crd: Object, status: str, reason: str, message: str, now: float) -> dict[str, Any]:
    """The status with a Terminating condition."""
    present = dict(crd.get("status") or {})
    conditions = list(present.get("conditions") or ())
    return {**present, "conditions": _set(conditions, _condition(TERMINATING, status, reason, message), now)}


def _condition(type: str, status: str, reason: str, message: str) -> dict[str, str]:
    return {"type": type, "status": status, "reason": reason, "message": message}


def _set(conditions: Sequence[Object], condition: Mapping[str, str], now: float) -> list[Object]:
    stamped = {"lastTransitionTime": rfc3339(now), **condition}
    stamped = {name: stamped[name] for name in _FIELDS if name in stamped}
    return set_condition(conditions, stamped)
