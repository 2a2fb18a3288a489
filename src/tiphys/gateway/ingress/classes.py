"""Which Ingresses are ours: pure."""

from __future__ import annotations

from collections.abc import Iterable

from tiphys.client.types import Object

CONTROLLER = "tiphys.io/ingress"
DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"
LEGACY = "kubernetes.io/ingress.class"


def our_classes(classes: Iterable[Object]) -> frozenset[str]:
    """Names of the classes that name our controller; "" among them when one of them is the default."""
    names = set()
    for each in classes:
        if (each.get("spec") or {}).get("controller") == CONTROLLER:
            names.add(each["metadata"]["name"])
            if ((each["metadata"].get("annotations") or {}).get(DEFAULT_CLASS)) == "true":
                names.add("")
    return frozenset(names)


def class_of(ingress: Object) -> str:
    """By its field, else by the annotation of old; "" for neither."""
    name = (ingress.get("spec") or {}).get("ingressClassName")
    if name is None:
        name = (ingress["metadata"].get("annotations") or {}).get(LEGACY) or ""
    return str(name)
