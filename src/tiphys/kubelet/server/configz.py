"""/configz: the configuration in effect, by the names of KubeletConfiguration. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiphys.base.durations import format_duration
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.configfile.fields import FIELDS, Convert, duration, path
from tiphys.kubelet.server.settings import ServerSettings


def configz(config: KubeletConfig, settings: ServerSettings) -> dict[str, Any]:
    """The whole document."""
    shown: dict[str, Any] = {}
    for dotted, (name, convert) in FIELDS.items():
        *parents, last = dotted.split(".")
        where = shown
        for parent in parents:
            where = where.setdefault(parent, {})
        where[last] = _plain(getattr(config, name), convert)
    shown["podPidsLimit"] = config.pod_pids_limit or -1
    shown["shutdownGracePeriodByPodPriority"] = [
        {"priority": priority, "shutdownGracePeriodSeconds": seconds}
        for priority, seconds in config.shutdown_grace_by_priority
    ]
    return {"kubeletconfig": {**shown, **_server(config, settings), **config.extra}}


def _server(config: KubeletConfig, settings: ServerSettings) -> dict[str, Any]:
    return {
        "authentication": {
            "x509": {"clientCAFile": str(config.client_ca or "")},
            "webhook": {"enabled": settings.tokens, "cacheTTL": format_duration(settings.token_seconds)},
            "anonymous": {"enabled": settings.anonymous},
        },
        "authorization": {
            "mode": "AlwaysAllow" if settings.always_allow else "Webhook",
            "webhook": {
                "cacheAuthorizedTTL": format_duration(settings.allowed_seconds),
                "cacheUnauthorizedTTL": format_duration(settings.denied_seconds),
            },
        },
        "readOnlyPort": settings.read_only_port,
        "enableServer": settings.serve,
        "enableDebuggingHandlers": settings.debugging,
        "enableProfilingHandler": settings.profiling,
        "enableDebugFlagsHandler": settings.debug_flags,
        "enableSystemLogHandler": settings.system_logs,
        "enableSystemLogQuery": settings.system_log_query,
        "streamingConnectionIdleTimeout": format_duration(settings.idle_seconds),
        "containerLogMaxSize": f"{settings.log_max_bytes >> 20}Mi",
        "containerLogMaxFiles": settings.log_max_files,
    }


def _plain(value: Any, convert: Convert) -> Any:
    if convert is duration:
        return format_duration(value)
    if isinstance(value, Path) or (value is None and convert is path):
        return str(value or "")
    return list(value) if isinstance(value, tuple) else value
