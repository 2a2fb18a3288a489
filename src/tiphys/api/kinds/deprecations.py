"""Labels of nodes that have newer names: what warnings say about their use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Struct = Mapping[str, Any]

LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
    "app.kubernetes.io/created-by": "deprecated since v1.9",
    "scheduler.alpha.kubernetes.io/preferAvoidPods": "deprecated since v1.22; use Taints and Tolerations instead",
    "node-role.kubernetes.io/master": 'use "node-role.kubernetes.io/control-plane" instead',
}


def requirement_warnings(requirements: list[Struct] | None, path: str) -> Iterator[str]:
    """`requirements` of a selector term or a label selector, at `path`."""
    for i, requirement in enumerate(requirements or ()):
        if (key := requirement.get("key", "")) in LABELS:
            yield f"{path}[{i}].key: {key} is {LABELS[key]}"


def selector_warnings(selector: Struct | None, path: str) -> Iterator[str]:
    """A label selector for nodes."""
    yield from requirement_warnings((selector or {}).get("matchExpressions"), f"{path}.matchExpressions")
    for key in sorted((selector or {}).get("matchLabels") or ()):
        if key in LABELS:
            yield f"{path}.matchLabels.{key}: {LABELS[key]}"
