"""Variables from files that init containers left in a volume (fileKeyRef).

The format is a strict part of the shell's: NAME='value', values in single quotes and as long as need be, comments,
blank lines. Source: KEP-3721.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tiphys.kubelet.env import ConfigError
from tiphys.kubelet.podspec import Object
from tiphys.kubelet.volumes.manager import VolumeManager
from tiphys.kubelet.volumes.payload import VolumeError
from tiphys.runtime import syscalls

MAX_LINE = 64 * 1024
"""Bytes; no line may be as long."""
MAX_FILE = 4 << 20
"""Bytes that are read at most; what is behind them counts as cut off."""
_BLANK = " \t"


def file_value(volumes: VolumeManager, pod: Object, reference: Mapping[str, Any]) -> str | None:
    """The value of a fileKeyRef; None when it is optional and not there. Raises ConfigError."""
    try:
        root = volumes.path(pod, str(reference["volumeName"]))
    except VolumeError as error:
        raise ConfigError(f'cannot find the volume "{reference["volumeName"]}" referenced by FileKeyRef') from error
    try:
        value = parse_env_file(_read(root, str(reference["path"])), str(reference["key"]))
    except (OSError, ValueError) as error:
        raise ConfigError("couldn't parse env file") from error
    if value:
        return value
    if reference.get("optional"):
        return None
    raise ConfigError(f'environment variable key "{reference["key"]}" not found in file "{root / reference["path"]}"')


def _read(root: Path, path: str) -> str:
    """A file of a volume, which never leads out of it: containers can put symlinks there. Raises OSError."""
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        handle = syscalls.openat2(directory, path, os.O_RDONLY | os.O_NONBLOCK)
    finally:
        os.close(directory)
    with os.fdopen(handle, "rb") as file:
        return file.read(MAX_FILE).decode(errors="surrogateescape")


def parse_env_file(text: str, key: str) -> str:
    """The value of `key`; "" when it is empty or not there. Raises ValueError for what precedes it and is malformed.

    Pure."""
    lines = iter(enumerate(_lines(text), 1))
    for number, line in lines:
        line = line.lstrip(_BLANK)
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise ValueError(f"invalid environment variable format at line {number}: missing '='")
        if not name or name.rstrip(_BLANK) != name:
            raise ValueError(f"invalid environment variable format at line {number}: no name before '='")
        found = "" if value[:1] in (" ", "\t") else _quoted(value, number, lines)
        if name == key:
            return found
    return ""


def _lines(text: str) -> list[str]:
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if lines[-1] == "":
        lines.pop()
    if any(len(line.encode(errors="surrogateescape")) >= MAX_LINE for line in lines):
        raise ValueError("a line is too long")
    return lines


def _quoted(value: str, number: int, lines: Iterator[tuple[int, str]]) -> str:
    """What is between single quotes, which may be some lines further on."""
    if not value.startswith("'"):
        raise ValueError(f"invalid environment variable format at line {number}: not in single quotes")
    parts = []
    rest = value[1:]
    while "'" not in rest:
        parts.append(f"{rest}\n")
        following = next(lines, None)
        if following is None:
            raise ValueError(f"invalid environment variable format at line {number}: unclosed single quote")
        rest = following[1]
    last, _, after = rest.partition("'")
    if after.lstrip(_BLANK)[:1] not in ("", "#"):
        raise ValueError(f"invalid environment variable format at line {number}: content after the closing quote")
    return "".join(parts) + last
