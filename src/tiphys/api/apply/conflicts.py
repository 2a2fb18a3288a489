"""Refusals of an apply that would change what others manage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tiphys.api.apply.fields import path_text
from tiphys.api.apply.managed import UPDATE, Key
from tiphys.api.kinds.base import quote
from tiphys.base.errors import Conflict

REASON = "FieldManagerConflict"


class Clash(NamedTuple):
    """One field that somebody else manages."""

    key: Key
    path: tuple[str, ...]


def refusal(clashes: Sequence[Clash]) -> Conflict:
    """409 with a cause for each field, worded as upstream."""
    causes = [
        {"reason": REASON, "message": f"conflict with {_name(clash)}", "field": path_text(clash.path)}
        for clash in clashes
    ]
    if len(clashes) == 1:
        message = f"Apply failed with 1 conflict: conflict with {_name(clashes[0])}: {causes[0]['field']}"
        return Conflict(message, details={"causes": causes})
    lines: list[str] = []
    for key in sorted({clash.key for clash in clashes}):
        own = [clash for clash in clashes if clash.key == key]
        lines += [f"conflicts with {_name(own[0])}:", *(f"- {path_text(clash.path)}" for clash in own)]
    text = f"Apply failed with {len(clashes)} conflicts: " + "\n".join(lines)
    return Conflict(text, details={"causes": causes})


def _name(clash: Clash) -> str:
    key = clash.key
    name = quote(key.manager)
    if key.subresource:
        name += f' with subresource "{key.subresource}"'
    return f"{name} using {key.api_version}" if key.operation == UPDATE else name
