"""ClusterRole (API reference, rbac.authorization.k8s.io/v1)."""

from __future__ import annotations

from tiphys.api.kinds.base import Context, Object
from tiphys.api.kinds.common import CreatedAtKind
from tiphys.api.kinds.rbac.rules import GROUP, policy_rules
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.labels import label_selector


class ClusterRole(CreatedAtKind):
    group, plural, kind = GROUP, "clusterroles", "ClusterRole"
    revalidates_metadata = True
    name_check = "path_segment"
    allow_create_on_update = True

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        policy_rules(errors, obj.get("rules") or (), namespaced=False)
        if (aggregation := obj.get("aggregationRule")) is None:
            return
        path, selectors = "aggregationRule.clusterRoleSelectors", aggregation.get("clusterRoleSelectors") or ()
        detail = "at least one clusterRoleSelector required if aggregationRule is non-nil"
        errors.non_empty(path, selectors, detail)
        for i, selector in enumerate(selectors):
            count = len(errors)
            label_selector(errors, f"{path}[{i}]", selector)
            if len(errors) > count:
                errors.invalid(f"{path}[{i}]", None, "invalid label selector.")
