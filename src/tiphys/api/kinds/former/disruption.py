"""PodDisruptionBudget of policy/v1beta1: there an empty selector matches no pod, in v1 every pod."""

from __future__ import annotations

from typing import Any

from tiphys.api.kinds.base import MutableObject
from tiphys.api.kinds.former.base import Former
from tiphys.api.kinds.policy.poddisruptionbudget import PodDisruptionBudget

LABEL = "pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match"
"""No pod may have it: requiring it selects none, forbidding it selects all."""


def _selector(operator: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": LABEL, "operator": operator}]}


class FormerBudget(Former, PodDisruptionBudget):
    def renew(self, obj: MutableObject) -> None:
        _replace(obj, (({}, _selector("Exists")), (_selector("DoesNotExist"), {})))

    def restore(self, obj: MutableObject) -> None:
        _replace(obj, ((_selector("Exists"), {}), ({}, _selector("DoesNotExist"))))


def _replace(obj: MutableObject, pairs: tuple[tuple[Any, Any], ...]) -> None:
    spec = obj.get("spec") or {}
    for selector, replacement in pairs:
        if spec.get("selector") == selector:
            spec["selector"] = replacement
            return
