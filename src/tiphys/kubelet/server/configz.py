"""/configz: the configuration in effect, by the names of KubeletConfiguration. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.durations import format_duration
from tiphys.kubelet.server.settings import ServerSettings

_FIELDS = {
    "address": "address",
    "port": "port",
    "tlsCertFile": "tls_cert",
    "tlsPrivateKeyFile": "tls_key",
    "registerNode": "register_node",
    "clusterDomain": "cluster_domain",
    "maxPods": "max_pods",
    "systemReserved": "system_reserved",
    "kubeReserved": "kube_reserved",
    "evictionHard": "eviction_hard",
    "evictionSoft": "eviction_soft",
    "evictionSoftGracePeriod": "eviction_soft_grace",
    "evictionMinimumReclaim": "eviction_minimum_reclaim",
    "evictionMaxPodGracePeriod": "eviction_max_pod_grace",
    "imageGCHighThresholdPercent": "image_gc_high",
    "imageGCLowThresholdPercent": "image_gc_low",
    "cgroupRoot": "cgroup_root",
    "nodeLeaseDurationSeconds": "lease_duration",
    "nodeStatusMaxImages": "max_images",
    "maxParallelImagePulls": "max_parallel_pulls",
    "serializeImagePulls": "serialize_image_pulls",
    "seccompDefault": "seccomp_default",
    "staticPodPath": "static_pod_path",
    "staticPodURL": "static_pod_url",
    "resolvConf": "resolv_conf",
    "podLogsDir": "log_dir",
    "providerID": "provider_id",
    "localStorageCapacityIsolation": "storage_isolation",
    "registerWithTaints": "register_with_taints",
    "clusterDNS": "cluster_dns",
    "allowedUnsafeSysctls": "allowed_unsafe_sysctls",
}
_DURATIONS = {
    "nodeStatusReportFrequency": "status_report_frequency",
    "nodeStatusUpdateFrequency": "status_update_frequency",
    "fileCheckFrequency": "file_check_frequency",
    "httpCheckFrequency": "http_check_frequency",
    "evictionPressureTransitionPeriod": "eviction_transition",
    "imageMinimumGCAge": "image_minimum_age",
    "imageMaximumGCAge": "image_maximum_age",
    "shutdownGracePeriod": "shutdown_grace",
    "shutdownGracePeriodCriticalPods": "shutdown_grace_critical",
}


def configz(config: KubeletConfig, settings: ServerSettings) -> dict[str, Any]:
    """The whole document."""
    shown: dict[str, Any] = {name: _plain(getattr(config, field)) for name, field in _FIELDS.items()}
    shown |= {name: format_duration(getattr(config, field)) for name, field in _DURATIONS.items()}
    shown["podPidsLimit"] = config.pod_pids_limit or -1
    return {"kubeletconfig": {**shown, **_server(config, settings), **config.extra}}


def _server(config: KubeletConfig, settings: ServerSettings) -> dict[str, Any]:
    return {
        "authentication": {
            "x509": {"clientCAFile": _plain(config.client_ca)},
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


def _plain(value: Any) -> Any:
    if isinstance(value, Path) or value is None:
        return str(value or "")
    return list(value) if isinstance(value, tuple) else value
