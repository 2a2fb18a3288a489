"""Request bodies, in whatever form they come: decoded already (local clients), JSON, YAML or protobuf."""

from __future__ import annotations

from typing import Any

from tiphys.api.decode.body import Parsed, media_type
from tiphys.api.decode.request import Codec, Decoded, Expected
from tiphys.base.http.types import Request

PROTOBUF = "application/vnd.kubernetes.protobuf"


def decode(codec: Codec, request: Request, expected: Expected, validation: str) -> Decoded:
    """The canonical object of a body. Raises BadRequest, UnsupportedMediaType."""
    if request.local and request.obj is not None:
        return codec.accept(Parsed(request.obj), expected, validation)
    content_type = request.headers.get("content-type", "")
    if media_type(content_type) == PROTOBUF:
        return codec.accept(Parsed(_protobuf(codec, request)), expected, validation)
    return codec.decode(request.body, content_type, expected, validation)


def parsed(codec: Codec, request: Request) -> Any:
    """The plain value of a body that is checked by its reader (DeleteOptions). Raises ValueError, ApiError."""
    from tiphys.api.decode.body import parse

    content_type = request.headers.get("content-type", "")
    if media_type(content_type) == PROTOBUF:
        return _protobuf(codec, request)
    return parse(request.body, content_type).value


def _protobuf(codec: Codec, request: Request) -> dict[str, Any]:
    from tiphys.apiserver.protobuf import decode as read

    return read(request.body, codec.definitions)
