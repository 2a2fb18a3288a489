"""resolv.conf of pods: dnsPolicy and dnsConfig (DNS for Services and Pods in the documentation), within the limits
of name resolvers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any

from tiphys.kubelet.podspec import Object, full_name, is_host_network, namespace_of

MAX_SERVERS = 3
MAX_SEARCHES = 32
MAX_SEARCH_CHARS = 2048
_MAX_DOMAIN = 253

Complaint = tuple[str, str]
"""(reason, message) of a warning event."""


@dataclass(frozen=True, slots=True)
class Dns:
    """The lines of a resolv.conf."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def text(self) -> str:
        lines = []
        if self.searches:
            lines.append(f"search {' '.join(self.searches)}")
        lines += [f"nameserver {server}" for server in self.servers]
        if self.options:
            lines.append(f"options {' '.join(self.options)}")
        return "\n".join(lines) + "\n" if lines else ""


LOCAL = Dns(("127.0.0.1",), (".",))
"""Of a node that is told of no resolv.conf."""


def parse_resolv_conf(text: str) -> Dns:
    """Of the node (resolv.conf(5)): the last search line, and the last of each option."""
    servers: list[str] = []
    searches: list[str] = []
    options: dict[str, str] = {}
    for line in text.splitlines():
        word, *rest = line.split() or [""]
        if word == "nameserver" and rest:
            servers.append(rest[0])
        elif word == "search":
            searches = [domain.removesuffix(".") for domain in rest if domain != "."]
        elif word == "options":
            options |= {option.partition(":")[0]: option for option in rest}
    return Dns(tuple(servers), tuple(searches), tuple(options.values()))


def reachable(host: Dns, behind: Dns, cluster_dns: Sequence[str]) -> Dns:
    """What pods can use of the node's: a server on the loopback is not on theirs.

    `behind` is what the local server itself asks (systemd-resolved), which kubeadm has kubelets use; without that the
    cluster's servers are as good, since they ask the local one."""
    if not host.servers or not all(map(_is_loopback, host.servers)):
        return host
    if behind.servers and not any(map(_is_loopback, behind.servers)):
        return behind
    return replace(host, servers=tuple(cluster_dns)) if cluster_dns else host


def _is_loopback(server: str) -> bool:
    try:
        return ip_address(server).is_loopback
    except ValueError:
        return False


def resolve(
    pod: Object, host: Dns, cluster_dns: Sequence[str], cluster_domain: str
) -> tuple[Dns, tuple[Complaint, ...]]:
    """What the pod gets, and what is to be said about it. Without a cluster DNS address ClusterFirst is Default."""
    complaints: tuple[Complaint, ...] = ()
    policy = pod["spec"].get("dnsPolicy") or "ClusterFirst"
    if policy == "ClusterFirst" and is_host_network(pod):
        policy = "Default"
    if policy == "None":
        base = Dns()
    elif policy != "Default" and cluster_dns:
        base = Dns(tuple(cluster_dns), _searches(pod, host, cluster_domain), ("ndots:5",))
    else:
        base = host
        complaints = (_missing(pod),) if policy != "Default" else ()
    found, exceeded = _within_limits(_with_config(base, pod["spec"].get("dnsConfig") or {}))
    return found, (*complaints, *exceeded)


def _missing(pod: Object) -> Complaint:
    text = 'kubelet does not have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" policy. '
    return "MissingClusterDNS", f'pod: "{full_name(pod)}". {text}Falling back to "Default" policy.'


def _searches(pod: Object, host: Dns, cluster_domain: str) -> tuple[str, ...]:
    if not cluster_domain:
        return host.searches
    spaces = (f"{namespace_of(pod)}.svc.{cluster_domain}", f"svc.{cluster_domain}", cluster_domain)
    return tuple(dict.fromkeys((*spaces, *host.searches)))


def _with_config(base: Dns, config: Mapping[str, Any]) -> Dns:
    if not config:
        return base
    servers = tuple(dict.fromkeys((*base.servers, *(config.get("nameservers") or ()))))
    searches = tuple(dict.fromkeys((*base.searches, *(config.get("searches") or ()))))
    options = {option.partition(":")[0]: option for option in base.options}
    for option in config.get("options") or ():
        value = option.get("value")
        options[option["name"]] = f"{option['name']}:{value}" if value not in (None, "") else option["name"]
    return Dns(servers, searches, tuple(options.values()))


def _within_limits(dns: Dns) -> tuple[Dns, tuple[Complaint, ...]]:
    complaints = []
    servers = dns.servers[:MAX_SERVERS]
    if servers != dns.servers:
        text = "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: "
        complaints.append(("DNSConfigForming", text + " ".join(servers)))
    searches = tuple(domain for domain in dns.searches[:MAX_SEARCHES] if len(domain) <= _MAX_DOMAIN)
    while len(" ".join(searches)) > MAX_SEARCH_CHARS:
        searches = searches[:-1]
    if searches != dns.searches:
        text = "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: "
        complaints.append(("DNSConfigForming", text + " ".join(searches)))
    return replace(dns, servers=servers, searches=searches), tuple(complaints)
