"""Going back to an earlier revision on behalf of a client that only asked for it. Pure.

`kubectl rollout undo` writes the earlier template itself. Clients of apps/v1beta1 set spec.rollbackTo instead, which
apps/v1 keeps as an annotation; the controller then does what they asked for, says how it went, and takes the
annotation away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tiphys.client.events import NORMAL, WARNING
from tiphys.client.types import Object
from tiphys.controllers.objects import annotations_of, name, spec, without_hash
from tiphys.controllers.rollout import NOT_COPIED, ROLLBACK, number_in, revision, same_template


@dataclass(frozen=True, slots=True)
class Rollback:
    """The Deployment as it is to be written, and the event that tells what was done."""

    deployment: Object
    type: str
    reason: str
    message: str


def wanted(deployment: Object) -> int | None:
    """The revision that was asked for, 0 for the last one; None if none was, or what was asked for is no number."""
    return number_in(deployment, ROLLBACK)


def roll_back(deployment: Object, sets: Sequence[Object]) -> Rollback:
    """What becomes of the Deployment that asks to go back; `sets` are all of its ReplicaSets."""
    target = wanted(deployment) or _last(sets)
    if not target:
        return _refused(deployment, "DeploymentRollbackRevisionNotFound", "Unable to find last revision.")
    found = next((each for each in sets if revision(each) == target), None)
    if found is None:
        message = "Unable to find the revision to rollback to."
        return _refused(deployment, "DeploymentRollbackRevisionNotFound", message)
    template = without_hash(spec(found)["template"])
    if same_template(deployment, template):
        message = f'The rollback revision contains the same template as current deployment "{name(deployment)}"'
        return _refused(deployment, "DeploymentRollbackTemplateUnchanged", message)
    message = f'Rolled back deployment "{name(deployment)}" to revision {target}'
    restored = {**deployment, "spec": {**spec(deployment), "template": template}}
    kept = {key: value for key, value in annotations_of(deployment).items() if key in NOT_COPIED}
    back = {key: value for key, value in annotations_of(found).items() if key not in NOT_COPIED}
    return Rollback(_without_request(restored, {**kept, **back}), NORMAL, "DeploymentRollback", message)


def _last(sets: Sequence[Object]) -> int:
    """The second highest revision, 0 if there is none."""
    return sorted([0, 0, *map(revision, sets)])[-2]


def _refused(deployment: Object, reason: str, message: str) -> Rollback:
    return Rollback(_without_request(deployment, annotations_of(deployment)), WARNING, reason, message)


def _without_request(deployment: Object, annotations: Any) -> Object:
    kept = {key: value for key, value in annotations.items() if key != ROLLBACK}
    return {**deployment, "metadata": {**deployment["metadata"], "annotations": kept}}
