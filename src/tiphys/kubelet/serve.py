"""The kubelet as a component that runs alone: upstream's flags and configuration file.

`add_flags` puts the flags on a parser; `run` carries them out with a runtime from whoever may make one (the
composition root: this package does not choose the runtime's parts).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from tiphys.base.clock import Clock, SystemClock
from tiphys.base.durations import parse_duration
from tiphys.base.errors import Permanent
from tiphys.client.config import ClientConfig, load
from tiphys.client.https import HttpsClient
from tiphys.kubelet.addresses import node_addresses
from tiphys.kubelet.app import Kubelet
from tiphys.kubelet.certificates.bootstrap import ensure_access
from tiphys.kubelet.certificates.upkeep import client_store, keep_fresh
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.configfile import flags
from tiphys.kubelet.configfile.reader import read_config
from tiphys.kubelet.eviction.manager import thresholds_of
from tiphys.kubelet.eviction.meter import Disks
from tiphys.kubelet.isolation import Guard
from tiphys.kubelet.server import flags as server_flags
from tiphys.kubelet.server import settings
from tiphys.kubelet.standalone import NoApi
from tiphys.runtime.types import Runtime

log = logging.getLogger(__name__)

_OUTSIDE = {"0.0.0.0": "192.0.2.1", "::": "2001:db8::1"}  # noqa: S104 - compared, never bound
"""For each family an address (of documentation) that the default route leads to."""
RuntimeFactory = Callable[[KubeletConfig, Clock], Awaitable[Runtime]]
Beside = Callable[[KubeletConfig, ClientConfig, HttpsClient, asyncio.TaskGroup], Awaitable[Guard | None]]
"""Starts what serves the node beside its kubelet, by the kubelet's access; returns who enforces network policies."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Upstream's names; defaults are upstream's, or what the configuration file says."""
    flag = parser.add_argument
    flag("--kubeconfig", metavar="FILE", help="how to reach the API server, and as whom")
    flag("--bootstrap-kubeconfig", metavar="FILE", help="by whose rights to ask for a certificate and a kubeconfig")
    flag("--config", metavar="FILE", help="KubeletConfiguration (YAML or JSON)")
    flag("--config-dir", metavar="DIR", help="drop-ins of it: *.conf, merged in the order of their names")
    flag("--node-name", "--hostname-override", dest="node_name", default="", help="default: the host's name")
    flag("--root-dir", metavar="DIR", default="/var/lib/kubelet", help="pods' volumes and files (%(default)s)")
    flag("--node-ip", metavar="IP[,IP]", default="", help="the node's address, or one a family; default: by route")
    flag("--address", metavar="IP", help="where the node API listens (0.0.0.0)")
    flag("--port", type=int, help="of the node API (10250)")
    flag("--cert-dir", metavar="DIR", help="where a self-made certificate is kept (ROOT_DIR/pki)")
    flag("--tls-cert-file", metavar="FILE", help="certificate of the node API")
    flag("--tls-private-key-file", metavar="FILE", help="its key")
    flag("--client-ca-file", metavar="FILE", help="who may use the node API by certificate")
    flag("--register-node", type=_boolean, nargs="?", const=True, help="make the Node object (true)")
    flag("--node-labels", default="", metavar="KEY=VALUE,...", help="of the node when it registers")
    flag("--register-with-taints", default="", metavar="KEY=VALUE:EFFECT,...", help="of the node when it registers")
    flag("--max-pods", type=int, help="that the node takes (110)")
    flag("--pod-max-pids", type=int, help="processes in one pod; -1: no limit")
    flag("--cluster-dns", metavar="IP,...", help="name servers of pods")
    flag("--cluster-domain", metavar="DOMAIN", help="search domain of pods (cluster.local)")
    flag("--resolv-conf", metavar="FILE", help="the node's own name servers (/etc/resolv.conf)")
    flag("--cgroup-root", metavar="PATH", help="parent of kubepods")
    flag("--seccomp-default", type=_boolean, nargs="?", const=True, help="confine who asks for no profile (true)")
    flag("--runtime-handler", metavar="NAME=COMMAND", action="append", help="an OCI runtime; may be repeated")
    flag("--allowed-unsafe-sysctls", metavar="NAME,...", help="sysctls that pods may set besides the safe ones")
    flag("--pod-manifest-path", metavar="PATH", help="manifests of static pods: a directory or a file")
    flag("--manifest-url", metavar="URL", help="a manifest of static pods")
    flag("--manifest-url-header", metavar="NAME:VALUE,...", help="headers for it")
    flag("--file-check-frequency", metavar="TIME", help="at the latest manifests are looked at after this time (20s)")
    flag("--http-check-frequency", metavar="TIME", help="between looks at the URL (20s)")
    flag("--pod-log-dir", metavar="DIR", help="container logs (/var/log/pods)")
    flags.add_flags(parser)
    server_flags.add(parser)


async def run(
    options: argparse.Namespace,
    make_runtime: RuntimeFactory,
    clock: Clock | None = None,
    begin: Beside | None = None,
) -> None:
    """Until cancelled; `begin` starts what else the node runs. Raises Permanent for flags that make no sense, OSError
    for files that cannot be read."""
    clock = clock or SystemClock()
    if not options.kubeconfig:
        await _stand_alone(make_config(options, _ANYWHERE), make_runtime, clock)
        return
    access = await _access(options, clock)
    config = make_config(options, access.server)
    client = HttpsClient(access, clock=clock, agent="kubelet/tiphys")
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(client.close)
        runtime = await make_runtime(config, clock)
        stack.push_async_callback(runtime.close)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        group.create_task(keep_fresh(config, client, clock, client.present), name="certificates")
        guard = await begin(config, access, client, group) if begin else None
        await Kubelet(config, client, runtime, clock, guard=guard).run()


_ANYWHERE = "http://192.0.2.1"
"""An address of no host (RFC 5737): the way to it is the way out."""


async def _stand_alone(config: KubeletConfig, make_runtime: RuntimeFactory, clock: Clock) -> None:
    """Without an API server: static pods only."""
    if config.static_pod_path is None and not config.static_pod_url:
        raise Permanent("without --kubeconfig only static pods can run: give --pod-manifest-path or --manifest-url")
    runtime = await make_runtime(config, clock)
    try:
        await Kubelet(config, NoApi(), runtime, clock).run()
    finally:
        await runtime.close()


async def _access(options: argparse.Namespace, clock: Clock) -> ClientConfig:
    """By the kubeconfig; where it is of no use yet, by TLS bootstrap."""
    if not options.bootstrap_kubeconfig:
        return load(options.kubeconfig)
    bootstrap = Path(options.bootstrap_kubeconfig)
    config = make_config(options)
    return await ensure_access(
        Path(options.kubeconfig), bootstrap, client_store(config, clock), config.node_name, clock
    )


def make_config(options: argparse.Namespace, server: str = "") -> KubeletConfig:
    """Flags over the file over defaults; `server` is the API server's URL. Raises Permanent."""
    config = KubeletConfig(
        node_name=(options.node_name or socket.gethostname()).lower(),
        root_dir=Path(options.root_dir),
        kernel_log=Path("/dev/kmsg"),
    )
    if options.config or options.config_dir:
        config = replace(config, **read_config(_path(options.config), _path(options.config_dir)))
    same = ("address", "port", "register_node", "max_pods", "cluster_domain", "cgroup_root", "seccomp_default")
    given: dict[str, Any] = {name: getattr(options, name) for name in same}
    given |= {
        "cert_dir": _path(options.cert_dir),
        "tls_cert": _path(options.tls_cert_file),
        "tls_key": _path(options.tls_private_key_file),
        "client_ca": _path(options.client_ca_file),
        "resolv_conf": _path(options.resolv_conf),
        "log_dir": _path(options.pod_log_dir),
        "static_pod_path": _path(options.pod_manifest_path),
        "static_pod_url": options.manifest_url,
        "static_pod_url_header": _headers(options.manifest_url_header),
        "file_check_frequency": parse_duration(options.file_check_frequency) if options.file_check_frequency else None,
        "http_check_frequency": parse_duration(options.http_check_frequency) if options.http_check_frequency else None,
        "pod_pids_limit": max(0, options.pod_max_pids) if options.pod_max_pids is not None else None,
        "cluster_dns": tuple(options.cluster_dns.split(",")) if options.cluster_dns else None,
        "runtime_handlers": dict(one.partition("=")[::2] for one in options.runtime_handler or ()) or None,
        "allowed_unsafe_sysctls": tuple(filter(None, (options.allowed_unsafe_sysctls or "").split(","))) or None,
        "node_labels": _labels(options.node_labels) or None,
        "register_with_taints": _taints(options.register_with_taints) or None,
        "node_ips": own_addresses(options.node_ip, server),
    }
    flags.check_labels(given["node_labels"] or {})
    config = replace(config, **{name: value for name, value in given.items() if value is not None})
    config = replace(config, **flags.given(options))
    extra = {"healthzPort": 10248, **server_flags.merged(config.extra, options)}
    config = replace(config, extra=extra, serve_api=settings.of(extra).serve)
    thresholds_of(config, Disks())  # raises BadThreshold
    return config


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _headers(text: str | None) -> dict[str, str] | None:
    """NAME:VALUE pairs; of several values of one name all are sent."""
    if not text:
        return None
    found: dict[str, str] = {}
    for pair in text.split(","):
        name, colon, value = pair.partition(":")
        if not colon:
            raise Permanent(f"--manifest-url-header: {pair!r} is not NAME:VALUE")
        name = name.strip()
        found[name] = f"{found[name]}, {value.strip()}" if name in found else value.strip()
    return found


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def _labels(text: str) -> dict[str, str]:
    return {key: value for key, _, value in (part.partition("=") for part in text.split(",")) if key}


def _taints(text: str) -> tuple[Mapping[str, str], ...]:
    taints = []
    for part in filter(None, text.split(",")):
        pair, colon, effect = part.rpartition(":")
        if not colon or effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
            raise Permanent(f"--register-with-taints: {part!r} is not KEY=VALUE:EFFECT")
        key, _, value = pair.partition("=")
        taints.append({"key": key, "effect": effect} | ({"value": value} if value else {}))
    return tuple(taints)


def own_addresses(given: str, server: str) -> tuple[str, ...]:
    """The node's addresses: those `given`, or this machine's on the way to `server` (a URL).

    "0.0.0.0" and "::" say of which family it shall be. Raises Permanent."""
    from urllib.parse import urlsplit

    addresses = node_addresses(given) if given else ()
    if addresses and not ip_address(addresses[0]).is_unspecified:
        return addresses
    host = urlsplit(server).hostname or "127.0.0.1"
    if addresses and (":" in host) is not (":" in addresses[0]):
        host = _OUTSIDE[addresses[0]]
    six = ":" in host
    try:
        with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))  # no packet is sent
            return (str(probe.getsockname()[0]),)
    except OSError:
        return ("::1" if six else "127.0.0.1",)
