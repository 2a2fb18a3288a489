"""Request bodies, in whatever form they come: decoded already (local clients), JSON, YAML or protobuf."""

from __future__ import annotations

from typing import Any

from tiphys.api.decode.body import Parsed, media_type
from tiphys.api.decode.request import Codec, Decoded, Expected
from tiphys.base.errors import BadRequest, UnsupportedMediaType
from tiphys.base.http.types import Request

PROTOBUF = "application/vnd.kubernetes.protobuf"


def decode(codec: Codec, request: Request, expected: Expected, validation: str) -> Decoded:
    """The canonical object of a body. Raises BadRequest, UnsupportedMediaType."""
    if request.local and request.obj is not None:
        return codec.accept(Parsed(request.obj), expected, validation)
    content_type = request.headers.get("content-type", "")
    if media_type(content_type) == PROTOBUF:
        return codec.accept(Parsed(_protobuf(request, expected.api_version, expected.kind)), expected, validation)
    return codec.decode(request.body, content_type, expected, validation)


def parsed(request: Request) -> Any:
    """The plain value of a body that is checked by its reader (DeleteOptions). Raises ValueError, ApiError."""
    from tiphys.api.decode.body import parse

    content_type = request.headers.get("content-type", "")
    if media_type(content_type) == PROTOBUF:
        return _protobuf(request, "v1", "DeleteOptions")
    return parse(request.body, content_type).value


def _protobuf(request: Request, api_version: str, kind: str) -> dict[str, Any]:
    from tiphys.api.protobuf.codec import UnknownKind, builtin
    from tiphys.base.protowire import Malformed

    if not builtin().knows(api_version, kind):
        accepted = "application/json, application/yaml"
        raise UnsupportedMediaType(
            f"the body of the request was in an unknown format - accepted media types include: {accepted}"
        )
    try:
        return builtin().parse(request.body, api_version, kind)
    except (Malformed, UnknownKind) as error:
        raise BadRequest(_refusal(request.body, api_version, kind, error)) from error


def _refusal(body: bytes, api_version: str, kind: str, error: ValueError) -> str:
    """Why a body in protobuf cannot be read; what it says it is, or else its first bytes, help to find out."""
    from tiphys.api.protobuf.envelope import unpack
    from tiphys.base.protowire import Malformed

    try:
        found = unpack(body)
    except Malformed:
        summary = body[:30].hex() + (" ..." if len(body) > 30 else "") if body else "<empty>"
        return f"the object provided is unrecognized (must be of type {kind}): {error} ({summary})"
    version = (found.api_version or api_version).rpartition("/")[2]
    return f'{found.kind or kind} in version "{version}" cannot be handled as a {kind}: {error}'
