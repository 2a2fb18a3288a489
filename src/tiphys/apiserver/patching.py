"""PATCH: the change is applied to the object in the version of the request, then the result goes the way of a PUT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from tiphys.api.catalog import split_group_version
from tiphys.api.decode.body import media_type
from tiphys.api.decode.request import Decoded, Expected
from tiphys.api.patch import request as patches
from tiphys.api.patch.gotext import go_text
from tiphys.api.schema import Type
from tiphys.apiserver import creating, metadata
from tiphys.apiserver.applying import apply
from tiphys.apiserver.entries import Entry
from tiphys.apiserver.parts import Parts
from tiphys.apiserver.resource import Call
from tiphys.apiserver.updating import RETRIES, Change, update
from tiphys.base.errors import BadRequest, UnsupportedMediaType

Object = Mapping[str, Any]
_NAMELESS = "name must be provided"
ACCEPTED = (patches.JSON, patches.MERGE, patches.STRATEGIC, patches.APPLY)
CUSTOM_ACCEPTED = (patches.JSON, patches.MERGE, patches.APPLY)
"""Custom resources have no merge keys."""


async def patch(parts: Parts, call: Call, name: str) -> tuple[Entry, bool]:
    """PATCH on an object or one of its views; (the entry, whether it was created)."""
    media = check_media(call)
    if media == patches.APPLY:
        return await apply(parts, call, name)
    resource, whole = call.resource, _mentions_managers(call)

    async def make(current: Object, old: Entry) -> dict[str, Any]:
        shown = resource.form.wire(old) if whole else resource.form.show(current)
        decoded = _decode(parts, call, shown, media, resource.expected)
        new = creating.to_stored(resource, decoded.obj)
        _check_identity(new, current)
        twice = metadata.distinct_owners(new["metadata"], admitted=True)
        call.request.attributes["warnings"] = [*kept, *decoded.warnings, *twice]
        return new

    kept = list(call.request.attributes.get("warnings", ()))
    change = Change(make, call.info.subresource, retries=RETRIES)
    return await update(parts, call, name, change), False


async def patched(parts: Parts, call: Call, current: Object, type: Type | None) -> Object:
    """A view of an object (its Scale) with the request's patch applied."""
    group, version = split_group_version(current["apiVersion"])
    expected = Expected(group, version, current["kind"], type)
    decoded = _decode(parts, call, current, check_media(call), expected)
    call.warn(*decoded.warnings)
    return decoded.obj


def check_media(call: Call) -> str:
    """The kind of patch. Raises UnsupportedMediaType."""
    media = media_type(call.request.headers.get("content-type", ""))
    takes = CUSTOM_ACCEPTED if call.resource.custom else ACCEPTED
    if media not in takes:
        accepted = ", ".join(takes)
        text = f"the body of the request was in an unknown format - accepted media types include: {accepted}"
        raise UnsupportedMediaType(text)
    return media


def _decode(parts: Parts, call: Call, current: Object, media: str, expected: Expected) -> Decoded:
    request = call.request
    codec = call.resource.codec if expected is call.resource.expected else None
    codec = codec or parts.codec
    if request.local and request.obj is not None:
        change = request.obj
        result = patches.apply(current, change, media, expected, codec)
        shown = go_text(change) if media == patches.STRATEGIC else orjson.dumps(result).decode()
        return patches.finish(result, shown, [], expected, codec, call.validation)
    return patches.patch(current, request.body, media, expected, codec, call.validation)


def _mentions_managers(call: Call) -> bool:
    """Whether a patch may speak of managedFields, which are not shown to others."""
    request = call.request
    body = orjson.dumps(request.obj) if request.local and request.obj is not None else request.body
    return b"managedFields" in body


def _check_identity(new: dict[str, Any], current: Object) -> None:
    """A patch may not turn an object into another one. Raises BadRequest."""
    meta, found = new.setdefault("metadata", {}), current["metadata"]
    if not meta.get("name"):
        raise BadRequest(f"the name of the object ({found['name']} based on URL) was undeterminable: {_NAMELESS}")
    if meta["name"] != found["name"]:
        text = f"the name of the object ({meta['name']}) does not match the name on the URL ({found['name']})"
        raise BadRequest(text)
    if meta.get("namespace", "") != found.get("namespace", ""):
        if meta.get("namespace"):
            raise BadRequest("the namespace of the object does not match the namespace on the request")
        meta["namespace"] = found["namespace"]
