"""Upstream's flags of the node API: each is a field of the configuration file, which it wins over."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Mapping
from typing import Any

Read = Callable[[str], Any]


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "t", "f", "1", "0"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() in ("true", "t", "1")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


FLAGS: Mapping[str, tuple[str, Read, str]] = {
    "--anonymous-auth": ("authentication.anonymous.enabled", _boolean, "let in who shows no credential (false)"),
    "--authentication-token-webhook": ("authentication.webhook.enabled", _boolean, "let in by bearer tokens (true)"),
    "--authentication-token-webhook-cache-ttl": (
        "authentication.webhook.cacheTTL",
        str,
        "for which what a token says is remembered (2m0s)",
    ),
    "--authorization-mode": ("authorization.mode", str, "Webhook: ask the API server; AlwaysAllow (Webhook)"),
    "--authorization-webhook-cache-authorized-ttl": (
        "authorization.webhook.cacheAuthorizedTTL",
        str,
        "for which an allowance is remembered (5m0s)",
    ),
    "--authorization-webhook-cache-unauthorized-ttl": (
        "authorization.webhook.cacheUnauthorizedTTL",
        str,
        "for which a denial is remembered (30s)",
    ),
    "--read-only-port": ("readOnlyPort", int, "serves health and figures without TLS; 0: none (0)"),
    "--healthz-port": ("healthzPort", int, "serves health without TLS; 0: none (10248)"),
    "--healthz-bind-address": ("healthzBindAddress", str, "where that is (127.0.0.1)"),
    "--enable-server": ("enableServer", _boolean, "serve the node API (true)"),
    "--enable-debugging-handlers": ("enableDebuggingHandlers", _boolean, "serve logs, exec and the like (true)"),
    "--enable-system-log-handler": ("enableSystemLogHandler", _boolean, "serve files of /var/log (true)"),
    "--enable-system-log-query": ("enableSystemLogQuery", _boolean, "serve logs of services by name (false)"),
    "--profiling": ("enableProfilingHandler", _boolean, "serve /debug/pprof (true)"),
    "--tls-cipher-suites": ("tlsCipherSuites", _names, "NAME,...: of TLS 1.2"),
    "--tls-min-version": ("tlsMinVersion", str, "VersionTLS12 or VersionTLS13 (VersionTLS12)"),
    "--streaming-connection-idle-timeout": (
        "streamingConnectionIdleTimeout",
        str,
        "after which a stream without traffic is closed (4h0m0s)",
    ),
    "--container-log-max-size": ("containerLogMaxSize", str, "at which a log is rotated (10Mi)"),
    "--container-log-max-files": ("containerLogMaxFiles", int, "of one container's log that are kept (5)"),
}


def add(parser: argparse.ArgumentParser) -> None:
    """Put them on a parser."""
    for flag, (path, read, help) in FLAGS.items():
        metavar = "BOOL" if read is _boolean else "VALUE"
        # A flag of a boolean alone means true, as in Go.
        alone: dict[str, Any] = {"nargs": "?", "const": True} if read is _boolean else {}
        parser.add_argument(flag, dest=_dest(path), type=read, metavar=metavar, help=help, **alone)


def merged(fields: Mapping[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """The fields of the file with what the command line says over them."""
    found: dict[str, Any] = copy.deepcopy(dict(fields))
    for path, _, _ in FLAGS.values():
        value = getattr(options, _dest(path), None)
        if value is None:
            continue
        *parents, last = path.split(".")
        where = found
        for parent in parents:
            where = where.setdefault(parent, {})
        where[last] = value
    return found


def _dest(path: str) -> str:
    return f"server {path}"
