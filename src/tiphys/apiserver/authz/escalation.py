"""Nobody hands out permissions that they do not hold: checks on writes of roles and bindings.

A writer of a role needs all of its rules, or the verb `escalate` on it; a writer of a binding needs all rules of
the role, or the verb `bind` on it (API reference, "Privilege escalation prevention and bootstrapping").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tiphys.api import errors
from tiphys.apiserver.authz.chain import MASTERS
from tiphys.apiserver.authz.rbac import GROUP, RbacAuthorizer
from tiphys.apiserver.authz.rules import Rule, go_list, missing
from tiphys.apiserver.types import Attributes, Authorizer, Object, Plugin, RequestInfo
from tiphys.base.identity import User

ROLES = {"roles", "clusterroles"}
BINDINGS = {"rolebindings", "clusterrolebindings"}
EVERYTHING = (Rule(("*",), ("*",), ("*",)), Rule(("*",), urls=("*",)))


class EscalationCheck(Plugin):
    """As a plugin that only validates; upstream does the same in the registry of these resources."""

    name = "RBACEscalation"

    def __init__(self, rbac: RbacAuthorizer, authorizer: Authorizer) -> None:
        self._rbac = rbac
        self._authorizer = authorizer

    async def validate(self, attributes: Attributes) -> None:
        info, obj = attributes.info, attributes.obj
        if info.group != GROUP or obj is None or MASTERS in attributes.user.groups:
            return
        if attributes.old is not None and _only_for_garbage_collection(obj, attributes.old):
            return
        if info.resource in ROLES:
            await self._check_role(attributes, obj)
        elif info.resource in BINDINGS:
            await self._check_binding(attributes, obj)

    async def _check_role(self, attributes: Attributes, obj: dict[str, Any]) -> None:
        info, user = attributes.info, attributes.user
        if await self._allowed(user, "escalate", info.resource, info.name, info.namespace):
            return
        name = obj["metadata"].get("name", "")
        self._confirm(user, info, name, [Rule.of(rule) for rule in obj.get("rules") or ()])
        aggregates = _aggregates(obj) or (attributes.old is not None and _aggregates(attributes.old))
        if aggregates and missing(self._rbac.rules_for(user, info.namespace), EVERYTHING):
            detail = "must have cluster-admin privileges to use the aggregationRule"
            raise errors.forbidden(GROUP, info.resource, name, detail)

    async def _check_binding(self, attributes: Attributes, obj: dict[str, Any]) -> None:
        info, user, role = attributes.info, attributes.user, obj["roleRef"]
        plural = {"ClusterRole": "clusterroles", "Role": "roles"}.get(role.get("kind", ""))
        if plural and await self._allowed(user, "bind", plural, role.get("name", ""), info.namespace):
            return
        rules = self._rbac.role_rules(role, info.namespace)
        self._confirm(user, info, obj["metadata"].get("name", ""), rules)

    async def _allowed(self, user: User, verb: str, plural: str, name: str, namespace: str) -> bool:
        question = RequestInfo(verb, "", True, GROUP, "*", namespace=namespace, resource=plural, name=name)
        return (await self._authorizer.authorize(user, question))[0]

    def _confirm(self, user: User, info: RequestInfo, name: str, rules: Iterable[Rule]) -> None:
        lacking = missing(self._rbac.rules_for(user, info.namespace), rules)
        if lacking:
            detail = (
                f'user "{user.name}" (groups={go_list(user.groups)}) is attempting to grant RBAC permissions not '
                "currently held:\n" + "\n".join(sorted({str(rule) for rule in lacking}))
            )
            raise errors.forbidden(GROUP, info.resource, name, detail)


def _aggregates(role: Object) -> bool:
    return bool((role.get("aggregationRule") or {}).get("clusterRoleSelectors"))


def _only_for_garbage_collection(new: Object, old: Object) -> bool:
    """Whether only owner references and finalizers differ: the garbage collector may always do that."""
    return _without_collection_fields(new) == _without_collection_fields(old)


def _without_collection_fields(obj: Object) -> dict[str, Any]:
    dropped = ("ownerReferences", "finalizers", "managedFields", "resourceVersion", "generation")
    metadata = {key: value for key, value in obj["metadata"].items() if key not in dropped}
    return {**obj, "metadata": metadata}
