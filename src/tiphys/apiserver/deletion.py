"""What deleting an object means: at once, after a grace period, or when its finalizers are done. No I/O.

The rules are upstream's rest.BeforeDelete and generic registry store: a kind may know graceful deletion; a
propagation policy becomes a finalizer; an object with finalizers is only marked, and goes when the last is removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.api.kinds.base import Kind
from tiphys.base.clock import parse_rfc3339, rfc3339
from tiphys.base.errors import Conflict

Object = Mapping[str, Any]
ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"
ORPHANS_BY_DEFAULT = {("", "replicationcontrollers"), ("batch", "jobs")}
"""(group, plural) of kinds whose first API kept what they made, and still does."""
UNTRACKED = {("", "events"), ("events.k8s.io", "events")}
"""Kinds that the garbage collector leaves alone."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do: write `marked` if it is not None, then remove the object if `gone`."""

    marked: dict[str, Any] | None
    gone: bool


def plan(kind: Kind, old: Object, options: Object, now: float) -> Plan:
    """Decide on a deletion. `options` are DeleteOptions, `now` is in seconds since the epoch."""
    metadata = dict(old["metadata"])
    wanted = options.get("gracePeriodSeconds")
    if wanted is not None and wanted < 0:
        wanted = 1
    graceful, pending = _grace(kind, old, metadata, wanted, now)
    if pending:
        return Plan(None, gone=False)
    finalizers = _finalizers(kind, metadata, options)
    metadata["finalizers"] = finalizers
    if not finalizers:
        del metadata["finalizers"]
    if not graceful:
        if not finalizers:
            return Plan(None, gone=True)
        _mark(metadata, now)
    stays = bool(finalizers) or bool(metadata.get("deletionGracePeriodSeconds"))
    return Plan({**old, "metadata": metadata}, gone=not stays)


def finished(obj: Object) -> bool:
    """Whether an update took away the last reason to keep an object that is being deleted."""
    metadata = obj["metadata"]
    return (
        "deletionTimestamp" in metadata
        and not metadata.get("finalizers")
        and not metadata.get("deletionGracePeriodSeconds")
    )


def check_preconditions(kind: Kind, old: Object, options: Object) -> None:
    """Compare uid and resourceVersion with what the caller expects. Raises Conflict."""
    preconditions = options.get("preconditions") or {}
    metadata = old["metadata"]
    group = kind.group if kind.error_group is None else kind.error_group
    uid, version = preconditions.get("uid"), preconditions.get("resourceVersion")
    if uid is not None and uid != metadata["uid"]:
        raise conflict(
            f"the UID in the precondition ({uid}) does not match the UID in record ({metadata['uid']}). "
            "The object might have been deleted and then recreated",
            metadata["name"],
            kind.kind,
            group,
        )
    if version is not None and version != metadata["resourceVersion"]:
        raise conflict(
            f"the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record "
            f"({metadata['resourceVersion']}). The object might have been modified",
            metadata["name"],
            kind.kind,
            group,
        )


def conflict(message: str, name: str, called: str, group: str) -> Conflict:
    """409 in upstream's words; `called` is what the message calls the resource: its plural, or its kind."""
    details = {"name": name, "group": group, "kind": called} if group else {"name": name, "kind": called}
    resource = f"{called}.{group}" if group else called
    return Conflict(f'Operation cannot be fulfilled on {resource} "{name}": {message}', details=details)


def _grace(kind: Kind, old: Object, metadata: dict[str, Any], wanted: int | None, now: float) -> tuple[bool, bool]:
    """(whether `metadata` was marked for graceful deletion, whether one goes on already and nothing changes)."""
    grace = kind.delete_grace(old, wanted)
    if grace is None:
        return False, False
    if "deletionTimestamp" in metadata:
        return _shorten(metadata, wanted, now)
    metadata["deletionTimestamp"] = rfc3339(now + grace)
    metadata["deletionGracePeriodSeconds"] = grace
    _count(metadata)
    return True, False


def _shorten(metadata: dict[str, Any], wanted: int | None, now: float) -> tuple[bool, bool]:
    current = metadata.get("deletionGracePeriodSeconds") or 0
    if current == 0:
        return False, False
    if wanted is None or wanted >= current:
        return False, True
    until = parse_rfc3339(metadata["deletionTimestamp"]) - current + wanted
    if until < now:
        # The time is over already; a graceful wish still leaves the last word to the kubelet.
        until, wanted = now, 1 if wanted else 0
    metadata["deletionTimestamp"], metadata["deletionGracePeriodSeconds"] = rfc3339(until), wanted
    return True, False


def _finalizers(kind: Kind, metadata: Object, options: Object) -> list[str]:
    """The finalizers after the propagation policy has had its say."""
    current = list(metadata.get("finalizers") or ())
    resource = (kind.group, kind.plural)
    policy = options.get("propagationPolicy")
    orphan = options.get("orphanDependents")
    if resource in UNTRACKED:
        return [name for name in current if name not in (ORPHAN, FOREGROUND)]
    if orphan is not None:
        policy = "Orphan" if orphan else "Background"
    if policy is None:
        policy = _policy_of(current, resource)
    kept = [name for name in current if name not in (ORPHAN, FOREGROUND)]
    wanted = {"Orphan": [ORPHAN], "Foreground": [FOREGROUND]}.get(policy, [])
    return current if set(kept + wanted) == set(current) else kept + wanted


def _policy_of(finalizers: list[str], resource: tuple[str, str]) -> str:
    """Without a policy in the options, a finalizer that is there decides, then the kind's default."""
    if ORPHAN in finalizers:
        return "Orphan"
    if FOREGROUND in finalizers:
        return "Foreground"
    return "Orphan" if resource in ORPHANS_BY_DEFAULT else "Background"


def _mark(metadata: dict[str, Any], now: float) -> None:
    """Deleted but for its finalizers."""
    stamp = metadata.get("deletionTimestamp")
    if stamp is None:
        _count(metadata)
    if stamp is None or parse_rfc3339(stamp) > now:
        metadata["deletionTimestamp"] = rfc3339(now)
    metadata["deletionGracePeriodSeconds"] = 0


def _count(metadata: dict[str, Any]) -> None:
    if metadata.get("generation"):
        metadata["generation"] += 1
