"""The files of one container's log: the one being written and those before it, which may be renamed meanwhile."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

_TRIES = 20


def rotated(path: Path) -> list[Path]:
    """Oldest first: path.2, path.1, path."""
    found = {}
    for other in path.parent.glob(f"{path.name}.*"):
        number = other.suffix[1:]
        if number.isdigit():
            found[int(number)] = other
    return [*(found[number] for number in sorted(found, reverse=True)), path]


def open_all(path: Path, stack: ExitStack) -> list[BinaryIO]:
    """All of them, oldest first, each once: looked at again until nothing was renamed in between."""
    for attempt in range(_TRIES):
        with ExitStack() as opened:
            files: list[BinaryIO] = []
            for one in rotated(path):
                try:
                    files.append(opened.enter_context(one.open("rb")))
                except FileNotFoundError:
                    continue
            if _identities(path) == [identity(file) for file in files] or attempt == _TRIES - 1:
                stack.push(opened.pop_all())
                return files
    return []


def _identities(path: Path) -> list[int]:
    found = []
    for one in rotated(path):
        try:
            found.append(one.stat().st_ino)
        except FileNotFoundError:
            continue
    return found


def identity(file: BinaryIO) -> int:
    """What stays the same when it is renamed."""
    return os.fstat(file.fileno()).st_ino


def following(path: Path, current: BinaryIO | None, stack: ExitStack) -> BinaryIO | None:
    """The file that was begun after `current`; the oldest there is when that one is gone. None if it is the newest."""
    try:
        newest = path.stat().st_ino
    except FileNotFoundError:
        return None
    if current is not None and identity(current) == newest:
        return None
    with ExitStack() as opened:
        files = open_all(path, opened)
        known = [identity(file) for file in files]
        place = known.index(identity(current)) + 1 if current is not None and identity(current) in known else 0
        if place >= len(files):
            return None
        chosen = files[place]
        return stack.enter_context(os.fdopen(os.dup(chosen.fileno()), "rb"))
