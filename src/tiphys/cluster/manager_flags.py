"""Flags of the controller manager that runs alone, by kube-controller-manager's names and defaults.

Those that set something here become settings of controllers; those that mean nothing here (rates of a client that has
no limit, profiling of another language) are taken if they ask for nothing, so that command lines written for upstream
work. What would change how a cluster behaves and is not supported is refused by name.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from tiphys.base.errors import Permanent
from tiphys.cluster.flag_values import boolean, duration, whole

Kind = Callable[[str], Any]

_SETTINGS: dict[str, tuple[Kind, Any, str]] = {
    "node-monitor-period": (duration, 5.0, "how often the health of nodes is looked at"),
    "node-monitor-grace-period": (duration, 50.0, "how long a node may be silent"),
    "node-startup-grace-period": (duration, 60.0, "the same while it starts"),
    "node-eviction-rate": (float, 0.1, "nodes a second whose pods are evicted"),
    "secondary-node-eviction-rate": (float, 0.01, "the same in a zone that is unhealthy"),
    "unhealthy-zone-threshold": (float, 0.55, "part of its nodes that are not ready, and at least three"),
    "large-cluster-size-threshold": (whole, 50, "nodes up to which the secondary rate is none"),
    "terminated-pod-gc-threshold": (whole, 12500, "pods that have ended which are kept; 0: all"),
    "horizontal-pod-autoscaler-sync-period": (duration, 15.0, "how often autoscalers look at metrics"),
    "horizontal-pod-autoscaler-downscale-stabilization": (duration, 300.0, "how long a higher size is remembered"),
    "horizontal-pod-autoscaler-tolerance": (float, 0.1, "part by which usage may differ"),
    "horizontal-pod-autoscaler-cpu-initialization-period": (duration, 300.0, "after a start when CPU may be skipped"),
    "horizontal-pod-autoscaler-initial-readiness-delay": (duration, 30.0, "after a start when readiness is initial"),
    "pvclaimbinder-sync-period": (duration, 15.0, "how often volumes and claims are looked at"),
    "enable-dynamic-provisioning": (boolean, True, "volumes are made for claims"),
    "enable-hostpath-provisioner": (boolean, False, "volumes of this machine's directories, for tests"),
    "pv-recycler-minimum-timeout-hostpath": (whole, 60, "seconds that emptying a host path may take at least"),
    "pv-recycler-timeout-increment-hostpath": (whole, 30, "the same for each gibibyte"),
    "pv-recycler-pod-template-filepath-hostpath": (str, "", "a file with the pod that empties host paths"),
    "pv-recycler-minimum-timeout-nfs": (whole, 300, "seconds that emptying an NFS volume may take at least"),
    "pv-recycler-increment-timeout-nfs": (whole, 30, "the same for each gibibyte"),
    "pv-recycler-pod-template-filepath-nfs": (str, "", "a file with the pod that empties NFS volumes"),
    "disable-force-detach-on-timeout": (boolean, False, "volumes stay attached to lost nodes without a taint"),
}

_WORKERS = {
    "concurrent-cron-job-syncs": ("cronjob-controller", 5),
    "concurrent-daemonset-syncs": ("daemonset-controller", 2),
    "concurrent-deployment-syncs": ("deployment-controller", 5),
    "concurrent-device-taint-eviction-syncs": ("device-taint-eviction-controller", 8),
    "concurrent-endpoint-syncs": ("endpoints-controller", 5),
    "concurrent-ephemeralvolume-syncs": ("ephemeral-volume-controller", 5),
    "concurrent-gc-syncs": ("garbage-collector-controller", 20),
    "concurrent-horizontal-pod-autoscaler-syncs": ("horizontal-pod-autoscaler-controller", 5),
    "concurrent-job-syncs": ("job-controller", 5),
    "concurrent-namespace-syncs": ("namespace-controller", 10),
    "concurrent-rc-syncs": ("replicationcontroller-controller", 5),
    "concurrent-replicaset-syncs": ("replicaset-controller", 5),
    "concurrent-resource-quota-syncs": ("resourcequota-controller", 5),
    "concurrent-resourceclaim-syncs": ("resourceclaim-controller", 50),
    "concurrent-service-endpoint-syncs": ("endpointslice-controller", 5),
    "concurrent-service-syncs": ("service-lb-controller", 1),
    "concurrent-serviceaccount-token-syncs": ("serviceaccount-token-controller", 5),
    "concurrent-statefulset-syncs": ("statefulset-controller", 5),
    "concurrent-ttl-after-finished-syncs": ("ttl-after-finished-controller", 5),
    "concurrent-validating-admission-policy-status-syncs": ("validatingadmissionpolicy-status-controller", 5),
    "mirroring-concurrent-service-endpoint-syncs": ("endpointslice-mirroring-controller", 5),
}
"""Flags for how many objects of a kind are worked on at a time, and whose they are."""

_NOTHING: dict[str, Kind] = {
    "attach-detach-reconcile-sync-period": duration,
    "cluster-name": str,
    "configure-cloud-routes": boolean,
    "contention-profiling": boolean,
    "controller-shutdown-timeout": duration,
    "controller-start-interval": duration,
    "disable-attach-detach-reconcile-sync": boolean,
    "kube-api-burst": whole,
    "kube-api-content-type": str,
    "kube-api-qps": float,
    "log-flush-frequency": duration,
    "min-resync-period": duration,
    "namespace-sync-period": duration,
    "profiling": boolean,
    "pv-recycler-maximum-retry": whole,
    "resource-quota-sync-period": duration,
    "route-reconciliation-period": duration,
}
"""Taken without effect: nothing here polls, has a limit or is profiled that way."""

_ONLY = {
    "cidr-allocator-type": "RangeAllocator",
    "cloud-provider": "",
    "enable-garbage-collector": "true",
    "enable-leader-migration": "false",
    "leader-elect-resource-lock": "leases",
}
"""Flags with one value that is supported."""

_GATES = {
    "AllAlpha": False,
    "ClusterTrustBundle": False,
    "ControllerManagerReleaseLeaderElectionLockOnExit": True,
    "CoordinatedLeaderElection": False,
    "DRADeviceTaintRules": False,
    "DRADeviceTaints": True,
    "DRAResourcePoolStatus": False,
    "GenericWorkload": False,
    "HPAScaleToZero": False,
    "MaxUnavailableStatefulSet": False,
    "PodCertificateRequest": False,
    "SELinuxMount": False,
    "StorageVersionAPI": False,
    "StorageVersionMigrator": False,
}
"""What features of upstream's controllers are here; none can be changed."""


def add_controller_flags(parser: argparse.ArgumentParser) -> None:
    """All that concern what controllers do."""
    for name, (kind, default, text) in _SETTINGS.items():
        _add(parser, name, kind, default, f"{text} ({_shown(default)})")
    for name, (who, default) in _WORKERS.items():
        _add(parser, name, whole, None, f"objects that {who} works on at a time ({default})")
    for name, kind in _NOTHING.items():
        _add(parser, name, kind, None, argparse.SUPPRESS)
    for name, only in _ONLY.items():
        _add(parser, name, boolean if only in ("true", "false") else str, None, f"only {only!r} is supported")
    parser.add_argument("--feature-gates", action="append", default=[], metavar="NAME=BOOL,...", help=argparse.SUPPRESS)


def add_election_flags(parser: argparse.ArgumentParser) -> None:
    """When the lease is taken over, and where it is."""
    for name, default, text in (
        ("lease-duration", 15.0, "how long candidates wait for a leader that is silent"),
        ("renew-deadline", 10.0, "how long a leader works without having renewed its lease"),
        ("retry-period", 2.0, "how often it is renewed, and candidates try"),
    ):
        _add(parser, f"leader-elect-{name}", duration, default, f"{text} ({_shown(default)})")
    _add(parser, "leader-elect-resource-namespace", str, "kube-system", "the lease's (kube-system)")


def _add(parser: argparse.ArgumentParser, name: str, kind: Kind, default: Any, text: str) -> None:
    flag: dict[str, Any] = {"type": kind, "default": default, "help": text}
    if kind is boolean:
        flag |= {"nargs": "?", "const": True, "metavar": "BOOL"}
    elif kind is not str:
        flag["metavar"] = "TIME" if kind is duration else "NUMBER"
    parser.add_argument(f"--{name}", **flag)


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return str(default)


def controller_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that these flags mean. Raises Permanent for what is not supported."""
    given = vars(options)
    for name, only in _ONLY.items():
        value = given[_attribute(name)]
        text = str(value).lower() if isinstance(value, bool) else value
        if text not in (None, only):
            raise Permanent(f"--{name}={text} is not supported, only --{name}={only}")
    _check_gates(",".join(options.feature_gates))
    settings = {name: given[_attribute(name)] for name in _SETTINGS}
    workers = {who: given[_attribute(name)] for name, (who, _) in _WORKERS.items() if given[_attribute(name)]}
    return {**settings, "workers": workers}


def _check_gates(text: str) -> None:
    for each in filter(None, (part.strip() for part in text.split(","))):
        name, sign, value = each.removeprefix("kube:").partition("=")
        if not sign or value.lower() not in ("true", "false"):
            raise Permanent(f"--feature-gates: {each!r} is not NAME=true or NAME=false")
        if name not in _GATES:
            raise Permanent(f"--feature-gates: {name} is no feature that can be named here: {', '.join(_GATES)}")
        if (value.lower() == "true") is not _GATES[name]:
            raise Permanent(f"--feature-gates: {name} is {str(_GATES[name]).lower()} and cannot be changed")


def _attribute(name: str) -> str:
    return name.replace("-", "_")
