"""ConfigMap (API reference, core/v1)."""

from __future__ import annotations

from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, Object
from tiphys.api.kinds.common import PlainKind
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.names import config_key

SIZE_LIMIT = 1024 * 1024
"""Bytes of all values of a ConfigMap or a Secret."""
FROZEN = "field is immutable when `immutable` is set"


def base64_size(text: str) -> int:
    """How many bytes a base64 text stands for."""
    return len(text) * 3 // 4 - text.count("=", -2)


def frozen(errors: Errors, new: Object, old: Object, *fields: str) -> None:
    """Once `immutable` is set it stays set, and what it protects stays as it is."""
    if not old.get("immutable"):
        return
    if not new.get("immutable"):
        errors.forbidden("immutable", FROZEN)
    for name in fields:
        if (new.get(name) or {}) != (old.get(name) or {}):
            errors.forbidden(name, FROZEN)


class ConfigMap(PlainKind):
    plural, kind = "configmaps", "ConfigMap"
    revalidates_metadata = True
    columns = (printing.NAME, Column("Data", description="@ConfigMap.data"), printing.AGE)

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
        size = 0
        for key in sorted(data):
            errors.each(f"data[{key}]", key, config_key(key))
            if key in binary:
                errors.invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
            size += len(data[key].encode())
        for key in sorted(binary):
            errors.each(f"binaryData[{key}]", key, config_key(key))
            size += base64_size(binary[key])
        if size > SIZE_LIMIT:
            errors.too_long("", SIZE_LIMIT)

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        frozen(errors, new, old, "data", "binaryData")
        self.check(errors, new, context)

    def cells(self, obj: Object, now: float) -> list[Any]:
        count = len(obj.get("data") or ()) + len(obj.get("binaryData") or ())
        return [printing.name(obj), count, printing.age(obj, now)]
