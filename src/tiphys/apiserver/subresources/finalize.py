"""namespaces/finalize: how the namespace controller says that a namespace is empty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.apiserver import creating, options, respond
from tiphys.apiserver.entries import Entry
from tiphys.apiserver.metadata import match_name
from tiphys.apiserver.parts import Parts
from tiphys.apiserver.resource import Call
from tiphys.apiserver.updating import RETRIES, Change, update
from tiphys.base.http.types import Response


async def put(parts: Parts, call: Call) -> Response:
    """PUT namespaces/NAME/finalize: only the finalizers in the spec count."""
    options.read_write_options(call)
    wanted = creating.body(parts, call)
    metadata = wanted.setdefault("metadata", {})
    match_name(metadata, call.info.name)
    finalizers = (wanted.get("spec") or {}).get("finalizers") or []

    async def make(current: Mapping[str, Any], _: Entry) -> dict[str, Any]:
        spec = {**(current.get("spec") or {}), "finalizers": finalizers}
        if not finalizers:
            del spec["finalizers"]
        kept = dict(current["metadata"])
        for field in ("uid", "resourceVersion"):
            kept[field] = metadata.get(field) or kept[field]
        return {**current, "metadata": kept, "spec": spec}

    retries = 0 if metadata.get("resourceVersion") else RETRIES
    change = Change(make, "finalize", retries=retries, raw=True)
    return respond.entry(call, await update(parts, call, call.info.name, change))
