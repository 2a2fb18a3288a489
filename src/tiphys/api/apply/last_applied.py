"""kubectl's annotation of client-side apply, when somebody goes over to server-side apply with kubectl.

Fields that the annotation shows to be kubectl's are no conflict; the annotation is kept up to date as long as it is
there, so that one can go back (KEP-555, "Upgrade from client-side apply").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from tiphys.api.apply.check import problems
from tiphys.api.apply.compare import compare, fields_of
from tiphys.api.apply.fields import MEMBER, Fields, difference
from tiphys.api.apply.nodes import Node

ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
LIMIT = 256 * 1024
"""Bytes of all annotations; a last-applied text that does not fit is left out."""

Object = Mapping[str, Any]


def applied_before(node: Node, live: Object, api_version: str) -> Fields:
    """The fields that client-side apply set and that still have its values."""
    found = (live["metadata"].get("annotations") or {}).get(ANNOTATION)
    if not found:
        return MEMBER
    try:
        applied = orjson.loads(found)
    except orjson.JSONDecodeError:
        return MEMBER
    if not isinstance(applied, dict) or applied.get("apiVersion") != api_version or problems(node, applied):
        return MEMBER
    changes = compare(node, applied, live)
    fields = fields_of(node, applied)
    for other in (changes.modified, changes.added, changes.removed):
        fields = difference(fields, other)
    return fields


def renewed(obj: dict[str, Any], config: Object) -> dict[str, Any]:
    """`obj` with its annotation, if it has one, saying what was applied now."""
    annotations = obj["metadata"].get("annotations") or {}
    if not annotations.get(ANNOTATION):
        return obj
    value = _text(config)
    others = {key: item for key, item in annotations.items() if key != ANNOTATION}
    if sum(len(key.encode()) + len(item.encode()) for key, item in others.items()) + len(value) <= LIMIT:
        others[ANNOTATION] = value
    return {**obj, "metadata": {**obj["metadata"], "annotations": others}}


def _text(config: Object) -> str:
    """The applied object as kubectl would write it into the annotation."""
    applied = dict(config)
    metadata = applied.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("annotations"), dict):
        annotations = {key: value for key, value in metadata["annotations"].items() if key != ANNOTATION}
        applied["metadata"] = {**metadata, "annotations": annotations}
    return orjson.dumps(applied, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE).decode()
