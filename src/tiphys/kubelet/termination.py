"""Termination messages: what a container leaves behind for its status (core/v1 Container.terminationMessagePath)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tiphys.kubelet import labels
from tiphys.runtime.types import ContainerStatus, State

_FILE_LIMIT = 4096
_LOG_LIMIT = 2048
_LOG_LINES = 80


def termination_message(status: ContainerStatus) -> str:
    """Of a container that has ended; "" when it left none."""
    if status.state is not State.EXITED:
        return ""
    known: Mapping[str, str] = status.spec.labels
    text = _tail(Path(known.get(labels.MESSAGE_FILE) or "/dev/null"), _FILE_LIMIT)
    fallback = known.get(labels.MESSAGE_POLICY) == "FallbackToLogsOnError"
    if not text and fallback and status.exit_code != 0 and not status.error and status.spec.log_path:
        text = _last_log(Path(status.spec.log_path))
    return text


def _tail(path: Path, limit: int) -> str:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - limit))
            return file.read(limit).decode(errors="replace")
    except OSError:
        return ""


def _last_log(path: Path) -> str:
    """The end of a log in the CRI format, without its time stamps."""
    lines = _tail(path, 64 * 1024).splitlines()[-_LOG_LINES:]
    texts = []
    for line in lines:
        parts = line.split(" ", 3)
        if len(parts) == 4:
            texts.append(parts[3] + ("\n" if parts[2] == "F" else ""))
    return "".join(texts)[-_LOG_LIMIT:]
