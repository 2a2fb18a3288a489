"""Server-side apply: PATCH with application/apply-patch+yaml. Creates what is not there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from tiphys.api import errors
from tiphys.api.apply.manager import Applied
from tiphys.api.decode.body import parse_yaml
from tiphys.api.decode.objects import DecodeError
from tiphys.api.decode.request import IGNORE, STRICT
from tiphys.apiserver import creating, metadata
from tiphys.apiserver.authz.chain import refusal
from tiphys.apiserver.entries import Entry
from tiphys.apiserver.parts import Parts
from tiphys.apiserver.query import flag
from tiphys.apiserver.resource import Call
from tiphys.apiserver.updating import Change, modified, update
from tiphys.base.errors import BadRequest
from tiphys.store.types import Mismatch

Object = Mapping[str, Any]


async def apply(parts: Parts, call: Call, name: str) -> tuple[Entry, bool]:
    """Apply the request's object; (the entry, whether it was created)."""
    config = configuration(call)
    missing = call.resource.cache.get(call.namespace, name) is None
    if missing and not call.info.subresource:
        return await _create(parts, call, config, name), True
    managed = b""

    async def make(current: Object, old: Entry) -> dict[str, Any]:
        nonlocal managed
        applied = parts.ownership.applied(
            call, call.resource.form.show(current), config, old.managed, force=forced(call)
        )
        managed = applied.managed
        if applied.obj is None:
            return {**current, "metadata": dict(current["metadata"])}
        new = _decoded(parts, call, applied)
        metadata.match_name(new.setdefault("metadata", {}), name)
        metadata.match_namespace(new["metadata"], call.namespace)
        return new

    change = Change(make, call.info.subresource, track=lambda *_: managed)
    return await update(parts, call, name, change), False


async def _create(parts: Parts, call: Call, config: Object, name: str) -> Entry:
    applied = parts.ownership.applied(call, None, config, b"", force=forced(call))
    obj = _decoded(parts, call, applied)
    meta = obj.setdefault("metadata", {})
    if meta.get("uid"):
        text = f"uid mismatch: the provided object specified uid {meta['uid']}, and no existing object was found"
        raise errors.conflict(call.resource.group, call.resource.plural, name, text)
    metadata.match_name(meta, name)
    metadata.match_namespace(meta, call.namespace)
    await _may_create(parts, call)
    try:
        return await creating.insert(parts, call, obj, applied.managed)
    except Mismatch:
        raise modified(call, name) from None


async def _may_create(parts: Parts, call: Call) -> None:
    """Who applies something new needs the verb create as well. Raises Forbidden."""
    if parts.authorizer is not None:
        info = replace(call.info, verb="create")
        allowed, reason = await parts.authorizer.authorize(call.user, info)
        if not allowed:
            raise refusal(call.user, info, reason)


def configuration(call: Call) -> dict[str, Any]:
    """The applied object as it was sent, JSON or YAML. Raises BadRequest."""
    request = call.request
    if request.local and request.obj is not None:
        return dict(request.obj)
    if call.validation != STRICT and request.body.startswith(b"{"):
        try:
            return dict(orjson.loads(request.body))
        except orjson.JSONDecodeError:
            pass  # YAML's flow style begins like JSON
    try:
        parsed = parse_yaml(request.body)
    except ValueError as error:
        raise BadRequest(f"error decoding YAML: {error}") from error
    if parsed.value is not None and not isinstance(parsed.value, dict):
        text = "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal into Go value of type "
        raise BadRequest(f"error decoding YAML: {text}map[string]interface {{}}")
    if parsed.problems and call.validation != IGNORE:
        text = ", ".join(parsed.problems)
        if call.validation == STRICT:
            raise BadRequest(f"error strict decoding YAML: {text}")
        call.warn(text)
    return parsed.value or {}


def forced(call: Call) -> bool:
    """The query's force."""
    return bool(flag(call.request, "force"))


def _decoded(parts: Parts, call: Call, applied: Applied) -> dict[str, Any]:
    """The applied object in canonical form, defaulted, in the stored version."""
    resource = call.resource
    assert applied.obj is not None, "an object that stays as it is needs no decoding"
    try:
        obj = (resource.codec or parts.codec).normalize(applied.obj, resource.expected.type)
    except DecodeError as error:
        meta = applied.obj.get("metadata") or {}
        gvk = f"{resource.group}/{resource.version}, Kind={resource.kind_name}"
        what = f"{meta.get('namespace', '')}/{meta.get('name', '')}; {gvk}"
        text = f"failed to convert new object ({what}) to proper version ({resource.expected.api_version}): {error}"
        raise BadRequest(text) from error
    obj["kind"], obj["apiVersion"] = resource.kind_name, resource.expected.api_version
    return creating.to_stored(resource, obj)
