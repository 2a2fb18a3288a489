"""The files that every container gets: /etc/hosts, /etc/resolv.conf, /etc/hostname. Contents are pure; see `write`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiphys.kubelet.podspec import Object, is_host_network, name_of, namespace_of

_HOSTNAME_LIMIT = 63
_MAX_NAMESERVERS = 3

HOSTS_HEAD = """# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""
HOSTS_HEAD_OF_HOST = "# Kubernetes-managed hosts file (host network).\n"


def hostname_of(pod: Object, node_name: str = "") -> str:
    """What `hostname` prints in the pod."""
    if is_host_network(pod) and node_name and not pod["spec"].get("hostnameOverride"):
        return node_name
    name = str(pod["spec"].get("hostnameOverride") or pod["spec"].get("hostname") or name_of(pod))
    return name if len(name) <= _HOSTNAME_LIMIT else name[:_HOSTNAME_LIMIT].rstrip("-.")


def domain_of(pod: Object, cluster_domain: str) -> str:
    """The domain of a pod with a subdomain, else ""."""
    subdomain = pod["spec"].get("subdomain")
    if not subdomain or pod["spec"].get("hostnameOverride"):
        return ""
    return f"{subdomain}.{namespace_of(pod)}.svc.{cluster_domain}"


def hosts_file(pod: Object, pod_ips: Sequence[str], cluster_domain: str, host_file: str) -> str:
    """/etc/hosts; `host_file` is the node's own, for pods in its network."""
    if is_host_network(pod):
        text = HOSTS_HEAD_OF_HOST + host_file
    else:
        name, domain = hostname_of(pod), domain_of(pod, cluster_domain)
        names = f"{name}.{domain}\t{name}" if domain else name
        text = HOSTS_HEAD + "".join(f"{address}\t{names}\n" for address in pod_ips)
    aliases = pod["spec"].get("hostAliases") or ()
    if aliases:
        text += "\n# Entries added by HostAliases.\n"
        text += "".join(f"{alias['ip']}\t{chr(9).join(alias.get('hostnames') or ())}\n" for alias in aliases)
    return text


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


def parse_resolv_conf(text: str) -> Dns:
    """Of the node (resolv.conf(5))."""
    servers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        word, *rest = line.split() or [""]
        if word == "nameserver" and rest:
            servers.append(rest[0])
        elif word in ("search", "domain") and rest:
            searches = rest
        elif word == "options":
            options = rest
    return Dns(tuple(servers), tuple(searches), tuple(options))


def resolve(pod: Object, host: Dns, cluster_dns: Sequence[str], cluster_domain: str) -> Dns:
    """What the pod's dnsPolicy and dnsConfig ask for. Without a cluster DNS address ClusterFirst is Default."""
    policy = pod["spec"].get("dnsPolicy") or "ClusterFirst"
    if policy == "ClusterFirst" and is_host_network(pod):
        policy = "Default"
    if policy == "None":
        base = Dns()
    elif policy.startswith("ClusterFirst") and cluster_dns:
        spaces = (f"{namespace_of(pod)}.svc.{cluster_domain}", f"svc.{cluster_domain}", cluster_domain)
        base = Dns(tuple(cluster_dns), spaces + host.searches, ("ndots:5",))
    else:
        base = host
    return _with_config(base, pod["spec"].get("dnsConfig") or {})


def _with_config(base: Dns, config: Mapping[str, Any]) -> Dns:
    servers = tuple(dict.fromkeys((*base.servers, *(config.get("nameservers") or ()))))
    searches = tuple(dict.fromkeys((*base.searches, *(config.get("searches") or ()))))
    options = {option.partition(":")[0]: option for option in base.options}
    for option in config.get("options") or ():
        value = option.get("value")
        options[option["name"]] = f"{option['name']}:{value}" if value not in (None, "") else option["name"]
    return Dns(servers[:_MAX_NAMESERVERS], searches, tuple(options.values()))


def write(path: Path, text: str) -> Path:
    """Write a file that containers mount: in place, since a bind mount holds on to its inode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
        path.chmod(0o644)
    return path
