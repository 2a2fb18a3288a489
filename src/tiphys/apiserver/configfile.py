"""Configuration files of the server: YAML or JSON of a known kind, read strictly, watched for changes.

A field that nobody knows is refused, as upstream does: a misspelt rule of security must not be a rule that is not
there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tiphys.base.errors import Permanent
from tiphys.base.inotify import DirectoryWatch

log = logging.getLogger(__name__)

MAX_FILE = 3 << 20
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)")

Shape = Mapping[str, Any]
"""Field -> None for a value, a Shape for an object, [Shape] for a list of objects."""


def read(path: Path, group: str, kind: str, versions: Sequence[str], shape: Shape) -> dict[str, Any]:
    """The document of a file. Raises Permanent."""
    try:
        return parse(path.read_bytes(), group, kind, versions, shape)
    except OSError as error:
        raise Permanent(f"cannot read {path}: {error.strerror}") from error
    except Permanent as error:
        raise Permanent(f"{path}: {error}") from error


def parse(data: bytes, group: str, kind: str, versions: Sequence[str], shape: Shape) -> dict[str, Any]:
    """The document in `data`. Raises Permanent."""
    import yaml

    if len(data) > MAX_FILE:
        raise Permanent(f"larger than {MAX_FILE} bytes")
    try:
        document = yaml.load(data, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        raise Permanent(f"not YAML: {error}") from error
    if not isinstance(document, dict):
        raise Permanent("not an object")
    found = (document.get("apiVersion"), document.get("kind"))
    if found not in {(f"{group}/{version}", kind) for version in versions}:
        expected = " or ".join(f"{group}/{version}" for version in versions)
        raise Permanent(f"is {found[1]} of {found[0]}, wanted is {kind} of {expected}")
    unknown = list(_unknown({k: v for k, v in document.items() if k not in ("apiVersion", "kind")}, shape, ""))
    if unknown:
        raise Permanent(f"strict decoding error: {', '.join(unknown)}")
    return document


def _unknown(value: Any, shape: Any, path: str) -> list[str]:
    if isinstance(shape, list):
        if value is None:
            return []
        if not isinstance(value, list):
            return [f"{path} is not a list"]
        return [text for index, each in enumerate(value) for text in _unknown(each, shape[0], f"{path}[{index}]")]
    if not isinstance(shape, Mapping) or value is None:
        return []
    if not isinstance(value, dict):
        return [f"{path} is not an object"]
    out = []
    for key, each in value.items():
        where = f"{path}.{key}" if path else str(key)
        out += _unknown(each, shape[key], where) if key in shape else [f'unknown field "{where}"']
    return out


def duration(text: str | int | float) -> float:
    """Seconds of a Go duration such as 1m30s. Raises ValueError."""
    text = str(text)
    if text == "0":
        return 0.0
    sign, rest = (-1.0, text[1:]) if text.startswith("-") else (1.0, text)
    parts = _PART.findall(rest)
    if not parts or "".join(number + unit for number, unit in parts) != rest:
        raise ValueError(f"time: invalid duration {text!r}")
    return sign * sum(float(number) * _UNITS[unit] for number, unit in parts)


@contextlib.asynccontextmanager
async def watched(path: Path, reload: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """While it lasts, `reload` is called when the file has another content. What it raises is logged, and the old
    configuration stays."""
    content = _content(path)
    changed = asyncio.Event()

    async def follow() -> None:
        nonlocal content
        while True:
            await changed.wait()
            changed.clear()
            now = _content(path)
            if now is None or now == content:
                continue
            content = now
            try:
                await reload()
            except Permanent as error:
                log.warning("%s is not taken over: %s", path, error)
            except Exception:
                log.exception("%s is not taken over", path)
            else:
                log.info("%s has been taken over", path)

    watch = DirectoryWatch(path.parent, changed.set)
    try:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(follow(), name=f"reload {path.name}")
            try:
                yield
            finally:
                task.cancel()
    finally:
        watch.close()


def _content(path: Path) -> bytes | None:
    """None between the removal of a file and the new one."""
    try:
        return path.read_bytes()
    except OSError:
        return None
