"""Which sysctls a pod may set: the safe ones, and what the node's configuration allows besides. Pure.

A sysctl is safe when it belongs to a namespace of the pod's own and has no effect on other pods (Using sysctls in
a Kubernetes Cluster, in the documentation).
"""

from __future__ import annotations

from collections.abc import Iterable

from tiphys.kubelet.podspec import Object, is_host_network

SAFE = (
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
)


def normalize(name: str) -> str:
    """With dots between its parts: whichever of `.` and `/` comes first is the separator (sysctl.d(5))."""
    first = next((letter for letter in name if letter in "./"), ".")
    return name if first == "." else name.translate(str.maketrans("./", "/."))


def sysctls_of(pod: Object) -> dict[str, str]:
    """What the pod sets, by normalized name."""
    context = pod["spec"].get("securityContext") or {}
    return {normalize(str(one["name"])): str(one["value"]) for one in context.get("sysctls") or ()}


def forbidden(pod: Object, allowed: Iterable[str] = ()) -> str:
    """Why the pod may not set what it asks for; "" when it may. `allowed` are names or patterns that end in *."""
    patterns = tuple(normalize(pattern) for pattern in (*SAFE, *allowed))
    for name in sysctls_of(pod):
        if not any(_matches(name, pattern) for pattern in patterns):
            return f'forbidden sysctl: "{name}" not allowlisted'
        shared = _shared_namespace(pod, name)
        if shared:
            return f'forbidden sysctl: "{name}" not allowed with host {shared} enabled'
    return ""


def _matches(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def _shared_namespace(pod: Object, name: str) -> str:
    if name.startswith("net."):
        return "net" if is_host_network(pod) else ""
    return "ipc" if pod["spec"].get("hostIPC") else ""
