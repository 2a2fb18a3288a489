"""ClusterRoles that are made of others: their rules are those of every ClusterRole that their selectors match."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tiphys.api import selectors
from tiphys.client.reconcile import Result
from tiphys.client.types import APPLY_PATCH, Object, Resource
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.objects import labels, name, semantically_equal

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
                for rule in other.get("rules") or ():
                    if not any(semantically_equal(rule, each) for each in wanted):
                        wanted.append(rule)
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
        if not semantically_equal(wanted, list(role.get("rules") or ())):
            await self._apply(key, wanted)
        return None

    async def _apply(self, name: str, wanted: list[Mapping[str, Any]]) -> None:
        """Take the rules over from whoever wrote them; an aggregated role has no others."""
        body = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": name},
            **({"rules": wanted} if wanted else {}),
        }
        await self.client.patch(CLUSTER_ROLES, name, body, type=APPLY_PATCH, field_manager=self.name, force=True)

    def _role_changed(self, old: Object | None, new: Object | None) -> None:
        """Any role may be part of any aggregated one; there are few of those."""
        for role in self._roles.list():
            if sources(role):
                self.queue.add(name(role))
