"""Values of query parameters as upstream reads them (apimachinery, conversion of url.Values)."""

from __future__ import annotations

from tiphys.base.http.types import Request


def flag(request: Request, name: str) -> bool | None:
    """A boolean parameter; None if it is absent.

    Only "0" and any spelling of "false" mean no: `watch`, `watch=` and the `watch=True` of Python clients mean yes.
    """
    if not request.query_string:
        return None
    values = request.query.get(name)
    return values[0] != "0" and values[0].lower() != "false" if values else None
