"""Which Ingresses are ours: pure.

Those without a class are, too. Our class is not marked as the default: the default class is for the users to choose,
and as long as they choose none, Ingresses stay without one.
"""

from __future__ import annotations

from collections.abc import Iterable

from tiphys.client.types import Object

CONTROLLER = "tiphys.io/ingress"
DEFAULT_CLASS = "ingressclass.kubernetes.io/is-default-class"
LEGACY = "kubernetes.io/ingress.class"


def our_classes(classes: Iterable[Object]) -> frozenset[str]:
    """Names of the classes that name our controller; "" among them, unless one says that it is not the default."""
    names = set()
    unasked = True
    for each in classes:
        if (each.get("spec") or {}).get("controller") == CONTROLLER:
            names.add(each["metadata"]["name"])
            unasked &= (each["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) != "false"
    return frozenset(names | {""}) if names and unasked else frozenset(names)


def class_of(ingress: Object) -> str:
    """By its field, else by the annotation of old; "" for neither."""
    name = (ingress.get("spec") or {}).get("ingressClassName")
    if name is None:
        name = (ingress["metadata"].get("annotations") or {}).get(LEGACY) or ""
    return str(name)
