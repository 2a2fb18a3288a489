"""Whether an image has a path: asked of its layers as overlayfs would show them, before anything is mounted."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from tiphys.runtime.images.unpack import OPAQUE_ATTRIBUTE

MAX_LINKS = 40


def has_path(layers: Sequence[Path], path: str) -> bool:
    """`layers` are topmost first; links are followed as if the image were the root."""
    waiting = path.split("/")[::-1]
    place: list[str] = []
    links = 0
    while waiting:
        part = waiting.pop()
        if part in ("", "."):
            continue
        if part == "..":
            place = place[:-1]
            continue
        found = _find(layers, [*place, part])
        if found is None:
            return False
        kind = stat.S_IFMT(found.lstat().st_mode)
        if kind == stat.S_IFLNK:
            links += 1
            goal = os.readlink(found)
            if links > MAX_LINKS:
                return False
            place = [] if goal.startswith("/") else place
            waiting += goal.split("/")[::-1]
        elif kind != stat.S_IFDIR and waiting:
            return False
        else:
            place.append(part)
    return True


def _find(layers: Sequence[Path], parts: Sequence[str]) -> Path | None:
    """The topmost file of that path whose parents are directories; None where it is hidden or not there."""
    for layer in layers:
        path = layer
        for number, part in enumerate(parts):
            path = path / part
            try:
                facts = path.lstat()
            except FileNotFoundError:
                break
            if stat.S_ISCHR(facts.st_mode) and facts.st_rdev == 0:
                return None
            last = number == len(parts) - 1
            if last:
                return path
            if not stat.S_ISDIR(facts.st_mode):
                return None
        if _hides(layer, parts):
            return None
    return None


def _hides(layer: Path, parts: Sequence[str]) -> bool:
    """Whether a directory on the way says that nothing below it comes from lower layers."""
    path = layer
    for part in parts[:-1]:
        path = path / part
        try:
            if os.getxattr(path, OPAQUE_ATTRIBUTE, follow_symlinks=False) == b"y":
                return True
        except OSError:
            continue
    return False
