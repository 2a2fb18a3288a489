"""The part of the table that is the same whatever Services there are: hooks, maps, sets, and the rules between them.

    prerouting, output   who may use a load balancer (before translation)
    prerouting, output   address and port -> a Service's chain, which translates the destination
    input, forward, output   what was not translated: no endpoints, no such port, no such Service
    postrouting          sources that must be this node's, and pods that reach themselves by a Service

A chain that is named by a hash of all this tells a later process that the table was made by the same rules.
"""

from __future__ import annotations

import hashlib

from tiphys.proxy.services.config import ProxyConfig
from tiphys.proxy.services.facts import Family, ranges

SERVICE_IPS = "service-ips"
"""Cluster, external and load balancers' addresses that have endpoints: to their chains."""
NODE_PORTS = "node-ports"
NO_ENDPOINTS = "no-endpoints"
"""The same addresses without any endpoint to use: refused, or dropped by policy."""
NO_ENDPOINTS_NODE_PORTS = "no-endpoints-node-ports"
FIREWALL = "firewall"
"""Load balancers' addresses that not everybody may use."""
CLUSTER_IPS = "cluster-ips"
SERVICE_RANGES = "service-ranges"
HAIRPIN = "hairpin"
"""Local endpoints, each as source and destination."""
FRONTENDS = "frontends"
"""On the host: all addresses of Services."""
LOCAL_PODS = "local-pods"
NEAR = "near"

REFUSE = "goto refuse"
DROP = "drop"
MARKER = "layout-"


def contents(family: Family) -> dict[str, str]:
    """The maps and sets with what they hold."""
    address = family.address
    target = f"{address} . inet_proto . inet_service"
    return {
        SERVICE_IPS: f"map {{ type {target} : verdict; }}",
        NODE_PORTS: "map { type inet_proto . inet_service : verdict; }",
        NO_ENDPOINTS: f"map {{ type {target} : verdict; }}",
        NO_ENDPOINTS_NODE_PORTS: "map { type inet_proto . inet_service : verdict; }",
        FIREWALL: f"map {{ type {target} : verdict; }}",
        CLUSTER_IPS: f"set {{ type {address}; }}",
        SERVICE_RANGES: f"set {{ type {address}; flags interval; }}",
        HAIRPIN: f"set {{ type {address} . {target}; }}",
        FRONTENDS: f"set {{ type {address}; }}",
        LOCAL_PODS: f"set {{ type {address}; flags interval; }}",
        NEAR: f"set {{ type {address}; flags interval; }}",
    }


def mark(config: ProxyConfig) -> str:
    """The rule that has a packet leave with this node's address."""
    return f"meta mark set meta mark or {1 << config.masquerade_bit:#x}"


def _hooks(config: ProxyConfig, family: Family) -> dict[str, tuple[str, list[str]]]:
    """Chains at hooks: where, and what they do."""
    ip = family.nft
    target = f"{ip} daddr . meta l4proto . th dport"
    check = [f"ct state new {target} vmap @{NO_ENDPOINTS}"]
    absent = [f"ct state new {ip} daddr @{name} goto refuse" for name in (CLUSTER_IPS, SERVICE_RANGES)]
    node_ports = [f"ct state new {_is_node_port(config, family)} vmap @{NO_ENDPOINTS_NODE_PORTS}"]
    firewall = [f"ct state new {target} vmap @{FIREWALL}"]
    return {
        "firewall-prerouting": ("filter hook prerouting priority -110", firewall),
        "firewall-output": ("filter hook output priority -110", firewall),
        "nat-prerouting": ("nat hook prerouting priority -100", ["jump services"]),
        "nat-output": ("nat hook output priority -100", ["jump services", *_refused_datagrams(config, family)]),
        "filter-input": ("filter hook input priority 0", (node_ports if config.node else []) + check),
        "filter-forward": ("filter hook forward priority 0", [_invalid(config, family), *check, *absent]),
        "filter-output": ("filter hook output priority 0", check + absent),
        "nat-postrouting": ("nat hook postrouting priority 100", _sources(config, family)),
    }


def _sources(config: ProxyConfig, family: Family) -> list[str]:
    """Who leaves with this place's address. A node marks what comes to it from outside. The host, where there may be
    several clusters, does without marks: answers from its pods come back by it, if they do not go to other pods."""
    ip, bit = family.nft, f"{1 << config.masquerade_bit:#x}"
    if config.node:
        itself = f"{ip} saddr . {ip} daddr . meta l4proto . th dport @{HAIRPIN}"
        return [f"meta mark and {bit} != 0 jump masquerading", f"ct status dnat {itself} masquerade fully-random"]
    return [
        f"ct status dnat {ip} saddr @{NEAR} {ip} daddr @{NEAR} masquerade fully-random",
        f"ct status dnat ct original {ip} daddr @{FRONTENDS} {ip} daddr != @{NEAR} masquerade fully-random",
    ]


def _invalid(config: ProxyConfig, family: Family) -> str:
    """What connection tracking takes for no part of a connection is not translated: the other end would see it come
    from an endpoint, and reset the connection. The host forwards for others, too, and minds only its own pods."""
    whose = "" if config.node else f"{family.nft} saddr @{NEAR} "
    return f"ct state invalid {whose}drop"


def _refused_datagrams(config: ProxyConfig, family: Family) -> list[str]:
    """Datagrams of the host itself for nobody go where nobody listens (the port discard). Rejected before they have
    left, they would fail with EPERM instead of ECONNREFUSED, which people and programs understand."""
    if config.node:
        return []
    loopback = "127.0.0.1:9" if family.version == 4 else "[::1]:9"
    return [f"{family.nft} daddr @{SERVICE_RANGES} meta l4proto udp dnat to {loopback}"]


def _is_node_port(config: ProxyConfig, family: Family) -> str:
    chosen = ranges(config.node_port_addresses, family)
    only = f" {family.nft} daddr {{ {', '.join(chosen)} }}" if chosen else ""
    return f"fib daddr type local {family.nft} daddr != {family.loopback}{only} meta l4proto . th dport"


def _chains(config: ProxyConfig, family: Family) -> dict[str, list[str]]:
    ip, bit = family.nft, f"{1 << config.masquerade_bit:#x}"
    refuse = ["meta l4proto tcp reject with tcp reset", "reject"]
    services = [f"{ip} daddr . meta l4proto . th dport vmap @{SERVICE_IPS}"]
    if not config.node:
        return {"services": services, "refuse": refuse}
    others = "" if config.masquerade_own else " fib saddr type != local"
    foreign = "" if config.masquerade_all else f" {ip} saddr != @{LOCAL_PODS}{others}"
    services.insert(0, f"{ip} daddr @{CLUSTER_IPS}{foreign} {mark(config)}")
    services.append(f"{_is_node_port(config, family)} vmap @{NODE_PORTS}")
    masquerading = [f"meta mark set meta mark xor {bit}", "masquerade fully-random"]
    return {"services": services, "refuse": refuse, "masquerading": masquerading}


def commands(config: ProxyConfig, family: Family) -> list[str]:
    """Make the whole of it anew, whatever is there."""
    table = f"{family.nft} {config.table}"
    lines = [f"add table {table}", f"delete table {table}", f"add table {table}"]
    for name, content in contents(family).items():
        kind, _, held = content.partition(" ")
        lines.append(f"add {kind} {table} {name} {held}")
    chains = _chains(config, family)
    lines += [f"add chain {table} {name}" for name in chains]
    for name, rules in chains.items():
        lines += [f"add rule {table} {name} {rule}" for rule in rules]
    for name, (hook, rules) in _hooks(config, family).items():
        lines.append(f"add chain {table} {name} {{ type {hook}; }}")
        lines += [f"add rule {table} {name} {rule}" for rule in rules]
    lines.append(f"add chain {table} {marker(config, family)}")
    return lines


def marker(config: ProxyConfig, family: Family) -> str:
    """The name of the chain that says which layout a table has."""
    text = repr((contents(family), _hooks(config, family), _chains(config, family)))
    return MARKER + hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def own_chains(config: ProxyConfig, family: Family) -> frozenset[str]:
    """The chains that belong to the layout."""
    return frozenset((*_chains(config, family), *_hooks(config, family), marker(config, family)))
