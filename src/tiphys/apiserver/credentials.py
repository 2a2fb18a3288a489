"""The files of a stand-alone API server: what the flags name is read, what they leave out is made in --data-dir.

pki/ca.*                        the cluster's certificate authority
pki/apiserver.*                 the server's certificate
pki/apiserver-kubelet-client.*  shown to kubelets
pki/front-proxy-*               shown to API servers behind this one, with an authority of its own
pki/sa.key                      signs service account tokens
admin.conf                      a kubeconfig for its administrator
"""

from __future__ import annotations

import argparse
import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from tiphys.apiserver.service_ranges import configured_networks
from tiphys.apiserver.tokens import new_key
from tiphys.base.clock import Clock
from tiphys.base.files import write_atomic
from tiphys.base.tls import Authority, KeyPair

SERVICE = "kubernetes.default.svc.cluster.local"
NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", SERVICE, "localhost", "127.0.0.1", "::1")
ADMIN, ADMINS = "kubernetes-admin", ("system:masters",)


@dataclass(frozen=True, slots=True)
class Credentials:
    """The server's certificates and keys; PEM."""

    server: KeyPair
    client_ca: bytes
    kubelet_ca: bytes | None
    """None: kubelets may show any certificate, as upstream has it without the flag (they make their own)."""
    kubelet_client: KeyPair
    front_proxy: KeyPair
    front_proxy_ca: bytes
    account_key: bytes


def prepare(options: argparse.Namespace, clock: Clock) -> Credentials:
    """Read the files that are named, make what is not. Raises OSError."""
    pki: Path = options.data_dir / "pki"
    authority = _authority(pki, clock)
    if options.tls_cert_file:
        server = KeyPair.load(options.tls_cert_file, options.tls_private_key_file)
    else:
        names = (
            *NAMES,
            advertised(options),
            *(str(network[1]) for network in configured_networks(options.service_cluster_ip_range)),
            socket.gethostname(),
        )
        server = _ensure(pki / "apiserver", lambda: authority.issue("kube-apiserver", names=names, server=True))
    client_ca = authority.certificate
    if options.client_ca_file:
        client_ca += options.client_ca_file.read_bytes()
    kubelet_ca = None
    if options.kubelet_certificate_authority:
        kubelet_ca = options.kubelet_certificate_authority.read_bytes()
    return Credentials(
        server,
        client_ca,
        kubelet_ca,
        _kubelet_client(options, pki, authority),
        *_front_proxy(options, pki, clock),
        _account_key(options, pki),
    )


def advertised(options: argparse.Namespace) -> str:
    """The address at which others reach the server: that of the flags, or of the route to the outside."""
    if options.advertise_address:
        return str(options.advertise_address)
    if not ip_address(options.bind_address).is_unspecified:
        return str(options.bind_address)
    six = configured_networks(options.service_cluster_ip_range)[0].version == 6
    outside, loopback = ("2001:db8::1", "::1") if six else ("192.0.2.1", "127.0.0.1")
    with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Connecting a datagram socket sends nothing: it only asks the routing table.
            probe.connect((outside, 9))
            return str(probe.getsockname()[0])
        except OSError:
            return loopback


def write_kubeconfig(data: Path, port: int, clock: Clock) -> Path:
    """A kubeconfig for the administrator, readable by the owner only."""
    import base64

    import orjson

    authority = _authority(data / "pki", clock)
    pair = _ensure(data / "pki" / "admin", lambda: authority.issue(ADMIN, organizations=ADMINS, client=True))
    encoded = [base64.b64encode(part).decode() for part in (authority.certificate, pair.certificate, pair.key)]
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": encoded[0]}
    user = {"client-certificate-data": encoded[1], "client-key-data": encoded[2]}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tiphys", "cluster": cluster}],
        "users": [{"name": ADMIN, "user": user}],
        "contexts": [{"name": "tiphys", "context": {"cluster": "tiphys", "user": ADMIN}}],
        "current-context": "tiphys",
    }
    path = data / "admin.conf"
    write_atomic(path, orjson.dumps(config, option=orjson.OPT_INDENT_2) + b"\n", 0o600)
    return path


def _authority(pki: Path, clock: Clock) -> Authority:
    return Authority.ensure(pki / "ca.crt", pki / "ca.key", "kubernetes", clock)


def _ensure(path: Path, make: Callable[[], KeyPair]) -> KeyPair:
    """The key pair in path.crt and path.key; made and saved the first time."""
    certificate, key = path.with_name(path.name + ".crt"), path.with_name(path.name + ".key")
    if certificate.exists() and key.exists():
        return KeyPair.load(certificate, key)
    pair = make()
    pair.save(certificate, key)
    return pair


def _kubelet_client(options: argparse.Namespace, pki: Path, authority: Authority) -> KeyPair:
    if options.kubelet_client_certificate:
        return KeyPair.load(options.kubelet_client_certificate, options.kubelet_client_key)
    name = "apiserver-kubelet-client"
    return _ensure(pki / name, lambda: authority.issue(f"kube-{name}", organizations=ADMINS, client=True))


def _front_proxy(options: argparse.Namespace, pki: Path, clock: Clock) -> tuple[KeyPair, bytes]:
    """What API servers behind this one know it by, and the CA that signed it."""
    published = options.requestheader_client_ca_file
    if options.proxy_client_cert_file:
        pair = KeyPair.load(options.proxy_client_cert_file, options.proxy_client_key_file)
        return pair, published.read_bytes() if published else b""
    authority = Authority.ensure(pki / "front-proxy-ca.crt", pki / "front-proxy-ca.key", "front-proxy-ca", clock)
    name = "front-proxy-client"
    return _ensure(pki / name, lambda: authority.issue(name, client=True)), authority.certificate


def _account_key(options: argparse.Namespace, pki: Path) -> bytes:
    pki.mkdir(parents=True, exist_ok=True)
    path: Path = options.service_account_signing_key_file or pki / "sa.key"
    if not path.exists():
        write_atomic(path, new_key(), 0o600)
    return path.read_bytes()
