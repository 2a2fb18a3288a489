"""ClusterRoles that are made of others: their rules are those of every ClusterRole that their selectors match."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tiphys.api import selectors
from tiphys.client.reconcile import Result
from tiphys.client.types import Object, Resource
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import labels, name

CLUSTER_ROLES = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", namespaced=False)


def sources(role: Object) -> list[Mapping[str, Any]]:
    """The label selectors of what it is made of; none for an ordinary role."""
    return list((role.get("aggregationRule") or {}).get("clusterRoleSelectors") or ())


def rules(role: Object, roles: Iterable[Object]) -> list[Mapping[str, Any]]:
    """The rules that it should have: those of matching roles, in order of their names, each once."""
    wanted: list[Mapping[str, Any]] = []
    ordered = sorted(roles, key=name)
    for selector in map(selectors.from_object, sources(role)):
        for other in ordered:
            if name(other) != name(role) and selector.matches(labels(other)):
                wanted += [each for each in other.get("rules") or () if each not in wanted]
    return wanted


class ClusterRoleAggregationController(Controller):
    """Keys are ClusterRoles with an aggregation rule."""

    name = "clusterrole-aggregation-controller"
    account = "clusterrole-aggregation-controller"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._roles = self.watch(CLUSTER_ROLES)
        self._roles.subscribe(self._role_changed)

    async def reconcile(self, key: str) -> Result | None:
        role = self._roles.get("", key)
        if role is None or not sources(role):
            return None
        wanted = rules(role, self._roles.list())
        if wanted != list(role.get("rules") or ()):
            await self.client.update(CLUSTER_ROLES, {**role, "rules": wanted})
        return None

    def _role_changed(self, old: Object | None, new: Object | None) -> None:
        """Any role may be part of any aggregated one; there are few of those."""
        for role in self._roles.list():
            if sources(role):
                self.queue.add(name(role))
