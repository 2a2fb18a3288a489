"""Makes the store agree with the defaults when the API server starts.

What is missing is created, all at once, so that one or two commits take it. Roles and bindings that are marked
autoupdate=true get back what they lack and keep what was added; flow control objects marked so get their spec
back. A start that finds everything in place only reads.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any, Protocol

from tiphys.apiserver.authz.rules import Rule, missing
from tiphys.apiserver.bootstrap.flow import ANNOTATIONS as FLOW_ANNOTATIONS
from tiphys.apiserver.bootstrap.flow import GROUP as FLOW_GROUP
from tiphys.apiserver.bootstrap.objects import BootstrapConfig, Desired, desired
from tiphys.apiserver.bootstrap.rbac import ANNOTATIONS as RBAC_ANNOTATIONS
from tiphys.apiserver.types import Object, Reader
from tiphys.base.clock import rfc3339


class Writer(Protocol):
    """Writes whole objects past the handler chain, as the API server itself."""

    def serves(self, group: str, plural: str) -> bool:
        """Whether the resource exists here."""
        ...

    async def create(self, group: str, plural: str, obj: dict[str, Any]) -> None:
        """Store a new object; one that exists by now is left alone."""
        ...

    async def update(self, group: str, plural: str, obj: dict[str, Any]) -> None:
        """Store over the one whose resourceVersion `obj` has; a newer one is left alone."""
        ...


async def ensure(reader: Reader, writer: Writer, config: BootstrapConfig, now: float) -> int:
    """Create and update what is needed; returns how many objects were written. `now`: seconds since the epoch."""
    count = 0
    async with asyncio.TaskGroup() as group:
        for wish in desired(config, now):
            if not writer.serves(wish.group, wish.plural):
                continue
            metadata = wish.obj["metadata"]
            have = reader.get(wish.group, wish.plural, metadata.get("namespace", ""), metadata["name"])
            if have is None:
                metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": rfc3339(now)}
                group.create_task(writer.create(wish.group, wish.plural, wish.obj))
                count += 1
            elif (changed := reconcile(wish, have)) is not None:
                group.create_task(writer.update(wish.group, wish.plural, changed))
                count += 1
    return count


def reconcile(wish: Desired, have: Object) -> dict[str, Any] | None:
    """`have` brought up to date; None when nothing is to be done."""
    return wish.renew(have) if wish.renew is not None else _RULES[wish.update](wish, have)


def _leave(wish: Desired, have: Object) -> None:
    return None


def _replace_spec(wish: Desired, have: Object) -> dict[str, Any] | None:
    if wish.group == FLOW_GROUP and not _marked(have, FLOW_ANNOTATIONS):
        return None
    if have.get("spec") == wish.obj["spec"]:
        return None
    return {**have, "spec": wish.obj["spec"]}


def _replace_all(wish: Desired, have: Object) -> dict[str, Any] | None:
    fields = {key: value for key, value in wish.obj.items() if key not in ("metadata", "kind", "apiVersion")}
    if all(have.get(key) == value for key, value in fields.items()):
        return None
    return {**have, **fields}


def _add_family(wish: Desired, have: Object) -> dict[str, Any] | None:
    """The default ServiceCIDR of a cluster that has become dual-stack; another first range is left to its owner."""
    cidrs = (have.get("spec") or {}).get("cidrs") or []
    wanted = wish.obj["spec"]["cidrs"]
    if len(cidrs) == 1 and len(wanted) == 2 and cidrs[0] == wanted[0]:
        return {**have, "spec": {**have["spec"], "cidrs": wanted}}
    return None


def _add_permissions(wish: Desired, have: Object) -> dict[str, Any] | None:
    """Roles get missing rules, bindings missing subjects, both the labels that they lost."""
    if not _marked(have, RBAC_ANNOTATIONS):
        return None
    metadata = have["metadata"]
    labels = {**(metadata.get("labels") or {}), **wish.obj["metadata"]["labels"]}
    changed: dict[str, Any] = {}
    if labels != metadata.get("labels"):
        changed["metadata"] = {**metadata, "labels": labels}
    for key, extend in (("rules", _more_rules), ("subjects", _more_subjects)):
        current, wanted = have.get(key) or [], wish.obj.get(key) or []
        extra = [] if current == wanted else extend(current, wanted)
        if extra:
            changed[key] = [*current, *extra]
    return {**have, **changed} if changed else None


def _more_rules(current: list[Any], wanted: list[Any]) -> list[Any]:
    return [
        _rule_object(rule) for rule in missing([Rule.of(rule) for rule in current], [Rule.of(rule) for rule in wanted])
    ]


def _rule_object(rule: Rule) -> dict[str, Any]:
    fields = {
        "verbs": rule.verbs,
        "apiGroups": rule.groups,
        "resources": rule.resources,
        "resourceNames": rule.names,
        "nonResourceURLs": rule.urls,
    }
    return {key: list(values) for key, values in fields.items() if values}


def _more_subjects(current: list[Any], wanted: list[Any]) -> list[Any]:
    return [subject for subject in wanted if subject not in current]


def _marked(obj: Object, annotations: dict[str, str]) -> bool:
    have = obj["metadata"].get("annotations") or {}
    return all(have.get(key) == value for key, value in annotations.items())


_RULES: dict[str, Callable[[Desired, Object], dict[str, Any] | None]] = {
    "": _leave,
    "spec": _replace_spec,
    "all": _replace_all,
    "rbac": _add_permissions,
    "family": _add_family,
}
