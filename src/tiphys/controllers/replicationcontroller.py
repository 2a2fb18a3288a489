"""ReplicationController: what ReplicaSet was called before it had label selectors. The same engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tiphys.api import selectors
from tiphys.api.selectors import LabelSelector
from tiphys.client.resources import REPLICATION_CONTROLLERS
from tiphys.client.types import Object
from tiphys.controllers.objects import spec
from tiphys.controllers.replicaset import ReplicaSetController


class ReplicationControllerController(ReplicaSetController):
    """Keys are ReplicationControllers."""

    name = "replicationcontroller-controller"
    account = "replication-controller"
    component = "replication-controller"
    resource = REPLICATION_CONTROLLERS
    kind = "ReplicationController"

    def selector(self, replica_set: Object) -> LabelSelector:
        return selectors.from_labels(spec(replica_set).get("selector"))

    def status(
        self, replica_set: Object, active: Sequence[Object], terminating: int, failure: str, now: float
    ) -> dict[str, Any]:
        new = super().status(replica_set, active, terminating, failure, now)
        del new["terminatingReplicas"]
        return new
