"""Binding: which node a pod goes to (API reference, core/v1)."""

from __future__ import annotations

from tiphys.api.kinds.base import Context, Object
from tiphys.api.kinds.common import PlainKind
from tiphys.api.validation.errors import Errors


class Binding(PlainKind):
    plural, kind = "bindings", "Binding"
    name_check = "none"

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        target = obj.get("target") or {}
        if (kind := target.get("kind", "")) not in ("", "Node"):
            errors.unsupported("target.kind", kind, ("Node", "<empty>"))
        errors.non_empty("target.name", target.get("name"))
