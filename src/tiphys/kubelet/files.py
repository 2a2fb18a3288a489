"""The files that every container gets: /etc/hosts, /etc/resolv.conf, /etc/hostname. Contents are pure; see `write`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tiphys.base.errors import Permanent
from tiphys.kubelet.podspec import Object, is_host_network, name_of, namespace_of

_HOSTNAME_LIMIT = 63
_FQDN_LIMIT = 64
"""Characters that the kernel keeps of a host name."""

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
    """The pod's own name in its network, without a domain."""
    if is_host_network(pod) and node_name and not pod["spec"].get("hostnameOverride"):
        return node_name
    name = str(pod["spec"].get("hostnameOverride") or pod["spec"].get("hostname") or name_of(pod))
    return name if len(name) <= _HOSTNAME_LIMIT else name[:_HOSTNAME_LIMIT].rstrip("-.")


def kernel_hostname(pod: Object, node_name: str, cluster_domain: str) -> str:
    """What `hostname` prints in the pod: with its domain, if it asks for that. Raises Permanent if that is too long."""
    name, domain = hostname_of(pod, node_name), domain_of(pod, cluster_domain)
    if is_host_network(pod) or not domain or not pod["spec"].get("setHostnameAsFQDN"):
        return name
    full = f"{name}.{domain}"
    if len(full) > _FQDN_LIMIT:
        raise Permanent(
            f"failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long "
            f"({_FQDN_LIMIT} characters is the max, {len(full)} characters requested)"
        )
    return full


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


def write(path: Path, text: str) -> Path:
    """Write a file that containers mount: in place, since a bind mount holds on to its inode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
        path.chmod(0o644)
    return path
