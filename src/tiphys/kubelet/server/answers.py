"""Responses of the node API: plain text as upstream's, or JSON."""

from __future__ import annotations

import json
from typing import Any

from tiphys.base.http.types import Response

TEXT = {"content-type": "text/plain; charset=utf-8"}
JSON = {"content-type": "application/json"}


def text(content: str | bytes, status: int = 200) -> Response:
    """A text of any kind."""
    return Response(status, dict(TEXT), content.encode() if isinstance(content, str) else content)


def as_json(value: Any) -> Response:
    """Mappings of any kind become objects."""
    return Response(200, dict(JSON), json.dumps(value, separators=(",", ":"), default=dict).encode())
