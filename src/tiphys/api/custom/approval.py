"""Groups of the Kubernetes community: their definitions need a sign that the community knows of them (KEP-1111)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from tiphys.api.kinds.base import FieldError, Object, invalid, quote, required

ANNOTATION = "api-approved.kubernetes.io"
MISSING, INVALID, APPROVED, BYPASSED = "Missing", "Invalid", "Approved", "Unapproved"
_NEEDED = f'protected groups must have approval annotation "{ANNOTATION}"'
_SEE = "see https://github.com/kubernetes/enhancements/pull/1111"


def protected(group: str) -> bool:
    """Whether a group belongs to the community."""
    return f".{group}".endswith((".k8s.io", ".kubernetes.io"))


def state(crd: Mapping[str, Any]) -> tuple[str, str]:
    """(state, reason) of a definition's annotation."""
    value = _value(crd)
    if not value:
        return MISSING, f"{_NEEDED}, {_SEE}"
    if value.startswith("unapproved"):
        return BYPASSED, f"not approved: {quote(value)}"
    parts = urlsplit(value)
    if parts.scheme and parts.netloc:
        return APPROVED, f"approved in {value}"
    return INVALID, f'{_NEEDED} with either a URL or a reason starting with "unapproved", {_SEE}'


def problems(crd: Object, old: Object | None) -> list[FieldError]:
    """What a definition's annotation lacks; a state that was there before may stay."""
    path = f"metadata.annotations[{ANNOTATION}]"
    if not protected((crd.get("spec") or {}).get("group", "")):
        return []
    now, reason = state(crd)
    if old is not None and state(old)[0] == now:
        return []
    if now == MISSING:
        return [required(path, reason)]
    return [invalid(path, _value(crd), reason)] if now == INVALID else []


def condition(crd: Object) -> dict[str, str] | None:
    """KubernetesAPIApprovalPolicyConformant; None for groups that need no approval."""
    if not protected((crd.get("spec") or {}).get("group", "")):
        return None
    now, reason = state(crd)
    return {
        "type": "KubernetesAPIApprovalPolicyConformant",
        "status": "True" if now == APPROVED else "False",
        "reason": f"{now}Annotation",
        "message": reason,
    }


def _value(crd: Mapping[str, Any]) -> str:
    return str(((crd.get("metadata") or {}).get("annotations") or {}).get(ANNOTATION, ""))
