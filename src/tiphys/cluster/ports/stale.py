"""UDP connections of published ports whose backend is gone: the kernel would go on sending to it."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence

from tiphys.base.conntrack import Conntrack, Flow, end
from tiphys.cluster.ports.backends import Backends
from tiphys.cluster.ports.published import PublishedPort

Found = Sequence[tuple[PublishedPort, Backends]]


def stale(flows: Iterable[Flow], ports: Found) -> list[Flow]:
    """Those that came to a published port and are not answered by a backend of it; not those that came elsewhere.
    Pure."""
    by_port = {port.port.to_bytes(2, "big"): (port, found) for port, found in ports if port.protocol == "udp"}
    gone = []
    for flow in flows:
        known = by_port.get(flow.destination[-2:])
        if known is None or flow.answerer == flow.destination:
            continue
        port, found = known
        if not port.everywhere and flow.destination != end(port.address, port.port):
            continue
        if flow.answerer not in {end(*backend) for backend in found.backends}:
            gone.append(flow)
    return gone


def forget(ports: Found) -> int:
    """Delete them; returns how many there were. Raises OSError."""
    deleted = 0
    for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
        mine = [(port, found) for port, found in ports if port.protocol == "udp" and port.version == version]
        if mine:
            with Conntrack() as conntrack:
                deleted += conntrack.delete(stale(conntrack.flows(family), mine))
    return deleted
