"""The name server of a node, put together: where pods and nodes find it, and what it asks for other names."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from tiphys.client.backoff import Backoff
from tiphys.cluster import kubelet_settings
from tiphys.cluster.config import ClusterConfig
from tiphys.dns import app
from tiphys.kubelet.config import KubeletConfig
from tiphys.runtime import netns

if TYPE_CHECKING:
    from tiphys.cluster.node_network import Parts

log = logging.getLogger(__name__)

_FREEBIND = 15
"""IP_FREEBIND: an IPv6 address may still be under examination (ip(7))."""


async def run(parts: Parts) -> None:
    """Serve until cancelled. While somebody else has the ports (a pod in the node's network) it is tried again.

    Whatever goes wrong here is no reason for the node's other work to end."""
    backoff = Backoff(base=1.0, limit=60.0)
    failures = 0
    while True:
        try:
            await _serve(parts)
        except OSError as error:
            log.warning("no name server on this node: port %d: %s", app.PORT, error.strerror)
        except Exception:
            log.exception("the name server of this node failed")
        await parts.clock.sleep(backoff.delay(failures))
        failures += 1


async def _serve(parts: Parts) -> None:
    place = parts.place
    listeners = netns.inside(place.namespace, lambda: app.listen(_bound, place.addresses))
    config = app.DnsConfig(place.domain, near=(*place.addresses, *place.pod_cidrs))
    await app.run(config, parts.informers, listeners, parts.clock)


def domain(config: ClusterConfig) -> str:
    """The cluster's, which the user's KubeletConfiguration may say."""
    told = kubelet_settings.applied(config, KubeletConfig(node_name="", root_dir=Path("/")))
    return told.cluster_domain or app.DOMAIN


def _bound(address: str, port: int, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, kind)
    try:
        made.setsockopt(socket.IPPROTO_IP, _FREEBIND, 1)
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
    except OSError:
        made.close()
        raise
    return made
