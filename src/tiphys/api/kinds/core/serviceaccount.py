"""ServiceAccount (API reference, core/v1)."""

from __future__ import annotations

from tiphys.api.kinds.base import Context, MutableObject, Object
from tiphys.api.kinds.common import PlainKind

_ENFORCE = "kubernetes.io/enforce-mountable-secrets"


class ServiceAccount(PlainKind):
    plural, kind = "serviceaccounts", "ServiceAccount"
    revalidates_metadata = True

    def prepare_create(self, obj: MutableObject, context: Context) -> None:
        """Of references to secrets only the name is kept."""
        if secrets := obj.get("secrets"):
            obj["secrets"] = [{"name": s["name"]} if s.get("name") else {} for s in secrets]

    def prepare_update(self, new: MutableObject, old: Object, context: Context) -> None:
        self.prepare_create(new, context)

    def warnings(self, obj: Object, old: Object | None, context: Context) -> list[str]:
        if _ENFORCE not in ((obj.get("metadata") or {}).get("annotations") or {}):
            return []
        if old is not None and _ENFORCE in ((old.get("metadata") or {}).get("annotations") or {}):
            return []
        text = "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
        return [f"metadata.annotations[{_ENFORCE}]: {text}"]
