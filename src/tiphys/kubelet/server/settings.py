"""What KubeletConfiguration tells the node API: who is let in, what is served, TLS, limits, logs of containers.

Read from `KubeletConfig.extra`, the fields of the configuration file that nothing else reads. Defaults are those of
kubelet.config.k8s.io/v1beta1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.api.quantity import parse
from tiphys.base.durations import parse_duration
from tiphys.base.errors import Permanent

NAMES = frozenset({
    "authentication", "authorization", "readOnlyPort", "enableServer", "enableDebuggingHandlers",
    "enableProfilingHandler", "enableDebugFlagsHandler", "enableSystemLogHandler", "enableSystemLogQuery",
    "enableContentionProfiling", "tlsCipherSuites", "tlsMinVersion", "streamingConnectionIdleTimeout",
    "containerLogMaxSize", "containerLogMaxFiles", "containerLogMaxWorkers", "containerLogMonitorInterval",
    "healthzPort", "healthzBindAddress",
})  # fmt: skip
"""Fields that have an effect here."""
CIPHERS = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
}
"""crypto/tls's names and OpenSSL's."""
TLS13_CIPHERS = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
"""TLS 1.3 has these always: naming them is allowed and changes nothing, as in Go."""
TLS_VERSIONS = {"": "TLSv1_2", "VersionTLS12": "TLSv1_2", "VersionTLS13": "TLSv1_3"}


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Times in seconds, sizes in bytes."""

    anonymous: bool = False
    tokens: bool = True
    """Whether bearer tokens are shown to the API server."""
    token_seconds: float = 120.0
    always_allow: bool = False
    """authorization.mode is AlwaysAllow."""
    allowed_seconds: float = 300.0
    denied_seconds: float = 30.0
    read_only_port: int = 0
    health_port: int = 0
    """Where health alone is served without TLS; upstream's 10248 only by `tiphys kubelet`: nodes share a machine."""
    health_address: str = "127.0.0.1"
    serve: bool = True
    debugging: bool = True
    """exec, attach, logs and the like."""
    profiling: bool = True
    debug_flags: bool = True
    system_logs: bool = True
    system_log_query: bool = False
    ciphers: tuple[str, ...] = ()
    tls_version: str = "TLSv1_2"
    idle_seconds: float = 4 * 3600.0
    """After which a stream on which nothing moves is closed."""
    log_max_bytes: int = 10 << 20
    log_max_files: int = 5


def of(fields: Mapping[str, Any]) -> ServerSettings:
    """Raises Permanent for values that make no sense, with the field's name."""
    authentication, authorization = fields.get("authentication") or {}, fields.get("authorization") or {}
    webhook, access = authentication.get("webhook") or {}, authorization.get("webhook") or {}
    mode = authorization.get("mode") or "Webhook"
    if mode not in ("Webhook", "AlwaysAllow"):
        raise Permanent(f'authorization.mode: unknown authorization mode "{mode}"')
    version = str(fields.get("tlsMinVersion") or "")
    if version not in TLS_VERSIONS:
        raise Permanent(f'tlsMinVersion: unknown tls version "{version}", or one that is not supported')
    return ServerSettings(
        anonymous=bool((authentication.get("anonymous") or {}).get("enabled", False)),
        tokens=bool(webhook.get("enabled", True)),
        token_seconds=parse_duration(webhook.get("cacheTTL") or "2m"),
        always_allow=mode == "AlwaysAllow",
        allowed_seconds=parse_duration(access.get("cacheAuthorizedTTL") or "5m"),
        denied_seconds=parse_duration(access.get("cacheUnauthorizedTTL") or "30s"),
        read_only_port=int(fields.get("readOnlyPort") or 0),
        health_port=int(fields.get("healthzPort") or 0),
        health_address=str(fields.get("healthzBindAddress") or "127.0.0.1"),
        serve=bool(fields.get("enableServer", True)),
        debugging=bool(fields.get("enableDebuggingHandlers", True)),
        profiling=bool(fields.get("enableProfilingHandler", True)),
        debug_flags=bool(fields.get("enableDebugFlagsHandler", True)),
        system_logs=bool(fields.get("enableSystemLogHandler", True)),
        system_log_query=bool(fields.get("enableSystemLogQuery", False)),
        ciphers=_ciphers(fields.get("tlsCipherSuites") or ()),
        tls_version=TLS_VERSIONS[version],
        idle_seconds=parse_duration(fields.get("streamingConnectionIdleTimeout") or "4h"),
        log_max_bytes=_log_size(fields),
        log_max_files=_log_files(fields),
    )


def _ciphers(names: Any) -> tuple[str, ...]:
    unknown = [name for name in names if name not in CIPHERS and name not in TLS13_CIPHERS]
    if unknown:
        raise Permanent(f"tlsCipherSuites: Cipher suite {unknown[0]} not supported or doesn't exist")
    return tuple(dict.fromkeys(CIPHERS[name] for name in names if name in CIPHERS))


def _log_size(fields: Mapping[str, Any]) -> int:
    text = str(fields.get("containerLogMaxSize") or "10Mi")
    try:
        return parse(text).value
    except ValueError as error:
        raise Permanent(f'containerLogMaxSize: failed to parse container log max size "{text}"') from error


def _log_files(fields: Mapping[str, Any]) -> int:
    found = int(fields.get("containerLogMaxFiles") or 5)
    if found <= 1:
        raise Permanent(f"containerLogMaxFiles: invalid MaxFiles {found}, must be greater than 1")
    return found
