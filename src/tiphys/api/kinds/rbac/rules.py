"""Rules and subjects of RBAC, and the cells of bindings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, MutableObject, Object
from tiphys.api.kinds.common import PlainKind, child, fill_empty
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.names import dns_subdomain, path_segment

Struct = Mapping[str, Any]

GROUP = "rbac.authorization.k8s.io"


def policy_rules(errors: Errors, rules: Sequence[Struct], *, namespaced: bool) -> None:
    for i, rule in enumerate(rules):
        path = f"rules[{i}]"
        errors.non_empty(f"{path}.verbs", rule.get("verbs"), "verbs must contain at least one value")
        if urls := rule.get("nonResourceURLs"):
            where = f"{path}.nonResourceURLs"
            if namespaced:
                errors.invalid(where, urls, "namespaced rules cannot apply to non-resource URLs")
            if any(rule.get(name) for name in ("apiGroups", "resources", "resourceNames")):
                detail = "rules cannot apply to both regular resources and non-resource URLs"
                errors.invalid(where, urls, detail)
            continue
        for field, what in (("apiGroups", "api group"), ("resources", "resource")):
            detail = f"resource rules must supply at least one {what}"
            errors.non_empty(f"{path}.{field}", rule.get(field), detail)


def subject(errors: Errors, path: str, value: Struct, *, namespaced: bool) -> None:
    name, group, kind = value.get("name", ""), value.get("apiGroup", ""), value.get("kind", "")
    errors.non_empty(f"{path}.name", name)
    if kind == "ServiceAccount":
        if name:
            errors.each(f"{path}.name", name, dns_subdomain(name))
        if group:
            errors.unsupported(f"{path}.apiGroup", group, ("",))
        if not namespaced:
            errors.non_empty(f"{path}.namespace", value.get("namespace"))
    elif kind in ("User", "Group"):
        errors.one_of(f"{path}.apiGroup", group, (GROUP,))
    else:
        errors.unsupported(f"{path}.kind", kind, ("ServiceAccount", "User", "Group"))


class RoleBindingKind(PlainKind):
    """What RoleBinding and ClusterRoleBinding share."""

    group = GROUP
    revalidates_metadata = True
    name_check = "path_segment"
    allow_create_on_update = True
    namespaced = True
    roles: tuple[str, ...] = ("Role", "ClusterRole")

    def default(self, obj: MutableObject, version: str) -> None:
        fill_empty(child(obj, "roleRef"), apiGroup=GROUP)
        for value in obj.get("subjects") or ():
            if value.get("kind") in ("User", "Group"):
                fill_empty(value, apiGroup=GROUP)

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        role = obj.get("roleRef") or {}
        errors.one_of("roleRef.apiGroup", role.get("apiGroup", ""), (GROUP,))
        errors.one_of("roleRef.kind", role.get("kind", ""), self.roles)
        name = role.get("name", "")
        if errors.non_empty("roleRef.name", name):
            errors.each("roleRef.name", name, path_segment(name))
        for i, value in enumerate(obj.get("subjects") or ()):
            subject(errors, f"subjects[{i}]", value, namespaced=self.namespaced)

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        self.check(errors, new, context)
        role, was = new.get("roleRef") or {}, old.get("roleRef") or {}
        if role != was:
            shown = {"APIGroup": role.get("apiGroup", ""), "Kind": role.get("kind", ""), "Name": role.get("name", "")}
            errors.invalid("roleRef", shown, "cannot change roleRef")

    def cells(self, obj: Object, now: float) -> list[Any]:
        role = obj.get("roleRef") or {}
        names: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
        for value in obj.get("subjects") or ():
            name, kind = value.get("name", ""), value.get("kind", "")
            account = kind == "ServiceAccount"
            shown = f"{value['namespace']}/{name}" if account and value.get("namespace") else name
            names.setdefault(kind, []).append(shown)
        listed = [", ".join(names[kind]) for kind in ("User", "Group", "ServiceAccount")]
        return [printing.name(obj), f"{role.get('kind')}/{role.get('name')}", printing.age(obj, now), *listed]


_UNRESOLVED = "If the RoleRef cannot be resolved, the Authorizer must return an error."
_ROLE_REFS = {
    "RoleBinding": "RoleRef can reference a Role in the current namespace or a ClusterRole in the global namespace. "
    + _UNRESOLVED,
    "ClusterRoleBinding": "RoleRef can only reference a ClusterRole in the global namespace. " + _UNRESOLVED,
}
"""What v1beta1 said: tables never learnt that the field is immutable."""


def binding_columns(kind: str) -> tuple[Column, ...]:
    where = kind[0].lower() + kind[1:]
    return (
        printing.NAME,
        Column("Role", description=_ROLE_REFS[kind]),
        printing.AGE,
        *(
            Column(what, description=f"{what} in the {where}", priority=1)
            for what in ("Users", "Groups", "ServiceAccounts")
        ),
    )
