"""Serves the node API over TLS: its certificate, and whose client certificates it knows."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

from tiphys.base.clock import Clock
from tiphys.base.http.server import BACKLOG, serve_on
from tiphys.base.http.types import Handler
from tiphys.base.tls import Authority, KeyPair, server_context
from tiphys.kubelet.config import KubeletConfig


def tls_context(config: KubeletConfig, clock: Clock) -> ssl.SSLContext:
    """Raises OSError for files that cannot be read."""
    ca = config.client_ca.read_bytes() if config.client_ca is not None else None
    return server_context(_pair(config, clock), ca)


def _pair(config: KubeletConfig, clock: Clock) -> KeyPair:
    """The certificate that was configured, or one of its own making, as upstream without one."""
    if config.tls_cert is not None and config.tls_key is not None:
        return KeyPair.load(config.tls_cert, config.tls_key)
    directory = config.cert_dir or config.root_dir / "pki"
    certificate, key = directory / "kubelet.crt", directory / "kubelet.key"
    if certificate.exists() and key.exists():
        return KeyPair.load(certificate, key)
    authority = Authority.create(f"{config.node_name}-ca", clock=clock)
    names = (config.node_name, config.node_ip, "127.0.0.1", "localhost")
    pair = authority.issue(f"{config.node_name}@kubelet", names=names, server=True)
    pair.save(certificate, key)
    return pair


async def listen(
    config: KubeletConfig,
    handler: Handler,
    clock: Clock,
    listening: Callable[[int], None],
    listener: socket.socket | None = None,
) -> None:
    """Serve until cancelled; `listening(port)` is called once connections are taken. Raises OSError.

    `listener` is a listening socket to serve on, of the node's own network namespace; without one, the configured
    address."""
    context = tls_context(config, clock)
    listener = listener or socket.create_server((config.address, config.port), backlog=BACKLOG)
    async with serve_on(handler, listener, tls=context, clock=clock) as server:
        listening(server.port)
        await asyncio.Event().wait()
