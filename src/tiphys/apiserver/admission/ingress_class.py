"""DefaultIngressClass: an Ingress without a class gets the default one."""

from __future__ import annotations

from tiphys.apiserver.admission.decision import concerns, refuse
from tiphys.apiserver.types import Attributes, Plugin, Reader

GROUP = "networking.k8s.io"
DEFAULT = "ingressclass.kubernetes.io/is-default-class"
ANNOTATION = "kubernetes.io/ingress.class"


class DefaultIngressClass(Plugin):
    name = "DefaultIngressClass"
    resources = frozenset({(GROUP, "ingresses")})

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def admit(self, attributes: Attributes) -> None:
        ingress = attributes.obj
        if attributes.operation != "CREATE" or ingress is None or not concerns(attributes, GROUP, "ingresses"):
            return
        spec = ingress.setdefault("spec", {})
        annotations = ingress["metadata"].get("annotations") or {}
        if spec.get("ingressClassName") is not None or ANNOTATION in annotations:
            return
        defaults = [
            c["metadata"]["name"]
            for c in sorted(
                self._reader.list(GROUP, "ingressclasses"),
                key=lambda c: (c["metadata"].get("creationTimestamp", ""), c["metadata"]["name"]),
            )
            if (c["metadata"].get("annotations") or {}).get(DEFAULT) == "true"
        ]
        if len(defaults) > 1:
            raise refuse(attributes, f"{len(defaults)} default IngressClasses were found, only 1 allowed")
        if defaults:
            spec["ingressClassName"] = defaults[0]
