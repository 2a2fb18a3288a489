"""Tolerations and taints that everybody gets: DefaultTolerationSeconds and TaintNodesByCondition."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tiphys.apiserver.admission.decision import concerns, creates_pod
from tiphys.apiserver.types import Attributes, Object, Plugin

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
SECONDS = 300


class DefaultTolerationSeconds(Plugin):
    """Pods stay five minutes on a node that fails, unless they say otherwise."""

    name = "DefaultTolerationSeconds"
    resources = frozenset({("", "pods")})

    async def admit(self, attributes: Attributes) -> None:
        if attributes.operation == "UPDATE" and concerns(attributes, "", "pods"):
            pod = attributes.obj
        else:
            pod = creates_pod(attributes)
        if pod is None:
            return
        spec = pod["spec"]
        tolerations = spec.get("tolerations") or []
        missing = [key for key in (NOT_READY, UNREACHABLE) if not _tolerates(tolerations, key)]
        if missing:
            spec["tolerations"] = [*tolerations, *(_toleration(key) for key in missing)]


class TaintNodesByCondition(Plugin):
    """A new node takes no pods before it has said that it is ready."""

    name = "TaintNodesByCondition"
    resources = frozenset({("", "nodes")})

    async def admit(self, attributes: Attributes) -> None:
        if attributes.operation != "CREATE" or not concerns(attributes, "", "nodes") or attributes.obj is None:
            return
        spec = attributes.obj.setdefault("spec", {})
        taints = spec.get("taints") or []
        if not any(taint.get("key") == NOT_READY and taint.get("effect") == "NoSchedule" for taint in taints):
            spec["taints"] = [*taints, {"key": NOT_READY, "effect": "NoSchedule"}]


def _tolerates(tolerations: Iterable[Object], key: str) -> bool:
    return any(t.get("key") in (key, "", None) and t.get("effect") in ("NoExecute", "", None) for t in tolerations)


def _toleration(key: str) -> dict[str, Any]:
    return {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}
