"""ClusterRoleBinding (API reference, rbac.authorization.k8s.io/v1)."""

from __future__ import annotations

from tiphys.api.kinds.rbac.rules import RoleBindingKind, binding_columns


class ClusterRoleBinding(RoleBindingKind):
    plural, kind = "clusterrolebindings", "ClusterRoleBinding"
    namespaced = False
    roles = ("ClusterRole",)
    columns = binding_columns("ClusterRoleBinding")
