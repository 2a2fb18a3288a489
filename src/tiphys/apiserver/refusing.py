"""Refusals of what a kind finds wrong, with the values as the client sent them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tiphys.api.decode.body import media_type, parse
from tiphys.api.kinds.base import FieldError
from tiphys.api.validation.errors import refusal
from tiphys.apiserver.bodies import PROTOBUF
from tiphys.apiserver.parts import Parts
from tiphys.apiserver.resource import Call
from tiphys.base.errors import Invalid

Object = Mapping[str, Any]
Check = Callable[[Object], list[FieldError]]


def refused(parts: Parts, call: Call, obj: Object, problems: Sequence[FieldError], check: Check) -> Invalid:
    """The 422 for `problems` of `obj`, which `check` found.

    It looks once more with the lists and maps that were sent empty, and shows those; unless that would find other
    things wrong, for then the answer would not be about what was judged."""
    shown = _as_sent(parts, call, obj)
    if shown is not None:
        again = check(shown)
        if [(one.type, one.field) for one in again] == [(one.type, one.field) for one in problems]:
            problems = again
    return refusal(call.resource.kind, obj["metadata"].get("name", ""), problems)


def _as_sent(parts: Parts, call: Call, obj: Object) -> Object | None:
    """`obj` with what its body has empty; None if the body is not one that tells."""
    request, resource = call.request, call.resource
    type = resource.expected.type
    content_type = request.headers.get("content-type", "")
    if request.method == "PATCH" or not request.body or resource.foreign or resource.custom or type is None:
        return None
    if media_type(content_type) == PROTOBUF:
        return None
    from tiphys.api.decode.emptied import with_empty

    return with_empty(obj, parse(request.body, content_type).value, type, parts.codec.definitions)
