"""Values as Go's %v prints them: some messages of the API contain whole patches in that form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def go_text(value: Any) -> str:
    """map[a:1 b:[x y]]; nil shows as <nil>."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return f"map[{' '.join(f'{key}:{go_text(item)}' for key, item in sorted(value.items()))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(go_text, value))}]"
    return str(value)
