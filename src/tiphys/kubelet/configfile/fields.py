"""Which fields of a KubeletConfiguration are served, and what `KubeletConfig` calls them.

A field that is not here has no effect, which is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tiphys.base.durations import parse_duration
from tiphys.base.errors import Permanent

Convert = Callable[[Any], Any]


class WrongType(Permanent):
    """A value that is not of its field's type."""


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise WrongType(f"cannot unmarshal {_kind(value)} into a string")
    return value


def integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise WrongType(f"cannot unmarshal {_kind(value)} into an integer")
    return value


def number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise WrongType(f"cannot unmarshal {_kind(value)} into a number")
    return float(value)


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise WrongType(f"cannot unmarshal {_kind(value)} into a boolean")
    return value


def duration(value: Any) -> float:
    return parse_duration(text(value))


def path(value: Any) -> Path | None:
    return Path(text(value)) if value else None


def texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise WrongType(f"cannot unmarshal {_kind(value)} into a list of strings")
    return tuple(text(one) for one in value)


def objects(value: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise WrongType(f"cannot unmarshal {_kind(value)} into a list of objects")
    return tuple(value)


def table(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise WrongType(f"cannot unmarshal {_kind(value)} into a map of strings")
    return {str(name): text(one) for name, one in value.items()}


def gates(value: Any) -> dict[str, bool]:
    if not isinstance(value, Mapping):
        raise WrongType(f"cannot unmarshal {_kind(value)} into a map of booleans")
    return {str(name): boolean(one) for name, one in value.items()}


def _headers(value: Any) -> dict[str, str]:
    return {str(name): ", ".join(texts(values)) for name, values in dict(value).items()}


def _by_priority(value: Any) -> tuple[tuple[int, int], ...]:
    return tuple(
        (integer(one.get("priority", 0)), integer(one.get("shutdownGracePeriodSeconds", 0))) for one in objects(value)
    )


def _pids(value: Any) -> int:
    return max(0, integer(value))


def _kind(value: Any) -> str:
    kinds: Sequence[tuple[type, str]] = ((bool, "bool"), (str, "string"), (list, "array"), (Mapping, "object"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "number")


FIELDS: Mapping[str, tuple[str, Convert]] = {
    "address": ("address", text),
    "allowedUnsafeSysctls": ("allowed_unsafe_sysctls", texts),
    "authentication.x509.clientCAFile": ("client_ca", path),
    "cgroupRoot": ("cgroup_root", text),
    "cgroupsPerQOS": ("cgroups_per_qos", boolean),
    "clusterDNS": ("cluster_dns", texts),
    "clusterDomain": ("cluster_domain", text),
    "configMapAndSecretChangeDetectionStrategy": ("change_detection", text),
    "cpuCFSQuota": ("cpu_cfs_quota", boolean),
    "cpuCFSQuotaPeriod": ("cpu_cfs_quota_period", duration),
    "cpuManagerPolicy": ("cpu_manager_policy", text),
    "cpuManagerPolicyOptions": ("cpu_manager_policy_options", table),
    "crashLoopBackOff.maxContainerRestartPeriod": ("max_restart_period", duration),
    "enforceNodeAllocatable": ("enforce_node_allocatable", texts),
    "evictionHard": ("eviction_hard", table),
    "evictionMaxPodGracePeriod": ("eviction_max_pod_grace", integer),
    "evictionMinimumReclaim": ("eviction_minimum_reclaim", table),
    "evictionPressureTransitionPeriod": ("eviction_transition", duration),
    "evictionSoft": ("eviction_soft", table),
    "evictionSoftGracePeriod": ("eviction_soft_grace", table),
    "featureGates": ("feature_gates", gates),
    "fileCheckFrequency": ("file_check_frequency", duration),
    "httpCheckFrequency": ("http_check_frequency", duration),
    "imageGCHighThresholdPercent": ("image_gc_high", integer),
    "imageGCLowThresholdPercent": ("image_gc_low", integer),
    "imageMaximumGCAge": ("image_maximum_age", duration),
    "imageMinimumGCAge": ("image_minimum_age", duration),
    "imagePullCredentialsVerificationPolicy": ("image_verification_policy", text),
    "kernelMemcgNotification": ("memcg_notification", boolean),
    "containerRuntimeEndpoint": ("container_runtime_endpoint", text),
    "imageServiceEndpoint": ("image_service_endpoint", text),
    "kubeReserved": ("kube_reserved", table),
    "kubeReservedCgroup": ("kube_reserved_cgroup", text),
    "localStorageCapacityIsolation": ("storage_isolation", boolean),
    "maxParallelImagePulls": ("max_parallel_pulls", integer),
    "maxPods": ("max_pods", integer),
    "memoryManagerPolicy": ("memory_manager_policy", text),
    "memoryReservationPolicy": ("memory_reservation_policy", text),
    "memorySwap.swapBehavior": ("memory_swap_behavior", text),
    "memoryThrottlingFactor": ("memory_throttling_factor", number),
    "nodeLeaseDurationSeconds": ("lease_duration", integer),
    "nodeStatusMaxImages": ("max_images", integer),
    "nodeStatusReportFrequency": ("status_report_frequency", duration),
    "nodeStatusUpdateFrequency": ("status_update_frequency", duration),
    "podLogsDir": ("log_dir", path),
    "podPidsLimit": ("pod_pids_limit", _pids),
    "port": ("port", integer),
    "preloadedImagesVerificationAllowlist": ("image_verification_allowlist", texts),
    "providerID": ("provider_id", text),
    "registerNode": ("register_node", boolean),
    "registerWithTaints": ("register_with_taints", objects),
    "registryBurst": ("registry_burst", integer),
    "registryPullQPS": ("registry_qps", number),
    "reservedMemory": ("reserved_memory", objects),
    "reservedSystemCPUs": ("reserved_system_cpus", text),
    "resolvConf": ("resolv_conf", path),
    "rotateCertificates": ("rotate_certificates", boolean),
    "runtimeHandlers": ("runtime_handlers", table),
    "seccompDefault": ("seccomp_default", boolean),
    "serializeImagePulls": ("serialize_image_pulls", boolean),
    "serverTLSBootstrap": ("server_tls_bootstrap", boolean),
    "shutdownGracePeriod": ("shutdown_grace", duration),
    "shutdownGracePeriodByPodPriority": ("shutdown_grace_by_priority", _by_priority),
    "shutdownGracePeriodCriticalPods": ("shutdown_grace_critical", duration),
    "singleProcessOOMKill": ("single_process_oom_kill", boolean),
    "staticPodPath": ("static_pod_path", path),
    "staticPodURL": ("static_pod_url", text),
    "staticPodURLHeader": ("static_pod_url_header", _headers),
    "syncFrequency": ("sync_frequency", duration),
    "systemReserved": ("system_reserved", table),
    "systemReservedCgroup": ("system_reserved_cgroup", text),
    "tlsCertFile": ("tls_cert", path),
    "tlsPrivateKeyFile": ("tls_key", path),
    "topologyManagerPolicy": ("topology_manager_policy", text),
    "topologyManagerPolicyOptions": ("topology_manager_policy_options", table),
    "topologyManagerScope": ("topology_manager_scope", text),
    "userNamespaces.idsPerPod": ("userns_ids_per_pod", integer),
}
"""Path in the document -> (field of KubeletConfig, how its value is read)."""

HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "authentication.anonymous.enabled": (False,),
    "authentication.webhook.enabled": (True,),
    "authorization.mode": ("Webhook",),
    "enableServer": (True,),
    "enableControllerAttachDetach": (True,),
    "failSwapOn": (True, False),
    "cgroupDriver": ("cgroupfs", "systemd", ""),
    "hairpinMode": ("promiscuous-bridge", "hairpin-veth", "none"),
    "readOnlyPort": (0,),
    "makeIPTablesUtilChains": (True, False),
    "protectKernelDefaults": (False,),
    "enableDebuggingHandlers": (True,),
}
"""Values of unserved fields that ask for what happens anyway."""

UNSET: Mapping[Convert, tuple[Any, ...]] = {duration: ("0s", "0"), text: ("",)}
"""Values that mean the default, as configurations written by kubeadm have them."""
