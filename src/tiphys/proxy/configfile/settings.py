"""From a KubeProxyConfiguration to what the proxy is told, and what of it cannot be had. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tiphys.api.validation.addresses import parse, parse_cidr
from tiphys.base.errors import Permanent
from tiphys.proxy.configfile.fields import Values, defaulted
from tiphys.proxy.configfile.validation import check
from tiphys.proxy.services.config import ProxyConfig

_SERVED = (
    *("bindAddress", "bindAddressHardFail", "clientConnection.kubeconfig", "clusterCIDR", "detectLocalMode"),
    *("healthzBindAddress", "hostnameOverride", "metricsBindAddress", "mode", "nodePortAddresses", "oomScoreAdj"),
    *("nftables.masqueradeAll", "nftables.masqueradeBit", "nftables.syncPeriod"),
)
"""And all of conntrack."""


def require(values: Values) -> None:
    """Raises Permanent for a configuration that is not valid, or that this proxy does not serve."""
    problems = [str(one) for one in check(values)]
    if problems:
        text = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
        raise Permanent(f"failed validate: {text}")
    if values["mode"] != "nftables":
        raise Permanent(f"proxy mode {values['mode']} is not supported: this proxy works by nftables only")
    if values["detectLocalMode"] not in ("ClusterCIDR", "NodeCIDR"):
        mode = values["detectLocalMode"]
        raise Permanent(f"detectLocalMode {mode} is not supported: ClusterCIDR and NodeCIDR are")


def without_effect(values: Values) -> list[str]:
    """Fields that ask for what is not the default and not served."""
    usual = defaulted({})
    return [
        path
        for path, value in values.items()
        if path not in _SERVED and not path.startswith("conntrack.") and value != usual[path]
    ]


def proxy_config(values: Values, node: str, node_ips: Sequence[str], families: Sequence[str]) -> ProxyConfig:
    """For a node of that name whose addresses are `node_ips`, the primary family's first.

    Without --cluster-cidr, as with NodeCIDR, the addresses of the node's own pods are those in its Node object."""
    by_cluster = values["detectLocalMode"] == "ClusterCIDR" and values["clusterCIDR"]
    return ProxyConfig(
        node=node,
        families=tuple(families),
        local_pods=tuple(values["clusterCIDR"].split(",")) if by_cluster else (),
        node_ips=tuple(node_ips),
        node_port_addresses=tuple(node_port_ranges(values, node_ips)),
        masquerade_own=True,
        masquerade_all=values["nftables.masqueradeAll"],
        masquerade_bit=values["nftables.masqueradeBit"],
    )


def node_port_ranges(values: Values, node_ips: Sequence[str]) -> list[str]:
    """On which addresses node ports answer; [] for all. By default on the node's primary ones."""
    given = values["nodePortAddresses"] or ["primary"]
    if given != ["primary"]:
        return list(given)
    parsed = [address for text in node_ips if (address := parse(text)) is not None and not address.is_loopback]
    return [f"{address}/{address.max_prefixlen}" for address in parsed]


def health_check_addresses(ranges: Sequence[str], node_ips: Sequence[str]) -> list[str]:
    """Those of the node's addresses that lie in the ranges; [] for all."""
    networks = [found[1] for text in ranges if (found := parse_cidr(text)) is not None]
    return [
        text for text in node_ips if (address := parse(text)) is not None and any(address in one for one in networks)
    ]


def node_ips(node: Mapping[str, Any] | None, bind_address: str) -> list[str]:
    """The node's address of each family, the primary one first: from its status, or as --bind-address says.

    127.0.0.1 if nothing is known."""
    found = list(_internal(node))
    bound = parse(bind_address.strip("[]"))
    if bound is not None and not bound.is_unspecified:
        others = [text for text in found if (one := parse(text)) is not None and one.version != bound.version]
        found = [str(bound), *others]
    return found or ["127.0.0.1"]


def _internal(node: Mapping[str, Any] | None) -> Iterator[str]:
    """One of each family: internal addresses before external ones."""
    addresses = ((node or {}).get("status") or {}).get("addresses") or ()
    seen = set()
    for kind in ("InternalIP", "ExternalIP"):
        for each in addresses:
            address = parse(each.get("address") or "") if each.get("type") == kind else None
            if address is not None and address.version not in seen:
                seen.add(address.version)
                yield str(address)
