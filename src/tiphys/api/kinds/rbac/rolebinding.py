"""RoleBinding (API reference, rbac.authorization.k8s.io/v1)."""

from __future__ import annotations

from tiphys.api.kinds.rbac.rules import RoleBindingKind, binding_columns


class RoleBinding(RoleBindingKind):
    plural, kind = "rolebindings", "RoleBinding"
    columns = binding_columns("RoleBinding")
