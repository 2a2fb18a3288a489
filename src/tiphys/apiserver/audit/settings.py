"""What the flags about the audit log say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Batching:
    """How events are handed over: `mode` is batch, blocking or blocking-strict."""

    mode: str = "batch"
    buffer: int = 10000
    """Events that may wait; more are dropped."""
    size: int = 400
    """Events handed over at once."""
    wait: float = 30.0
    """Seconds after which those that wait are handed over, however few."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """--audit-log-*"""

    path: str
    """A file; "-" is standard output."""
    format: str = "json"
    """json or legacy."""
    version: str = "audit.k8s.io/v1"
    max_age: int = 0
    """Days that rotated files are kept; 0: for ever."""
    max_backups: int = 0
    """Rotated files that are kept; 0: all."""
    max_size: int = 100
    """Megabytes of a file before it is rotated."""
    compress: bool = False
    batching: Batching = Batching("blocking", 10000, 1, 0.0)
    truncate: bool = False
    max_event: int = 102400
    """Bytes of an event when `truncate` is set."""


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """--audit-webhook-*"""

    kubeconfig: Path
    batching: Batching = Batching()
    first_wait: float = 10.0
    """Seconds before a batch is sent again."""
    truncate: bool = False
    max_event: int = 102400
    max_batch: int = 10485760
    """Bytes of a batch when `truncate` is set."""


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """Without a policy nothing is logged, as upstream."""

    policy_file: Path | None = None
    log: LogSettings | None = None
    webhook: WebhookSettings | None = None
