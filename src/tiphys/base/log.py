"""Logging set-up: one line an event, as text for people or JSON for machines. Called once by each process.

Modules log through `logging.getLogger(__name__)`; nothing is configured by importing. What looks like a credential is
masked on the way out, whoever logged it.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import IO, Literal

from tiphys.base.clock import rfc3339_micro

Format = Literal["text", "json"]

_SECRETS = re.compile(
    r"""(?ix)
    ( authorization["']?\s*[:=]\s*["']?(?:bearer|basic)?\s*
    | \bbearer\s+
    | (?:password|token|secret|client-key-data)["']?\s*[=:]\s*["']?
    ) ([^\s"',;&]{4,})
    """
)
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def masked(text: str) -> str:
    """`text` without bearer tokens, passwords and private keys."""
    return _SECRETS.sub(r"\1***", _PRIVATE_KEY.sub("*** private key ***", text))


class TextFormatter(logging.Formatter):
    """2026-01-31T09:08:07.123456Z INFO tiphys.kubelet.node: message key=value; line breaks escaped."""

    def format(self, record: logging.LogRecord) -> str:
        parts = [rfc3339_micro(record.created), record.levelname, f"{record.name}:", record.getMessage()]
        parts += [f"{name}={value}" for name, value in _extras(record).items()]
        line = masked(" ".join(parts)).replace("\n", "\\n")
        return f"{line}\n{masked(self.formatException(record.exc_info))}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ts, level, logger, msg, the `extra` fields, and error with its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "ts": rfc3339_micro(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": masked(record.getMessage()),
        }
        entry |= {name: masked(str(value)) for name, value in _extras(record).items()}
        if record.exc_info:
            entry["error"] = masked(self.formatException(record.exc_info))
        return json.dumps(entry, ensure_ascii=False)


def _extras(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def configure(level: str | int = "INFO", form: Format = "text", stream: IO[str] | None = None) -> None:
    """Log to `stream` (standard error) from `level` on. Replaces an earlier set-up. Raises ValueError."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    root.setLevel(level.upper() if isinstance(level, str) else level)
    root.handlers[:] = [handler]
    logging.getLogger("asyncio").setLevel(logging.WARNING)
