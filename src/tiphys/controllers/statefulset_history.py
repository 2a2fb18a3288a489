"""The revisions of a StatefulSet's template: which one pods are updated to, which one they come from. Pure.

Going back to an earlier template renumbers its revision instead of making a new one. What a pod still is made from
is never forgotten, whatever the history limit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiphys.client.types import Object
from tiphys.controllers import history
from tiphys.controllers.objects import created, int_of, name, spec, status, template_hash

HASH_LABEL = "controller.kubernetes.io/hash"

_LONGEST_PREFIX = 223


@dataclass(frozen=True, slots=True)
class Choice:
    """The revision of the present template: there already, to be renumbered, or (`number`) to be created."""

    update: Object | None = None
    renumbered: Object | None = None
    number: int = 0


def in_order(revisions: Sequence[Object]) -> list[Object]:
    """The oldest first."""
    return sorted(revisions, key=lambda each: (int_of(each.get("revision")), created(each), name(each)))


def choose(stateful_set: Object, revisions: Sequence[Object]) -> Choice:
    """Find the present template among `revisions`, which are in order."""
    latest = int_of(revisions[-1].get("revision")) + 1 if revisions else 1
    equal = [each for each in revisions if history.matches(stateful_set, each)]
    if not equal:
        return Choice(number=latest)
    if history.matches(stateful_set, revisions[-1]):
        return Choice(revisions[-1])
    return Choice(equal[-1], renumbered={**equal[-1], "revision": latest})


def snapshot(stateful_set: Object, number: int, collisions: int) -> dict[str, Any]:
    """The revision of the present template; another name for each count of collisions."""
    digest = template_hash(spec(stateful_set)["template"], collisions)
    made = history.snapshot(stateful_set, number)
    kept = {key: value for key, value in made["metadata"]["labels"].items() if key != history.HASH_LABEL}
    named = f"{name(stateful_set)[:_LONGEST_PREFIX]}-{digest}"
    return {**made, "metadata": {**made["metadata"], "name": named, "labels": {**kept, HASH_LABEL: digest}}}


def current(stateful_set: Object, revisions: Sequence[Object], update: Object) -> Object:
    """The revision that pods had before the update; the update's own if there is none."""
    wanted = status(stateful_set).get("currentRevision")
    return next((each for each in revisions if name(each) == wanted), update)


def template_of(revision: Object) -> Mapping[str, Any]:
    """The pod template that a revision holds."""
    template = revision["data"]["spec"]["template"]
    return {key: value for key, value in template.items() if key != "$patch"}


def removable(stateful_set: Object, revisions: Sequence[Object], live: Collection[str]) -> list[Object]:
    """Those of `revisions` (in order) that are neither `live` by name nor within the history limit."""
    dead = [each for each in revisions if name(each) not in live]
    limit = int_of(spec(stateful_set).get("revisionHistoryLimit"), 10)
    return dead[: max(0, len(dead) - limit)] if limit >= 0 else []
