"""The `jsonpatch` library, for the patches that mutating policies write."""

from __future__ import annotations

from tiphys.api.cel.costs import traversal
from tiphys.api.cel.libraries.sizes import walk
from tiphys.api.cel.types import STRING, Function, Library, Overload


def escape_key(key: str) -> str:
    """A key as it stands in a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


JSONPATCH = Library(
    "kubernetes.jsonpatch",
    (
        Function(
            "jsonpatch.escapeKey",
            (
                Overload(
                    "string_jsonpatch_escapeKey_string",
                    (STRING,),
                    STRING,
                    escape_key,
                    cost=walk(),
                    estimate=traversal(keeps_size=True),
                ),
            ),
        ),
    ),
)
