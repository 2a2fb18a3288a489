"""What the network of nodes may read beyond upstream's system:node-proxier: pods, namespaces and network policies.

Made when the API server starts, before it serves: nodes enforce policies from their first moment. Clusters from before
get it in the same way.
"""

from __future__ import annotations

from typing import Any

from tiphys.base.errors import AlreadyExists, Conflict, NotFound
from tiphys.base.http.types import Handler
from tiphys.base.identity import User
from tiphys.client.local import LocalClient
from tiphys.client.types import Resource

GROUP = "rbac.authorization.k8s.io"
ROLES = Resource(GROUP, "v1", "clusterroles", namespaced=False)
BINDINGS = Resource(GROUP, "v1", "clusterrolebindings", namespaced=False)
NAME = "tiphys:network"
NETWORK_USER = "system:kube-proxy"
_BOOT = User("tiphys:boot", groups=("system:masters", "system:authenticated"))
_READ = ["list", "watch"]


async def ensure(server: Handler) -> None:
    """Create the role and its binding, or put them right. Raises ApiError."""
    client = LocalClient(server, _BOOT, agent="tiphys-boot")
    for resource, wanted in ((ROLES, role()), (BINDINGS, binding())):
        await _ensure(client, resource, wanted)


def role() -> dict[str, Any]:
    rules = [
        {"verbs": _READ, "apiGroups": [""], "resources": ["pods", "namespaces"]},
        {"verbs": _READ, "apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"]},
    ]
    return {"kind": "ClusterRole", "apiVersion": f"{GROUP}/v1", "metadata": {"name": NAME}, "rules": rules}


def binding() -> dict[str, Any]:
    return {
        "kind": "ClusterRoleBinding",
        "apiVersion": f"{GROUP}/v1",
        "metadata": {"name": NAME},
        "subjects": [{"kind": "User", "apiGroup": GROUP, "name": NETWORK_USER}],
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": NAME},
    }


async def _ensure(client: LocalClient, resource: Resource, wanted: dict[str, Any]) -> None:
    try:
        have = await client.get(resource, NAME)
    except NotFound:
        try:
            await client.create(resource, wanted)
        except AlreadyExists:
            return
        return
    fields = {key: value for key, value in wanted.items() if key != "metadata"}
    if any(have.get(key) != value for key, value in fields.items()):
        try:
            await client.update(resource, {**have, **fields})
        except Conflict:
            return
