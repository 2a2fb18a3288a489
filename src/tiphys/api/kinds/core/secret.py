"""Secret (API reference, core/v1)."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, MutableObject, Object
from tiphys.api.kinds.common import PlainKind, fill_empty
from tiphys.api.kinds.core.configmap import SIZE_LIMIT, base64_size, frozen
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.names import config_key

_ACCOUNT = "kubernetes.io/service-account.name"
_DOCKER = {"kubernetes.io/dockercfg": ".dockercfg", "kubernetes.io/dockerconfigjson": ".dockerconfigjson"}
_REDACTED = "<secret contents redacted>"


class Secret(PlainKind):
    plural, kind = "secrets", "Secret"
    revalidates_metadata = True
    columns = (
        printing.NAME,
        Column("Type", description="@Secret.type"),
        Column("Data", description="@Secret.data"),
        printing.AGE,
    )

    def default(self, obj: MutableObject, version: str) -> None:
        """stringData is for writing only: its values join data."""
        fill_empty(obj, type="Opaque")
        if texts := obj.pop("stringData", None):
            encoded = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
            obj["data"] = {**(obj.get("data") or {}), **encoded}

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        data = obj.get("data") or {}
        size = 0
        for key in sorted(data):
            errors.each(f"data[{key}]", key, config_key(key))
            size += base64_size(data[key])
        if size > SIZE_LIMIT:
            errors.too_long("data", SIZE_LIMIT)
        _by_type(errors, obj, data)

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        errors.immutable("type", new.get("type", ""), old.get("type"))
        frozen(errors, new, old, "data")
        self.check(errors, new, context)

    def fields(self, obj: Object) -> Mapping[str, str]:
        return {"type": obj.get("type", "")}

    def warnings(self, obj: Object, old: Object | None, context: Context) -> list[str]:
        data = obj.get("data") or {}
        if obj.get("type") != "kubernetes.io/tls":
            return []
        certificate, key = (base64.b64decode(data.get(name) or "") for name in ("tls.crt", "tls.key"))
        problem = _key_pair_problem(certificate, key)
        return [problem] if problem else []

    def cells(self, obj: Object, now: float) -> list[Any]:
        return [printing.name(obj), obj.get("type", ""), len(obj.get("data") or ()), printing.age(obj, now)]


def _by_type(errors: Errors, obj: Object, data: Mapping[str, str]) -> None:
    kind = obj.get("type", "")
    if kind == "kubernetes.io/service-account-token":
        annotations = (obj.get("metadata") or {}).get("annotations") or {}
        errors.non_empty(f"metadata.annotations[{_ACCOUNT}]", annotations.get(_ACCOUNT))
    elif kind in _DOCKER:
        _docker(errors, _DOCKER[kind], data)
    elif kind == "kubernetes.io/basic-auth":
        if "username" not in data and "password" not in data:
            errors.required("data[username]")
            errors.required("data[password]")
    elif kind == "kubernetes.io/ssh-auth":
        errors.non_empty("data[ssh-privatekey]", data.get("ssh-privatekey"))
    elif kind == "kubernetes.io/tls":
        for key in ("tls.crt", "tls.key"):
            if key not in data:
                errors.required(f"data[{key}]")


def _docker(errors: Errors, key: str, data: Mapping[str, str]) -> None:
    path = f"data[{key}]"
    if key not in data:
        errors.required(path)
        return
    text = base64.b64decode(data[key])
    if not text:
        errors.invalid(path, _REDACTED, "unexpected end of JSON input")
        return
    try:
        value = json.loads(text)
    except ValueError as error:
        errors.invalid(path, _REDACTED, _go_json_error(text, error))
        return
    if value is not None and not isinstance(value, dict):
        kinds = {str: "string", list: "array", bool: "bool"}
        shown = kinds.get(type(value), "number")
        errors.invalid(
            path, _REDACTED, f"json: cannot unmarshal {shown} into Go value of type map[string]interface {{}}"
        )


def _go_json_error(text: bytes, error: ValueError) -> str:
    """The words of upstream's parser, as far as they can be told from the place of the fault."""
    position = getattr(error, "pos", 0)
    if position >= len(text.rstrip()):
        return "unexpected end of JSON input"
    char = text[position : position + 1].decode("latin-1")
    if position == 0:
        return f"invalid character '{char}' looking for beginning of value"
    return f"invalid character '{char}' looking for beginning of object key string"


def _key_pair_problem(certificate: bytes, key: bytes) -> str:
    """Why a certificate and a key are no pair; '' when they are."""
    if b"-----BEGIN" not in certificate:
        return "tls: failed to find any PEM data in certificate input"
    if b"-----BEGIN" not in key:
        return "tls: failed to find any PEM data in key input"
    return ""
