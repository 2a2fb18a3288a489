"""Earlier templates, kept as ControllerRevisions for `kubectl rollout history` and `undo`. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from tiphys.client.types import Object
from tiphys.controllers.objects import (
    annotations_of,
    controller_reference,
    int_of,
    labels,
    name,
    namespace,
    semantically_equal,
    spec,
    status,
    template_hash,
)

HASH_LABEL = "controller-revision-hash"


@dataclass(frozen=True, slots=True)
class History:
    """Either the revision of the present template is there (`current`), or it is to be created (`create`)."""

    old: tuple[Object, ...]
    current: Object | None = None
    create: Object | None = None
    renumbered: Object | None = None
    """`current` with the number that makes it the latest, if it has not got that yet."""
    duplicates: tuple[Object, ...] = ()


def labelled(revision: Object) -> Object:
    """`revision` with a label that tells its pods; one that clients of old made without it gets its own name."""
    if HASH_LABEL in labels(revision):
        return revision
    meta = {**revision["metadata"], "labels": {**labels(revision), HASH_LABEL: name(revision)}}
    return {**revision, "metadata": meta}


def decide(owner: Object, revisions: Sequence[Object]) -> History:
    """Sort `revisions` of `owner` into the present template's and older ones."""
    present = sorted((each for each in revisions if matches(owner, each)), key=_number)
    old = tuple(each for each in revisions if not matches(owner, each))
    latest = max(map(_number, old), default=0) + 1
    if not present:
        return History(old, create=snapshot(owner, latest))
    current = present[-1]
    renumbered = {**current, "revision": latest} if _number(current) < latest else None
    return History(old, current, renumbered=renumbered, duplicates=tuple(present[:-1]))


def _number(revision: Object) -> int:
    return int_of(revision.get("revision"))


def matches(owner: Object, revision: Object) -> bool:
    return semantically_equal(patch(owner), revision.get("data"))


def patch(owner: Object) -> dict[str, Any]:
    """What a revision holds: a patch that puts the template back.

    Names are in order: clients of upstream's compare the bytes (`daemon.Match`)."""
    return {"spec": {"template": _in_order({**spec(owner)["template"], "$patch": "replace"})}}


def _in_order(value: Any) -> Any:
    """`value` with the names of all its maps sorted."""
    if isinstance(value, dict):
        return {key: _in_order(value[key]) for key in sorted(value)}
    return [_in_order(each) for each in value] if isinstance(value, list) else value


def snapshot(owner: Object, number: int) -> dict[str, Any]:
    """The revision of the present template."""
    template = spec(owner)["template"]
    digest = template_hash(template, status(owner).get("collisionCount"))
    meta: dict[str, Any] = {
        "name": f"{name(owner)}-{digest}",
        "namespace": namespace(owner),
        "labels": {**((template.get("metadata") or {}).get("labels") or {}), HASH_LABEL: digest},
        "ownerReferences": [controller_reference(owner)],
    }
    if annotations_of(owner):
        meta["annotations"] = dict(annotations_of(owner))
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": meta,
        "data": patch(owner),
        "revision": number,
    }


def removable(owner: Object, old: Sequence[Object], live: Collection[str]) -> list[Object]:
    """Revisions beyond the history limit that no pod is of any more, oldest first."""
    surplus = len(old) - int_of(spec(owner).get("revisionHistoryLimit"), 10)
    unused = (each for each in sorted(old, key=_number) if labels(each).get(HASH_LABEL) not in live)
    return [each for each, _ in zip(unused, range(max(0, surplus)), strict=False)]
