"""Upstream's flags for fields of the KubeletConfiguration: a table, and what reads their values."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tiphys.base.durations import parse_duration
from tiphys.base.errors import Permanent


def pairs(separator: str) -> Callable[[str], dict[str, str]]:
    """Of "name<SEP>value,name<SEP>value"."""

    def read(text: str) -> dict[str, str]:
        found = {}
        for part in filter(None, (one.strip() for one in text.split(","))):
            name, mark, value = part.partition(separator)
            if not mark:
                raise argparse.ArgumentTypeError(f"malformed pair, expect string{separator}string")
            found[name.strip()] = value.strip()
        return found

    return read


def seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except Permanent as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "t", "f", "1", "0"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() in ("true", "t", "1")


FLAGS: Mapping[str, tuple[str, Callable[[str], Any], str]] = {
    "--eviction-hard": ("eviction_hard", pairs("<"), "SIGNAL<AMOUNT,...: below these pods go at once"),
    "--eviction-soft": ("eviction_soft", pairs("<"), "SIGNAL<AMOUNT,...: below these pods go after a while"),
    "--eviction-soft-grace-period": ("eviction_soft_grace", pairs("="), "SIGNAL=TIME,...: after which while"),
    "--eviction-minimum-reclaim": ("eviction_minimum_reclaim", pairs("="), "SIGNAL=AMOUNT,...: to free at least"),
    "--eviction-max-pod-grace-period": ("eviction_max_pod_grace", int, "seconds of pods that go after a while (0)"),
    "--eviction-pressure-transition-period": ("eviction_transition", seconds, "a pressure lasts at least (5m0s)"),
    "--kernel-memcg-notification": ("memcg_notification", boolean, "be told when memory is scarce (false)"),
    "--local-storage-capacity-isolation": ("storage_isolation", boolean, "limits of local storage hold (true)"),
    "--image-gc-high-threshold": ("image_gc_high", int, "percent of the disk above which unused images go (85)"),
    "--image-gc-low-threshold": ("image_gc_low", int, "percent of the disk down to which they go (80)"),
    "--image-credential-provider-config": ("credential_providers", Path, "of programs that know registries' passwords"),
    "--image-credential-provider-bin-dir": ("credential_provider_bin_dir", Path, "where those programs are"),
    "--minimum-image-ttl-duration": ("image_minimum_age", seconds, "before which no image goes (2m0s)"),
    "--container-runtime-endpoint": ("container_runtime_endpoint", str, "socket of a CRI runtime to drive (our own)"),
    "--image-service-endpoint": ("image_service_endpoint", str, "socket of its image service, if another"),
    "--provider-id": ("provider_id", str, "of the machine, in its cloud"),
    "--register-schedulable": ("register_schedulable", boolean, "register the node as schedulable (true)"),
    "--node-status-update-frequency": ("status_update_frequency", seconds, "between looks at the node (10s)"),
    "--node-status-max-images": ("max_images", int, "that the node's status lists; -1: all (50)"),
    "--rotate-certificates": ("rotate_certificates", boolean, "renew the client certificate in time (false)"),
    "--rotate-server-certificates": ("server_tls_bootstrap", boolean, "ask the cluster for the server's certificate"),
}
"""Flag -> (field of KubeletConfig, how its value is read, help)."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    for flag, (name, read, text) in FLAGS.items():
        if read is boolean:
            parser.add_argument(flag, dest=name, type=read, nargs="?", const=True, help=text)
        else:
            parser.add_argument(flag, dest=name, type=read, help=text)


def given(options: argparse.Namespace) -> dict[str, Any]:
    """Fields of KubeletConfig that were named on the command line. Raises Permanent for taints and labels that the
    kubelet may not set."""
    return {name: getattr(options, name) for name, _, _ in FLAGS.values() if getattr(options, name, None) is not None}


_KUBERNETES_LABELS = frozenset(
    (
        *("kubernetes.io/hostname", "kubernetes.io/os", "kubernetes.io/arch", "topology.kubernetes.io/zone"),
        *("topology.kubernetes.io/region", "node.kubernetes.io/instance-type", "beta.kubernetes.io/os"),
        *("beta.kubernetes.io/arch", "beta.kubernetes.io/instance-type", "failure-domain.beta.kubernetes.io/zone"),
        "failure-domain.beta.kubernetes.io/region",
    )
)
_OWN_SPACES = ("kubelet.kubernetes.io", "node.kubernetes.io")


def check_labels(labels: Mapping[str, str]) -> None:
    """Raises Permanent for labels in Kubernetes' own name space that a node may not give itself (KEP-279)."""
    unknown = sorted(name for name in labels if _is_kubernetes(name) and not _is_allowed(name))
    if unknown:
        raise Permanent(
            f"unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: [{' '.join(unknown)}]\n"
            "--node-labels in the 'kubernetes.io' namespace must begin with an allowed prefix "
            f"({', '.join(sorted(_OWN_SPACES))}) or be in the specifically allowed set "
            f"({', '.join(sorted(_KUBERNETES_LABELS))})"
        )


def _space(name: str) -> str:
    return name.partition("/")[0] if "/" in name else ""


def _is_kubernetes(name: str) -> bool:
    space = _space(name)
    return any(space == one or space.endswith(f".{one}") for one in ("kubernetes.io", "k8s.io"))


def _is_allowed(name: str) -> bool:
    space = _space(name)
    return name in _KUBERNETES_LABELS or any(space == one or space.endswith(f".{one}") for one in _OWN_SPACES)
