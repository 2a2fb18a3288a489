"""Whether a pod may be on a node: node selector, required node affinity, taints and tolerations. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tiphys.client.types import Object
from tiphys.controllers.objects import condition, labels, name, spec, status

Taint = Mapping[str, Any]
Toleration = Mapping[str, Any]

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"


def is_ready(node: Object) -> bool:
    found = condition(status(node), "Ready")
    return found is not None and found.get("status") == "True"


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """Whether one toleration covers one taint (core/v1 Toleration)."""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    if not toleration.get("key"):
        return False
    return _compare(operator, str(toleration.get("value") or ""), str(taint.get("value") or ""))


def _compare(operator: str, tolerated: str, actual: str) -> bool:
    if operator == "Equal":
        return tolerated == actual
    try:
        limit, number = int(tolerated), int(actual)
    except ValueError:
        return False
    return (operator == "Lt" and number < limit) or (operator == "Gt" and number > limit)


def untolerated(pod_spec: Mapping[str, Any], taints: Iterable[Taint], effects: Iterable[str]) -> Taint | None:
    """The first taint with one of `effects` that nothing tolerates."""
    tolerations = pod_spec.get("tolerations") or ()
    wanted = tuple(effects)
    for taint in taints:
        if taint.get("effect") in wanted and not any(tolerates(each, taint) for each in tolerations):
            return taint
    return None


def selects_node(pod_spec: Mapping[str, Any], node: Object) -> bool:
    """Whether nodeSelector and required node affinity admit `node`."""
    if not (pod_spec.get("nodeSelector") or {}).items() <= labels(node).items():
        return False
    affinity = (pod_spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    return any(_term(term, node) for term in required.get("nodeSelectorTerms") or ())


def _term(term: Mapping[str, Any], node: Object) -> bool:
    """All expressions of a term; an empty term matches nothing."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    by_field = {"metadata.name": name(node)}
    return all(_expression(each, labels(node)) for each in expressions) and all(
        _expression(each, by_field) for each in fields
    )


def _expression(expression: Mapping[str, Any], values: Mapping[str, str]) -> bool:
    value = values.get(expression["key"])
    wanted: Sequence[str] = expression.get("values") or ()
    operator = expression["operator"]
    if operator == "In":
        return value is not None and value in wanted
    if operator == "NotIn":
        return value is None or value not in wanted
    if operator == "Exists":
        return value is not None
    if operator == "DoesNotExist":
        return value is None
    try:
        number, limit = int(value or ""), int(wanted[0])
    except (ValueError, IndexError):
        return False
    return number > limit if operator == "Gt" else number < limit


def taints_of(node: Object) -> list[Taint]:
    return [each for each in spec(node).get("taints") or () if each and each.get("key")]
