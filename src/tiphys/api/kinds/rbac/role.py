"""Role (API reference, rbac.authorization.k8s.io/v1)."""

from __future__ import annotations

from tiphys.api.kinds.base import Context, Object
from tiphys.api.kinds.common import CreatedAtKind
from tiphys.api.kinds.rbac.rules import GROUP, policy_rules
from tiphys.api.validation.errors import Errors


class Role(CreatedAtKind):
    group, plural, kind = GROUP, "roles", "Role"
    revalidates_metadata = True
    name_check = "path_segment"
    allow_create_on_update = True

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        policy_rules(errors, obj.get("rules") or (), namespaced=True)
