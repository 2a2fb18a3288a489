"""A PATCH request's body applied to the current object, and the result decoded as upstream decodes it.

Server-side apply is not here: it needs managed fields (`api.apply`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from tiphys.api.decode import body as bodies
from tiphys.api.decode.objects import DecodeError, Pass, count_keys
from tiphys.api.decode.request import IGNORE, STRICT, WARN, Codec, Decoded, Expected, split_api_version
from tiphys.api.decode.strict import unknown_fields
from tiphys.api.errors import invalid as refuse
from tiphys.api.kinds.base import invalid
from tiphys.api.patch import json_patch, merge_patch, strategic
from tiphys.api.patch.gotext import go_text
from tiphys.base.errors import BadRequest, Invalid

JSON = "application/json-patch+json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"

Object = Mapping[str, Any]
_GO_NAMES = {list: "array", str: "string", bool: "bool"}


def parse(body: bytes, media: str, validation: str = WARN) -> tuple[Any, list[str]]:
    """The patch and what strict decoding has against its text. Raises BadRequest, TooLarge."""
    prefix = "" if media == STRATEGIC else "error decoding patch: "
    try:
        parsed = bodies.parse_json(body)
    except ValueError as error:
        raise BadRequest(f"{prefix}{error}") from error
    value = parsed.value
    if media == JSON:
        return value, [] if validation == IGNORE else json_patch.check(value)
    if value is None and media == STRATEGIC:
        value = {}
    if not isinstance(value, dict):
        found = _GO_NAMES.get(type(value), "number")
        raise BadRequest(f"{prefix}json: cannot unmarshal {found} into Go value of type map[string]interface {{}}")
    problems: list[str] = []
    if validation != IGNORE and bodies.key_count(body) != count_keys(value):
        problems = [f'duplicate field "{path}"' for path in bodies.duplicate_fields(body)]
    return value, problems


def apply(current: Object, patch: Any, media: str, expected: Expected, codec: Codec) -> dict[str, Any]:
    """`current` (in the endpoint's version) patched, not yet decoded. Raises ApiError."""
    if media == JSON:
        json_patch.check(patch)
        patched = json_patch.apply(current, patch)
    elif media == MERGE:
        patched = merge_patch.apply(current, patch)
    else:
        patched = strategic.apply(current, patch, expected.type, codec.definitions)
        # It is a struct of the kind that is patched, whatever the patch says.
        patched |= {name: current[name] for name in ("apiVersion", "kind") if name in current}
    if not isinstance(patched, dict):
        raise Invalid(json_patch.REFUSED, details={})
    return dict(patched)


def patch(
    current: Object, body: bytes, media: str, expected: Expected, codec: Codec, validation: str = WARN
) -> Decoded:
    """`current` patched and in canonical form. Raises ApiError; 422 when the result is not of the kind."""
    change, problems = parse(body, media, validation)
    patched = apply(current, change, media, expected, codec)
    shown = go_text(change) if media == STRATEGIC else orjson.dumps(patched).decode()
    return finish(patched, shown, problems, expected, codec, validation)


def finish(
    patched: dict[str, Any], shown: str, problems: list[str], expected: Expected, codec: Codec, validation: str
) -> Decoded:
    """Decode a patched object; `shown` stands for it in errors. Raises Invalid."""
    state = Pass()
    try:
        _check_kind(patched, expected)
        obj = codec.decoder.decode(patched, expected.type, state) if expected.type else patched
    except DecodeError as error:
        raise _refused(shown, str(error)) from error
    if validation == IGNORE:
        return Decoded(obj)
    if state.unknown and expected.type is not None:
        unknown = unknown_fields(patched, expected.type, codec.definitions)
        problems = [*problems, *(f'unknown field "{path}"' for path in unknown)]
    if problems and validation == STRICT:
        raise _refused(shown, f"strict decoding error: {', '.join(problems)}")
    return Decoded(obj, tuple(problems))


def _check_kind(patched: Object, expected: Expected) -> None:
    api_version, kind = patched.get("apiVersion"), patched.get("kind")
    if not isinstance(kind, str) or not kind:
        raise DecodeError("Object 'Kind' is missing in '" + orjson.dumps(patched).decode() + "'")
    known = (split_api_version(str(api_version)), kind) == ((expected.group, expected.version), expected.kind)
    if not known:
        raise DecodeError(f'no kind "{kind}" is registered for version "{api_version}"')


def _refused(shown: str, problem: str) -> Invalid:
    return refuse("", "", "", [invalid("patch", shown, problem)])
