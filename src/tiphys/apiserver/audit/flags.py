"""Upstream's flags about the audit log, and the settings that they stand for."""

from __future__ import annotations

import argparse
from pathlib import Path

from tiphys.apiserver.audit.settings import AuditSettings, Batching, LogSettings, WebhookSettings
from tiphys.apiserver.authn.flags import boolean, seconds
from tiphys.base.errors import Permanent

MODES = ("batch", "blocking", "blocking-strict")


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--audit-policy-file", type=Path, help="Policy (audit.k8s.io/v1): what is logged of which request")
    add("--audit-log-path", default="", help="file of the audit log; '-' is standard output")
    add("--audit-log-format", choices=("json", "legacy"), default="json", help="of its lines")
    add("--audit-log-version", choices=("audit.k8s.io/v1",), default="audit.k8s.io/v1", help="of its events")
    add("--audit-log-maxage", type=int, default=0, help="days that rotated files are kept; 0: for ever")
    add("--audit-log-maxbackup", type=int, default=0, help="rotated files that are kept; 0: all")
    add("--audit-log-maxsize", type=int, default=0, help="megabytes before a file is rotated; 0: 100")
    add(
        "--audit-log-compress", type=boolean, nargs="?", const=True, default=False, metavar="BOOL", help="rotated files"
    )
    _add_delivery(parser, "log", Batching("blocking", 10000, 1, 0.0))
    add("--audit-webhook-config-file", type=Path, help="kubeconfig of a service that gets the events")
    add("--audit-webhook-version", choices=("audit.k8s.io/v1",), default="audit.k8s.io/v1", help="of its events")
    add("--audit-webhook-initial-backoff", type=seconds, default=10.0, help="before a batch is sent again")
    _add_delivery(parser, "webhook", Batching())


def _add_delivery(parser: argparse.ArgumentParser, name: str, default: Batching) -> None:
    add = parser.add_argument
    add(f"--audit-{name}-mode", choices=MODES, default=default.mode, help="how events are handed over")
    add(f"--audit-{name}-batch-buffer-size", type=int, default=default.buffer, help="events that may wait")
    add(f"--audit-{name}-batch-max-size", type=int, default=default.size, help="events handed over at once")
    add(f"--audit-{name}-batch-max-wait", type=seconds, default=default.wait, help="longest wait of an event")
    add(f"--audit-{name}-truncate-enabled", type=boolean, nargs="?", const=True, default=False, metavar="BOOL",
        help="whether large events lose their bodies")  # fmt: skip
    add(f"--audit-{name}-truncate-max-event-size", type=int, default=102400, help="bytes of an event")
    add(f"--audit-{name}-truncate-max-batch-size", type=int, default=10485760, help="bytes of a batch")


def settings(options: argparse.Namespace) -> AuditSettings | None:
    """What the flags mean; None without any of them. Raises Permanent."""
    log, webhook = _log(options), _webhook(options)
    if log is None and webhook is None and options.audit_policy_file is None:
        return None
    return AuditSettings(options.audit_policy_file, log, webhook)


def _batching(options: argparse.Namespace, name: str) -> Batching:
    def option(which: str) -> object:
        return getattr(options, f"audit_{name}_{which}")

    found = Batching(*(option(each) for each in ("mode", "batch_buffer_size", "batch_max_size", "batch_max_wait")))  # type: ignore[arg-type]  # argparse knows their types
    if found.buffer < 1 or found.size < 1 or found.size > found.buffer:
        raise Permanent(f"--audit-{name}-batch-max-size must be from 1 to --audit-{name}-batch-buffer-size")
    return found


def _log(options: argparse.Namespace) -> LogSettings | None:
    if not options.audit_log_path:
        return None
    return LogSettings(
        options.audit_log_path,
        options.audit_log_format,
        max_age=options.audit_log_maxage,
        max_backups=options.audit_log_maxbackup,
        max_size=options.audit_log_maxsize,
        compress=options.audit_log_compress,
        batching=_batching(options, "log"),
        truncate=options.audit_log_truncate_enabled,
        max_event=options.audit_log_truncate_max_event_size,
    )


def _webhook(options: argparse.Namespace) -> WebhookSettings | None:
    if options.audit_webhook_config_file is None:
        return None
    return WebhookSettings(
        options.audit_webhook_config_file,
        _batching(options, "webhook"),
        options.audit_webhook_initial_backoff,
        options.audit_webhook_truncate_enabled,
        options.audit_webhook_truncate_max_event_size,
        options.audit_webhook_truncate_max_batch_size,
    )
