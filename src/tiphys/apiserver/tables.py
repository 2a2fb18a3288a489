"""Which Form a client's Accept header asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from tiphys.api.catalog import ResourceInfo
from tiphys.apiserver.forms import META_GROUP, Form, PartialForm, TableForm, partial
from tiphys.apiserver.negotiate import PROTOBUF, Media
from tiphys.apiserver.resource import Call
from tiphys.base.http.types import Request

Tabulate = Callable[[str], dict[str, Any]]


def form_for(call: Call, media: Media) -> Form:
    """The resource's own form, or the one that it is to be shown as."""
    if media.type == PROTOBUF:
        from tiphys.apiserver.protobuf import ProtobufForm

        return ProtobufForm(form_for(call, Media(shown_as=media.shown_as)))
    resource = call.resource
    if not media.shown_as:
        return resource.form
    if media.shown_as != "Table":
        return PartialForm(resource.form, media.version)
    from tiphys.api import table

    info, now = resource.info, call.now

    def cells(obj: Mapping[str, Any]) -> list[Any]:
        return table.cells(info, obj, now)

    include = call.request.param("includeObject")
    return TableForm(resource.form, media.version, _definitions(info), cells, include)


def unstored(request: Request, info: ResourceInfo, objects: Sequence[Mapping[str, Any]], now: float) -> Tabulate:
    """The Table, in a version of meta.k8s.io, of objects that no cache holds."""
    include = request.param("includeObject") or "Metadata"

    def shown(obj: Mapping[str, Any], api: str) -> Mapping[str, Any] | None:
        return partial(obj, api) if include == "Metadata" else obj if include == "Object" else None

    def tabulate(version: str) -> dict[str, Any]:
        from tiphys.api import table

        api = f"{META_GROUP}/{version}"
        return {
            "kind": "Table",
            "apiVersion": api,
            "metadata": {},
            "columnDefinitions": _definitions(info),
            "rows": [{"cells": table.cells(info, obj, now), "object": shown(obj, api)} for obj in objects],
        }

    return tabulate


@lru_cache(maxsize=256)
def _definitions(info: ResourceInfo) -> list[dict[str, Any]]:
    from tiphys.api import table

    return table.definitions(info)
