"""The cluster's name server as a component that runs alone: for machines that are no node, and for other clusters."""

from __future__ import annotations

import argparse
import contextlib
import socket
from ipaddress import ip_address, ip_network
from pathlib import Path

from tiphys.base import outside
from tiphys.base.clock import SystemClock
from tiphys.base.errors import Permanent
from tiphys.client.config import load
from tiphys.client.https import HttpsClient
from tiphys.client.informer import InformerFactory
from tiphys.dns import app
from tiphys.dns.upstreams import Server, parse_server


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--kubeconfig", metavar="FILE", help="default: $KUBECONFIG, ~/.kube/config, or the pod's service account")
    add("--domain", default=app.DOMAIN, help="of the cluster (%(default)s)")
    text = "where it listens; may be repeated (127.0.0.1)"
    add("--bind-address", metavar="IP", action="append", type=_address, help=text)
    add("--port", type=_port, default=53, help="UDP and TCP (%(default)s)")
    text = "answer these, too, though their addresses are public; may be repeated"
    add("--allow", metavar="NETWORK", action="append", type=_network, help=text)
    text = "asked for names outside the cluster; may be repeated (those of --resolv-conf, as it changes)"
    add("--upstream", metavar="IP[:PORT]", action="append", type=_server, help=text)
    add("--resolv-conf", metavar="FILE", type=Path, default=app.RESOLV_CONF, help="(%(default)s)")
    add("--metrics-bind-address", metavar="IP:PORT", type=_server, help="serves /metrics, /health and /ready")


async def run(options: argparse.Namespace) -> None:
    """Serve until cancelled. Raises Permanent, OSError."""
    clock = SystemClock()
    listeners = app.listen(_bound, options.bind_address or ["127.0.0.1"], options.port, 0)
    if options.metrics_bind_address is not None:
        address, port = options.metrics_bind_address
        listeners.metrics.append(_bound(address, port, socket.SOCK_STREAM))
        listeners.metrics[-1].listen()
    near = (*(options.bind_address or ()), *(options.allow or ()))
    config = app.DnsConfig(options.domain, tuple(options.upstream or ()), options.resolv_conf, near)
    client = HttpsClient(load(options.kubeconfig), clock=clock, agent="tiphys-dns")
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(client.close)
        informers = await stack.enter_async_context(InformerFactory(client, clock))
        await app.run(config, informers, listeners, clock)


def _bound(address: str, port: int, kind: socket.SocketKind) -> socket.socket:
    """Raises Permanent, which says what could not be had."""
    try:
        return outside.bound(address, port, kind)
    except OSError as error:
        protocol = "UDP" if kind == socket.SOCK_DGRAM else "TCP"
        raise Permanent(f"{protocol} port {port} of {address}: {error.strerror}") from error


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no IP address") from None


def _network(text: str) -> str:
    try:
        return str(ip_network(text, strict=False))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no network such as 192.0.2.0/24") from None


def _server(text: str) -> Server:
    try:
        return parse_server(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)
