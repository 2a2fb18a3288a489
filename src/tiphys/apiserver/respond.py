"""Answers: entries, lists and plain objects in the form that the client accepts, or decoded for a local one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from tiphys.apiserver import negotiate
from tiphys.apiserver.entries import Entry
from tiphys.apiserver.forms import Form
from tiphys.apiserver.negotiate import Media
from tiphys.apiserver.resource import Call
from tiphys.apiserver.tables import Tabulate, form_for
from tiphys.base.http.types import Request, Response


def entry(call: Call, found: Entry, status: int = 200, *, form: Form | None = None) -> Response:
    """One object."""
    if call.request.local:
        return Response(status, obj=(form or call.resource.form).obj(found))
    media = _media(call)
    if media.plain:
        body = (form or call.resource.form).body(found) + b"\n"
        return Response(status, {"Content-Type": negotiate.JSON}, body)
    shown = form or form_for(call, media)
    return _encoded(call.request, shown.wire(found), media, status)


def listed(call: Call, entries: Sequence[Entry], metadata: Mapping[str, Any]) -> Response:
    """A list."""
    if call.request.local:
        return Response(200, obj=call.resource.form.list_obj(entries, metadata))
    media = _media(call)
    form = form_for(call, media)
    if media.type == negotiate.PROTOBUF:
        return _encoded(call.request, form.wire_list(entries, metadata), media, 200)
    body = form.list_body(entries, metadata)
    if media.type == negotiate.JSON and not media.pretty:
        return negotiate.compress(call.request, Response(200, {"Content-Type": negotiate.JSON}, body))
    return _encoded(call.request, orjson.loads(body), media, 200)


def plain(request: Request, obj: Any, status: int = 200, *, tabulate: Tabulate | None = None) -> Response:
    """An object that no cache holds: a Status, a Scale, a review, discovery. Few have a Table, made by `tabulate`; a
    Status is shown as it is to those who wanted one."""
    if request.local:
        return Response(status, obj=obj)
    kind = obj.get("kind", "")
    media = negotiate.accepted(
        request, obj.get("apiVersion", ""), kind, tables=tabulate is not None or kind == "Status"
    )
    if tabulate is not None and media.shown_as == "Table":
        obj = tabulate(media.version)
    return _encoded(request, obj, media, status)


def _media(call: Call) -> Media:
    return negotiate.accepted(call.request, call.resource.form.api_version, call.resource.form.kind)


def _encoded(request: Request, obj: Any, media: Media, status: int) -> Response:
    response = Response(status, {"Content-Type": media.type}, negotiate.dump(obj, media))
    return negotiate.compress(request, response)
