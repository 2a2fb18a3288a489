"""kube-proxy's flags for fields of a KubeProxyConfiguration: a table."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from tiphys.base.durations import parse_duration
from tiphys.base.errors import Permanent
from tiphys.cluster.flag_values import boolean


def _time(text: str) -> float:
    try:
        return parse_duration(text)
    except Permanent as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _list(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


FLAGS: Mapping[str, tuple[str, Callable[[str], Any], str]] = {
    "--kubeconfig": ("clientConnection.kubeconfig", str, "how to reach the API server"),
    "--proxy-mode": ("mode", str, "nftables, which is the only one here (nftables)"),
    "--cluster-cidr": ("clusterCIDR", str, "ranges of pods: who else asks for a cluster IP is masqueraded"),
    "--detect-local-mode": ("detectLocalMode", str, "how pods are known: ClusterCIDR, or NodeCIDR (ClusterCIDR)"),
    "--nodeport-addresses": ("nodePortAddresses", _list, "where node ports answer: CIDRs, or primary (primary)"),
    "--bind-address": ("bindAddress", str, "the node's primary address, instead of what its object says (0.0.0.0)"),
    "--bind-address-hard-fail": ("bindAddressHardFail", boolean, "end if a port cannot be had (false)"),
    "--healthz-bind-address": ("healthzBindAddress", str, "/healthz and /livez (0.0.0.0:10256)"),
    "--metrics-bind-address": ("metricsBindAddress", str, "/metrics and /proxyMode (127.0.0.1:10249)"),
    "--masquerade-all": ("nftables.masqueradeAll", boolean, "masquerade all traffic to cluster IPs (false)"),
    "--oom-score-adj": ("oomScoreAdj", int, "of this process (-999)"),
    "--conntrack-max-per-core": ("conntrack.maxPerCore", int, "tracked connections for each CPU; 0: as it is (32768)"),
    "--conntrack-min": ("conntrack.min", int, "at least so many (131072)"),
    "--conntrack-tcp-timeout-established": ("conntrack.tcpEstablishedTimeout", _time, "of idle ones (24h0m0s)"),
    "--conntrack-tcp-timeout-close-wait": ("conntrack.tcpCloseWaitTimeout", _time, "of half closed ones (1h0m0s)"),
    "--conntrack-tcp-be-liberal": ("conntrack.tcpBeLiberal", boolean, "accept packets out of window (false)"),
    "--conntrack-udp-timeout": ("conntrack.udpTimeout", _time, "of unanswered UDP; 0: as it is (0s)"),
    "--conntrack-udp-timeout-stream": ("conntrack.udpStreamTimeout", _time, "of answered UDP; 0: as it is (0s)"),
    "--config-sync-period": ("configSyncPeriod", _time, "without effect: changes are told (15m0s)"),
}
"""Flag -> (field, how its value is read, help). A file given by --config replaces them all, as with kube-proxy."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", metavar="FILE", help="KubeProxyConfiguration (YAML or JSON), instead of all flags for its fields")
    add("--write-config-to", metavar="FILE", help="write the configuration that the flags mean, and end")
    add("--master", metavar="URL", default="", help="the API server, instead of the kubeconfig's")
    add("--hostname-override", metavar="NAME", default="", help="the node's name (this host's)")
    add("--cleanup", type=boolean, nargs="?", const=True, default=False, help="remove all rules, and end")
    add("--init-only", type=boolean, nargs="?", const=True, default=False, help="set what needs root, and end")
    for flag, (path, read, text) in FLAGS.items():
        optional: dict[str, Any] = {"nargs": "?", "const": True} if read is boolean else {}
        metavar = flag.rpartition("-")[2].upper()
        add(flag, dest=path, type=read, metavar=metavar, help=text.replace("%", "%%"), **optional)


def given(options: argparse.Namespace) -> dict[str, Any]:
    """The fields that were named on the command line."""
    named = {path: getattr(options, path) for path, _, _ in FLAGS.values()}
    return {path: value for path, value in named.items() if value is not None}
