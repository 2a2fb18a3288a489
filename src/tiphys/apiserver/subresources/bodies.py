"""Bodies of subresources that have a kind of their own."""

from __future__ import annotations

from typing import Any

from tiphys.api.decode.request import Expected
from tiphys.apiserver import bodies
from tiphys.apiserver.parts import Parts
from tiphys.apiserver.resource import Call


def decode(
    parts: Parts, call: Call, group: str, version: str, kind: str, *, others: tuple[tuple[str, str], ...] = ()
) -> dict[str, Any]:
    """The request's body as an object of this kind, in this version or one of `others`. Raises BadRequest."""
    expected = Expected(group, version, kind, parts.codec.definitions.of(group, version, kind), others)
    decoded = bodies.decode(parts.codec, call.request, expected, call.validation)
    call.warn(*decoded.warnings)
    return decoded.obj


SUCCESS: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}


def created() -> dict[str, Any]:
    """The Status that answers a binding or an eviction."""
    return {**SUCCESS, "code": 201}
