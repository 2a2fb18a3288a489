"""The kernel's settings of connection tracking that a KubeProxyConfiguration asks for.

The table's size belongs to the whole machine; in other network namespaces the kernel refuses to change it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

LIMIT = 1 << 20
"""Most entries that are asked for by the number of CPUs."""
_TIMEOUTS = {
    "nf_conntrack_tcp_timeout_established": "conntrack.tcpEstablishedTimeout",
    "nf_conntrack_tcp_timeout_close_wait": "conntrack.tcpCloseWaitTimeout",
    "nf_conntrack_udp_timeout": "conntrack.udpTimeout",
    "nf_conntrack_udp_timeout_stream": "conntrack.udpStreamTimeout",
}
_MAX = "nf_conntrack_max"
SYSCTLS, HASH_SIZE = Path("/proc/sys/net/netfilter"), Path("/sys/module/nf_conntrack/parameters/hashsize")


def wanted(values: Mapping[str, Any], cpus: int) -> dict[str, int]:
    """Names below net.netfilter and their values; what is to stay as it is is left out. Pure."""
    found = {}
    if per_core := values["conntrack.maxPerCore"]:
        scaled = per_core * cpus
        found[_MAX] = LIMIT if scaled > LIMIT else max(scaled, values["conntrack.min"])
    found |= {name: int(values[path]) for name, path in _TIMEOUTS.items() if values[path] > 0}
    if values["conntrack.tcpBeLiberal"]:
        found["nf_conntrack_tcp_be_liberal"] = 1
    return found


def apply(settings: Mapping[str, int], sysctls: Path = SYSCTLS, hash_size: Path = HASH_SIZE) -> None:
    """Write those that differ. What cannot be written is logged: the proxy works without."""
    for name, value in settings.items():
        try:
            _write(sysctls / name, value)
            if name == _MAX and int(hash_size.read_text()) < value // 4:
                _write(hash_size, value // 4)
        except (OSError, ValueError) as error:
            log.warning("%s stays as it is, not %d: %s", name, value, error)


def _write(path: Path, value: int) -> None:
    if int(path.read_text()) != value:
        log.info("setting %s to %d", path, value)
        path.write_text(str(value))
