"""Flags of the controller manager about addresses: ranges of nodes, load balancers, endpoints."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

_ALWAYS = (
    "endpoint-updates-batch-period",
    "endpointslice-updates-batch-period",
    "mirroring-endpointslice-updates-batch-period",
    "max-endpoints-per-slice",
    "mirroring-max-endpoints-per-subset",
    "load-balancer-addresses",
    "cluster-dns",
)
_OF_NODES = (
    "cluster-cidr",
    "node-cidr-mask-size",
    "node-cidr-mask-size-ipv4",
    "node-cidr-mask-size-ipv6",
    "service-cluster-ip-range",
)


def add_network_flags(
    parser: argparse.ArgumentParser, boolean: Callable[[str], bool], duration: Callable[[str], float]
) -> None:
    add = parser.add_argument
    add("--allocate-node-cidrs", type=boolean, nargs="?", const=True, default=True, metavar="BOOL", help="(true)")
    add("--cluster-cidr", default="10.244.0.0/16", help="ranges of which each node gets a part for its pods, by commas")
    add("--node-cidr-mask-size", type=int, default=0, help="size of that part (IPv4: 24, IPv6: 64)")
    add("--node-cidr-mask-size-ipv4", type=int, default=0, metavar="BITS", help="the same of IPv4 ranges")
    add("--node-cidr-mask-size-ipv6", type=int, default=0, metavar="BITS", help="the same of IPv6 ranges")
    add("--service-cluster-ip-range", default="", metavar="CIDR", help="left out of --cluster-cidr")
    text = "addresses of load balancers: CIDRs, or FIRST-LAST, by commas; without any, Services wait for somebody else"
    add("--load-balancer-addresses", default="", metavar="RANGES", help=text)
    text = "makes the Service kube-system/kube-dns there, of nodes with a name server; one of each IP family, by commas"
    add("--cluster-dns", default="", type=_addresses, metavar="IP,...", help=text)
    add("--max-endpoints-per-slice", type=_per_slice, default=100, metavar="COUNT", help="(100)")
    add("--mirroring-max-endpoints-per-subset", type=_per_slice, default=1000, metavar="COUNT", help="(1000)")
    for name in ("endpoint", "endpointslice", "mirroring-endpointslice"):
        flag = f"--{name}-updates-batch-period"
        add(flag, type=duration, default=0.0, metavar="TIME", help="how long changes of pods are gathered (0s)")


def _per_slice(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if not 1 <= number <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 1 and 1000")
    return number


def _addresses(text: str) -> str:
    try:
        versions = [ip_address(each).version for each in text.split(",") if each]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an IP address") from None
    if len(set(versions)) < len(versions):
        raise argparse.ArgumentTypeError(f"{text!r} has more than one address of a family")
    return text


def network_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The controllers' settings that these flags mean."""
    names = (*_ALWAYS, *(_OF_NODES if options.allocate_node_cidrs else ()))
    return {name: getattr(options, name.replace("-", "_")) for name in names}
