"""Tokens by which nodes of other machines join a cluster: bootstrap tokens, and the file that has all that they need.

https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/ and .../kubelet-tls-bootstrapping/
"""

from __future__ import annotations

import base64
import secrets
import string
from typing import Any

from tiphys.base.clock import Clock, rfc3339
from tiphys.base.errors import AlreadyExists, Permanent
from tiphys.client.resources import SECRETS
from tiphys.client.types import Client
from tiphys.cluster import processes
from tiphys.cluster.alone.flags import EXTENSION
from tiphys.cluster.config import ClusterConfig
from tiphys.cluster.join import joining
from tiphys.cluster.network_role import BINDINGS, GROUP
from tiphys.cluster.node_dns import domain
from tiphys.cluster.processes import CONTROL_PLANE

BOOTSTRAPPERS = "system:bootstrappers:tiphys"
_LETTERS = string.ascii_lowercase + string.digits
_ROLES = {
    "tiphys:node-bootstrapper": ("system:node-bootstrapper", BOOTSTRAPPERS),
    "tiphys:node-client": ("system:certificates.k8s.io:certificatesigningrequests:nodeclient", BOOTSTRAPPERS),
    "tiphys:node-client-renewal": (
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        "system:nodes",
    ),
}
"""Which group has which of upstream's roles: who joins may ask for a node's certificate, nodes renew theirs."""


async def make(config: ClusterConfig, client: Client, clock: Clock, lifetime: float) -> dict[str, Any]:
    """A token, good for `lifetime` seconds, as a kubeconfig for `tiphys kubelet --join`. Raises Permanent, ApiError."""
    check(config)
    for name, (role, group) in _ROLES.items():
        try:
            await client.create(BINDINGS, _binding(name, role, group))
        except AlreadyExists:
            continue
    first, second = ("".join(secrets.choice(_LETTERS) for _ in range(length)) for length in (6, 16))
    await client.create(SECRETS, _secret(first, second, rfc3339(clock.time() + lifetime)), "kube-system")
    return document(config, f"{first}.{second}")


def check(config: ClusterConfig) -> None:
    """Raises Permanent if no node of another machine could join now."""
    if not config.listen:
        raise Permanent(
            f"cluster {config.name} is not reached from other machines: `tiphys down {config.name}`, then "
            f"`tiphys up {config.name} --listen ADDRESS`"
        )
    if not processes.pid_of(config.paths.lock(CONTROL_PLANE)):
        raise Permanent(f"cluster {config.name} is not running; `tiphys up {config.name}` starts it")


def document(config: ClusterConfig, token: str) -> dict[str, Any]:
    """The file: a kubeconfig whose user is the token, with the cluster's settings as an extension."""
    authority = base64.b64encode((config.paths.pki / "ca.crt").read_bytes()).decode()
    told = {
        "cluster_dns": ",".join(config.dns_addresses),
        "cluster_domain": domain(config),
        "network": config.overlay,
        "vxlan_id": joining.vni(config),
    }
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": config.name,
                "cluster": {"server": joining.server(config), "certificate-authority-data": authority},
            }
        ],
        "users": [{"name": "join", "user": {"token": token}}],
        "contexts": [{"name": "join", "context": {"cluster": config.name, "user": "join"}}],
        "current-context": "join",
        "extensions": [{"name": EXTENSION, "extension": told}],
    }


def _secret(first: str, second: str, expiration: str) -> dict[str, Any]:
    values = {
        "token-id": first,
        "token-secret": second,
        "expiration": expiration,
        "usage-bootstrap-authentication": "true",
        "auth-extra-groups": BOOTSTRAPPERS,
        "description": "Made by `tiphys node token`.",
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"bootstrap-token-{first}", "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": values,
    }


def _binding(name: str, role: str, group: str) -> dict[str, Any]:
    return {
        "kind": "ClusterRoleBinding",
        "apiVersion": f"{GROUP}/v1",
        "metadata": {"name": name},
        "subjects": [{"kind": "Group", "apiGroup": GROUP, "name": group}],
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role},
    }
