"""References to objects of other namespaces: allowed by a ReferenceGrant there, or not at all."""

from __future__ import annotations

from collections.abc import Iterable

from tiphys.client.types import Object
from tiphys.gateway.resources import GROUP

Reference = tuple[str, str, str, str]
"""Group, kind, namespace, name."""


def permitted(kind: str, namespace: str, target: Reference, grants: Iterable[Object]) -> bool:
    """Whether objects of `kind` (of the Gateway API) in `namespace` may refer to `target`."""
    if target[2] == namespace:
        return True
    return any(_grants(grant, kind, namespace, target) for grant in grants)


def _grants(grant: Object, kind: str, namespace: str, target: Reference) -> bool:
    if grant["metadata"]["namespace"] != target[2]:
        return False
    spec = grant.get("spec") or {}
    return any(
        one.get("group") == GROUP and one.get("kind") == kind and one.get("namespace") == namespace
        for one in spec.get("from") or ()
    ) and any(
        (one.get("group") or "") == target[0]
        and one.get("kind") == target[1]
        and one.get("name", target[3]) == target[3]
        for one in spec.get("to") or ()
    )
