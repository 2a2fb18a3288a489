"""The certificates of a cluster: one authority, one certificate for each who speaks or is spoken to.

Made by `tiphys up` before anything starts, so no process waits for another one's certificate. A certificate that
is there is kept until a month before its end (`index.json` remembers when); keys are 0600. Who is who:
https://kubernetes.io/docs/setup/best-practices/certificates/
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from pathlib import Path

from tiphys.base.clock import SystemClock
from tiphys.base.files import write_atomic, write_json
from tiphys.cluster.config import ClusterConfig, NodeConfig

FRONT_PROXY, FRONT_PROXY_CA = "front-proxy-client", "front-proxy-ca"
DAYS = 365
RENEW_BEFORE = 30 * 86400.0
"""Seconds before its end that a certificate is made anew."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One certificate to have: file name, user name, groups, server names, usages."""

    file: str
    common_name: str
    organizations: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    server: bool = False
    client: bool = False
    authority: str = "ca"
    """The file name of the authority that signs it."""


def subjects(config: ClusterConfig) -> Iterator[Subject]:
    """All certificates of the cluster."""
    yield Subject("apiserver", "kube-apiserver", names=server_names(config), server=True)
    yield Subject("apiserver-kubelet-client", "kube-apiserver-kubelet-client", ("system:masters",), client=True)
    # An authority of its own: whom it signs may speak for others, to API servers behind this one.
    yield Subject(FRONT_PROXY, FRONT_PROXY, client=True, authority=FRONT_PROXY_CA)
    yield Subject("admin", "kubernetes-admin", ("system:masters",), client=True)
    yield Subject("gateway", "tiphys:gateway", client=True)
    for node in config.nodes:
        yield from node_subjects(config, node)


def node_subjects(config: ClusterConfig, node: NodeConfig) -> Iterator[Subject]:
    """The kubelet's two faces, client of the API server and server of the node API, and the node's network."""
    user = f"system:node:{node.name}"
    yield Subject(f"{node.name}-client", user, ("system:nodes",), client=True)
    names = (node.name, *map(str, config.node_addresses(node)), "127.0.0.1", "localhost")
    yield Subject(f"{node.name}-server", user, ("system:nodes",), names=names, server=True)
    yield Subject(f"{node.name}-network", "system:kube-proxy", ("system:node-proxier",), client=True)


def ensure(config: ClusterConfig) -> None:
    """Make what is missing or about to end; does not even load cryptography when nothing is."""
    directory = config.paths.pki
    index = _index(directory)
    now = SystemClock().time()
    missing = [subject for subject in subjects(config) if not _good(directory, index.get(subject.file), subject, now)]
    if not missing and (directory / "sa.key").exists():
        return
    from tiphys.base.tls import Authority

    @cache
    def authority(file: str) -> Authority:
        name = f"tiphys-{config.name}" if file == "ca" else file
        return Authority.ensure(directory / f"{file}.crt", directory / f"{file}.key", name)

    _ensure_token_key(directory / "sa.key")
    for subject in missing:
        pair = authority(subject.authority).issue(
            subject.common_name,
            organizations=subject.organizations,
            names=subject.names,
            server=subject.server,
            client=subject.client,
            days=DAYS,
        )
        pair.save(directory / f"{subject.file}.crt", directory / f"{subject.file}.key")
        index[subject.file] = {"until": now + DAYS * 86400.0, "names": list(subject.names)}
    write_json(directory / "index.json", index)


def forget_node(config: ClusterConfig, node: NodeConfig) -> None:
    """Remove a node's certificates and keys."""
    directory = config.paths.pki
    index = _index(directory)
    for subject in node_subjects(config, node):
        index.pop(subject.file, None)
        for suffix in ("crt", "key"):
            (directory / f"{subject.file}.{suffix}").unlink(missing_ok=True)
    write_json(directory / "index.json", index)


def server_names(config: ClusterConfig) -> tuple[str, ...]:
    """Names and addresses of the API server."""
    service = ["kubernetes", "default", "svc", "cluster", "local"]
    dns = tuple(".".join(service[:length]) for length in (1, 2, 3, 5))
    own = [*config.gateways, *(network[1] for network in config.service_networks)]
    own += [ip_address(config.listen)] if config.listen else []
    return ("localhost", *dns, "127.0.0.1", "::1", *map(str, own))


def _index(directory: Path) -> dict[str, dict[str, object]]:
    try:
        loaded: dict[str, dict[str, object]] = json.loads((directory / "index.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return loaded


def _good(directory: Path, known: dict[str, object] | None, subject: Subject, now: float) -> bool:
    if known is None or known.get("names") != list(subject.names):
        return False
    until = known.get("until")
    return (
        isinstance(until, int | float)
        and until - now > RENEW_BEFORE
        and all((directory / f"{subject.file}.{suffix}").exists() for suffix in ("crt", "key"))
    )


def _ensure_token_key(path: Path) -> None:
    """The key that signs service account tokens (ES256)."""
    if path.exists():
        return
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    write_atomic(
        path,
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
