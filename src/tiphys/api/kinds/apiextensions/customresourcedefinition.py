"""CustomResourceDefinition (API reference, apiextensions.k8s.io/v1).

Answers name fields as the server's own form of the object has them: what all versions have in common, be it schema,
subresources or columns, is `spec.validation`, `spec.subresources` ... there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.kinds.base import Context, FieldError, MutableObject, Object
from tiphys.api.kinds.common import CreatedAtKind, child, fill_empty, keep, setdefaults
from tiphys.api.validation.errors import Errors


class CustomResourceDefinition(CreatedAtKind):
    group, plural, kind = "apiextensions.k8s.io", "customresourcedefinitions", "CustomResourceDefinition"
    name_check = "dns_subdomain"
    has_status = True
    counts_generation = True
    unconditional_update = False
    qualified_finalizers = False

    def default(self, obj: MutableObject, version: str) -> None:
        spec = child(obj, "spec")
        names = child(spec, "names")
        fill_empty(names, singular=names.get("kind", "").lower())
        if names.get("kind"):
            fill_empty(names, listKind=names["kind"] + "List")
        setdefaults(spec, conversion={"strategy": "None"})
        config = (spec["conversion"].get("webhook") or {}).get("clientConfig") or {}
        if (service := config.get("service")) is not None:
            setdefaults(service, port=443)

    def prepare_create(self, obj: MutableObject, context: Context) -> None:
        stored = [version.get("name", "") for version in _versions(obj) if version.get("storage")]
        names = {"plural": "", "kind": ""}
        obj["status"] = {"conditions": None, "acceptedNames": names, "storedVersions": stored[:1]}

    def prepare_update(self, new: MutableObject, old: Object, context: Context) -> None:
        keep(new, old, "status")
        stored = [version.get("name", "") for version in _versions(new) if version.get("storage")]
        known = (new.get("status") or {}).get("storedVersions") or []
        if stored and stored[0] not in known:
            new["status"] = {**(new.get("status") or {}), "storedVersions": [*known, stored[0]]}

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        from tiphys.api.kinds.apiextensions import definition

        definition.new(errors, obj)

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        from tiphys.api.kinds.apiextensions import definition

        definition.changed(errors, new, old)

    def validate_status_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        from tiphys.api.kinds.apiextensions import definition

        errors = Errors()
        definition.status(errors, new)
        return errors

    def warnings(self, obj: Object, old: Object | None, context: Context) -> list[str]:
        from tiphys.api.kinds.apiextensions import definition

        return definition.warnings(obj, old)


def _versions(obj: Object) -> Sequence[Mapping[str, Any]]:
    return (obj.get("spec") or {}).get("versions") or ()
