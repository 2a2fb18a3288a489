"""What went wrong, for people."""

from __future__ import annotations

import os

from tiphys.base.errors import ApiError


def reason(error: BaseException) -> str:
    """What went wrong, in one line."""
    if isinstance(error, ApiError):
        return error.message
    if not isinstance(error, OSError) or not error.filename:
        return str(error)
    hint = ": run tiphys as root (sudo)" if isinstance(error, PermissionError) and os.geteuid() else ""
    return f"{error.filename}: {error.strerror}{hint}"
