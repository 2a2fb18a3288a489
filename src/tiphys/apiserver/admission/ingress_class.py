"""DefaultIngressClass: an Ingress without a class gets the default one; the newest, if there are several."""

from __future__ import annotations

from tiphys.apiserver.admission.decision import concerns
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
            one["metadata"]
            for one in self._reader.list(GROUP, "ingressclasses")
            if (one["metadata"].get("annotations") or {}).get(DEFAULT) == "true"
        ]
        if defaults:
            # Newest first, then by name: sorted twice because the two go opposite ways.
            defaults.sort(key=lambda metadata: str(metadata["name"]))
            defaults.sort(key=lambda metadata: str(metadata.get("creationTimestamp", "")), reverse=True)
            spec["ingressClassName"] = defaults[0]["name"]
