"""The API server alone in a process: its flags (upstream's names), its files, its HTTPS socket.

With nothing but --data-dir it makes a certificate authority, its own certificate, a key for service account tokens
and an administrator's kubeconfig there, and keeps objects in SQLite beside them. `add_flags` and `run` are what the
command line calls.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import ssl
from collections.abc import AsyncIterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from tiphys.apiserver import storeflags
from tiphys.apiserver.app import ApiServer
from tiphys.apiserver.audit import flags as audit_flags
from tiphys.apiserver.authn import Authenticator, Certificates, TokenAuthenticator, TokenFile
from tiphys.apiserver.authn import flags as authn_flags
from tiphys.apiserver.authn.certificate import VerifiedPeers
from tiphys.apiserver.authn.request_header import FrontProxy
from tiphys.apiserver.authn.settings import AuthenticationSettings
from tiphys.apiserver.authz import flags as authz_flags
from tiphys.apiserver.config import ApiServerConfig
from tiphys.apiserver.credentials import Credentials, advertised, prepare, write_kubeconfig
from tiphys.apiserver.service_ranges import configured_networks
from tiphys.base.certificates import ClientVerifier
from tiphys.base.clock import Clock, SystemClock
from tiphys.base.errors import Permanent
from tiphys.base.http.server import serve
from tiphys.base.tls import client_context, server_context

log = logging.getLogger(__name__)

MAX_PORT = 65535


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Upstream's flags, as far as they have a meaning here."""
    add = parser.add_argument
    add("--data-dir", type=Path, required=True, help="directory for the store, certificates and keys")
    add("--secure-port", type=_port, default=6443, help="port for HTTPS; 0 picks a free one")
    add("--bind-address", type=_address, default="0.0.0.0", help="IP address to listen on")  # noqa: S104 - upstream's default
    add("--advertise-address", default="", help="IP address at which others reach this server")
    add("--token-auth-file", type=Path, help="CSV file of bearer tokens: token,user,uid[,groups]")
    add("--client-ca-file", type=Path, help="PEM file of the CA that signs client certificates")
    add("--tls-cert-file", type=Path, help="PEM file of the server's certificate")
    add("--tls-private-key-file", type=Path, help="PEM file of its key")
    storeflags.add_flags(add)
    authn_flags.add_flags(parser)
    authz_flags.add_flags(parser)
    audit_flags.add_flags(parser)
    add(
        "--anonymous-auth",
        type=_flag,
        default=True,
        metavar="BOOL",
        help="whether requests without credentials are system:anonymous",
    )
    _add_service_flags(parser)
    add(
        "--service-account-issuer",
        default="https://kubernetes.default.svc.cluster.local",
        help="issuer of service account tokens",
    )
    add("--service-account-signing-key-file", type=Path, help="PEM file of the key that signs service account tokens")
    add("--api-audiences", default="", help="audiences of tokens for this server; the issuer by default")
    add("--kubelet-client-certificate", type=Path, help="PEM file of the certificate shown to kubelets")
    add("--kubelet-client-key", type=Path, help="PEM file of its key")
    add(
        "--kubelet-certificate-authority",
        type=Path,
        help="PEM file of the CA that signs kubelets' certificates; without it any is taken",
    )
    add("--proxy-client-cert-file", type=Path, help="PEM file of the certificate shown to API servers behind this one")
    add("--proxy-client-key-file", type=Path, help="PEM file of its key")
    add("--enable-admission-plugins", default="", help="names of admission plugins to run besides the usual ones")
    add("--disable-admission-plugins", default="", help="names of admission plugins to leave out")
    add("--admission-control-config-file", type=Path, help="AdmissionConfiguration: configuration of admission plugins")
    add("--max-requests-inflight", type=int, default=400, help="reads under way at once; 0: no limit")
    add("--max-mutating-requests-inflight", type=int, default=200, help="writes under way at once; 0: no limit")
    add(
        "--enable-priority-and-fairness",
        type=_flag,
        default=True,
        metavar="BOOL",
        help="whether priority levels share both limits; else each is a plain limit",
    )
    add("--request-timeout", type=_seconds, default=60.0, help="seconds that a write may take")
    add(
        "--shutdown-delay-duration",
        type=_seconds,
        default=0.0,
        help="how long to go on serving at the end, while /readyz fails already",
    )
    add("--event-ttl", type=_seconds, default=3600.0, help="seconds that Events are kept")


def _add_service_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--service-cluster-ip-range",
        type=_networks,
        default="10.96.0.0/16",
        metavar="CIDR[,CIDR]",
        help="range of service cluster IPs, or one of each IP family",
    )
    add("--service-node-port-range", type=_ports, default="30000-32767", help="first and last node port")


def _seconds(text: str) -> float:
    """A number of seconds, or a duration as upstream writes it: 1m30s."""
    return float(text) if text.replace(".", "", 1).isdecimal() else authn_flags.seconds(text)


def _flag(text: str) -> bool:
    if text.lower() in ("true", "1", "t"):
        return True
    if text.lower() in ("false", "0", "f"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) <= MAX_PORT):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to {MAX_PORT}")
    return int(text)


def _ports(text: str) -> str:
    first, _, last = text.partition("-")
    if not (first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last) <= MAX_PORT):
        raise argparse.ArgumentTypeError(f"{text!r} is not a range such as 30000-32767")
    return text


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an IP address") from None


def _networks(text: str) -> str:
    try:
        return ",".join(map(str, configured_networks(text)))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range such as 10.96.0.0/16: {error}") from None


def _check_families(options: argparse.Namespace) -> None:
    """The Service `kubernetes` has one family: that of its endpoints. Raises Permanent."""
    own, primary = advertised(options), configured_networks(options.service_cluster_ip_range)[0]
    if ip_address(own).version != primary.version:
        raise Permanent(f'service IP family "{primary}" must match public address family "{own}"')


async def run(options: argparse.Namespace) -> None:
    """Serve until cancelled. Raises Permanent for options that cannot be honoured."""
    clock = SystemClock()
    async with serving(options, clock) as (server, _):
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            # Whoever spreads requests sees that no more should come; those that still do are answered.
            server.lifecycle.stopping = True
            await clock.sleep(options.shutdown_delay_duration)


@contextlib.asynccontextmanager
async def serving(options: argparse.Namespace, clock: Clock) -> AsyncIterator[tuple[ApiServer, int]]:
    """The server as `options` say, and its port."""
    check(options)
    data: Path = options.data_dir
    credentials = prepare(options, clock)
    config = configuration(options, credentials)
    authorities = credentials.client_ca + config.authentication.request_headers.authority
    tls = server_context(credentials.server, authorities, verify_later=True)
    grace = options.request_timeout
    async with (
        storeflags.opened(options) as store,
        ApiServer(config, store, clock) as server,
        serve(
            server.handler, options.bind_address, options.secure_port, tls=tls, clock=clock, grace=grace
        ) as listening,
    ):
        write_kubeconfig(data, listening.port, clock)
        log.info("serving on https://%s:%d", options.bind_address, listening.port)
        # What is there now stays; looking at it again and again would only cost time.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        yield server, listening.port


def check(options: argparse.Namespace) -> None:
    """Refuse aloud what is not there; make the data directory."""
    storeflags.store_url(options)
    options.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    if bool(options.tls_cert_file) is not bool(options.tls_private_key_file):
        raise Permanent("--tls-cert-file and --tls-private-key-file belong together")
    if bool(options.proxy_client_cert_file) is not bool(options.proxy_client_key_file):
        raise Permanent("--proxy-client-cert-file and --proxy-client-key-file belong together")
    _check_pem("--tls-cert-file", options.tls_cert_file, b"CERTIFICATE")
    _check_pem("--tls-private-key-file", options.tls_private_key_file, b"PRIVATE KEY")
    _check_pem("--client-ca-file", options.client_ca_file, b"CERTIFICATE")


def _check_pem(flag: str, file: Path | None, kind: bytes) -> None:
    if file is not None and kind + b"-----" not in file.read_bytes():
        raise Permanent(f"{flag} {file}: has no {kind.decode()} in PEM form")


def configuration(options: argparse.Namespace, credentials: Credentials) -> ApiServerConfig:
    """The configuration that the flags stand for."""
    authentication = authn_flags.settings(options)
    authenticators = _authenticators(authentication, credentials)
    tokens: list[TokenAuthenticator] = []
    if options.token_auth_file:
        tokens.append(TokenFile.load(options.token_auth_file))
    _check_families(options)
    first, _, last = options.service_node_port_range.partition("-")
    return ApiServerConfig(
        authenticators=tuple(authenticators),
        token_authenticators=tuple(tokens),
        anonymous=options.anonymous_auth,
        bootstrap_tokens=options.enable_bootstrap_token_auth,
        authentication=authentication,
        authorization=authz_flags.settings(options),
        always_allowed_paths=options.authorization_always_allow_paths,
        audit=audit_flags.settings(options),
        service_account_key=credentials.account_key,
        service_account_issuer=_list(options.service_account_issuer)[0],
        api_audiences=tuple(_list(options.api_audiences)),
        client_ca=credentials.client_ca,
        front_proxy=credentials.front_proxy,
        front_proxy_ca=credentials.front_proxy_ca,
        kubelet_tls=_kubelet_tls(credentials),
        service_cidr=options.service_cluster_ip_range,
        node_ports=(int(first), int(last)),
        advertise_address=advertised(options),
        secure_port=options.secure_port,
        max_reads=options.max_requests_inflight,
        max_writes=options.max_mutating_requests_inflight,
        fairness=options.enable_priority_and_fairness,
        request_timeout=options.request_timeout,
        enabled_admission=frozenset(_list(options.enable_admission_plugins)),
        disabled_admission=frozenset(_list(options.disable_admission_plugins)),
        admission=_admission(options.admission_control_config_file),
        event_seconds=options.event_ttl,
        compaction_interval_seconds=options.etcd_compaction_interval,
        history_seconds=options.history,
    )


def _authenticators(settings: AuthenticationSettings, credentials: Credentials) -> list[Authenticator]:
    """Those that look at the connection: front proxies, then client certificates."""
    clients = Certificates(VerifiedPeers(ClientVerifier(credentials.client_ca)))
    proxies = settings.request_headers
    if not proxies.authority:
        return [clients]
    return [FrontProxy(proxies, VerifiedPeers(ClientVerifier(proxies.authority))), clients]


def _kubelet_tls(credentials: Credentials) -> ssl.SSLContext:
    authority = credentials.kubelet_ca
    return client_context(authority, credentials.kubelet_client, verify=authority is not None)


def _admission(path: Path | None) -> Mapping[str, Any]:
    """Configuration of admission plugins, by name. Raises Permanent."""
    if path is None:
        return {}
    from tiphys.apiserver.admission.configfile import load

    return load(path)


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
