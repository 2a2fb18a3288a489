"""How long the certificates that a kubelet keeps fresh are still good, for /metrics."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tiphys.base.clock import Clock
from tiphys.kubelet.certificates.request import validity
from tiphys.kubelet.certificates.store import CertificateStore, split
from tiphys.kubelet.certificates.upkeep import client_store, server_store
from tiphys.kubelet.config import KubeletConfig

_REST = "The value is in seconds until certificate expiry (negative if already expired). "


def lifetimes(config: KubeletConfig, clock: Clock) -> Iterator[tuple[str, str, float]]:
    """(metric, help, seconds) of each; +Inf while there is none."""
    if config.rotate_certificates:
        text = "Gauge of the TTL (time-to-live) of the Kubelet's client certificate. " + _REST
        text += "If client certificate is invalid or unused, the value will be +INF."
        yield "kubelet_certificate_manager_client_ttl_seconds", text, _left(client_store(config, clock), clock)
    if config.server_tls_bootstrap:
        text = "Gauge of the shortest TTL (time-to-live) of the Kubelet's serving certificate. " + _REST
        text += "If serving certificate is invalid or unused, the value will be +INF."
        yield "kubelet_certificate_manager_server_ttl_seconds", text, _left(server_store(config, clock), clock)


def _left(store: CertificateStore, clock: Clock) -> float:
    try:
        return float(math.trunc(validity(split(store.current_file.read_bytes()).certificate)[1] - clock.time()))
    except (OSError, ValueError):
        return math.inf
