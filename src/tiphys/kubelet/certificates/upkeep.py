"""Keeps the certificates of a running kubelet fresh, as its configuration asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from tiphys.base.clock import Clock
from tiphys.base.tls import KeyPair
from tiphys.client.types import Client
from tiphys.kubelet.certificates.manager import CertificateManager
from tiphys.kubelet.certificates.request import Wanted
from tiphys.kubelet.certificates.store import CertificateStore
from tiphys.kubelet.config import KubeletConfig


def directory_of(config: KubeletConfig) -> Path:
    """Where certificates are kept."""
    return config.cert_dir or config.root_dir / "pki"


def client_store(config: KubeletConfig, clock: Clock) -> CertificateStore:
    return CertificateStore(directory_of(config), "kubelet-client", clock)


def server_store(config: KubeletConfig, clock: Clock) -> CertificateStore:
    return CertificateStore(directory_of(config), "kubelet-server", clock)


async def keep_fresh(config: KubeletConfig, client: Client, clock: Clock, present: Callable[[KeyPair], None]) -> None:
    """Until cancelled. `present` makes the client speak by a new certificate; the node API sees its own by itself."""
    directory = directory_of(config)
    async with asyncio.TaskGroup() as group:
        if config.rotate_certificates:
            own = CertificateManager(client, clock, client_store(config, clock), Wanted(config.node_name), present)
            group.create_task(own.run(), name="client certificate")
        if config.server_tls_bootstrap and config.tls_cert is None:
            serving = CertificateManager(
                client,
                clock,
                server_store(config, clock),
                Wanted(config.node_name, tuple(dict.fromkeys((config.node_name, *config.node_ips)))),
                lambda pair: pair.save(directory / "kubelet.crt", directory / "kubelet.key"),
            )
            group.create_task(serving.run(), name="serving certificate")
