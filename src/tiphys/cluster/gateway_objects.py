"""What the gateway needs in the API: its role, its classes, the Gateway API's definitions. Made at the start.

Definitions that somebody replaced by official ones are left alone; ours are renewed by a newer Tiphys.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from tiphys.apiserver.bootstrap import Desired
from tiphys.base.errors import AlreadyExists, NotFound
from tiphys.client.types import MERGE_PATCH, Client
from tiphys.gateway import definitions
from tiphys.gateway.gatewayapi import classes
from tiphys.gateway.ingress.classes import CONTROLLER
from tiphys.gateway.resources import GATEWAY_CLASSES

RBAC = "rbac.authorization.k8s.io"
USER = "tiphys:gateway"
CLASS = "tiphys"
LABELS = {"app.kubernetes.io/managed-by": "tiphys"}


def desired() -> tuple[Desired, ...]:
    """All but the GatewayClass, which needs its definition served first."""
    return (
        Desired(RBAC, "clusterroles", cluster_role(), renew=_renewed_role),
        Desired(RBAC, "clusterrolebindings", cluster_role_binding()),
        Desired("networking.k8s.io", "ingressclasses", ingress_class()),
        *(
            Desired("apiextensions.k8s.io", "customresourcedefinitions", one, renew=partial(definitions.renewed, one))
            for one in definitions.all_definitions()
        ),
    )


async def ensure_gateway_class(client: Client, now: str) -> None:
    """With its status, for who waits for that before the first Gateway. Raises ApiError, OSError."""
    try:
        have = await client.get(GATEWAY_CLASSES, CLASS)
    except NotFound:
        try:
            have = await client.create(GATEWAY_CLASSES, gateway_class())
        except AlreadyExists:
            return
    status = classes.status(have, now)
    if classes.is_ours(have) and have.get("status") != status:
        patch = {"status": status}
        await client.patch(GATEWAY_CLASSES, CLASS, patch, type=MERGE_PATCH, subresource="status")


def _renewed_role(have: Mapping[str, Any]) -> dict[str, Any] | None:
    rules = cluster_role()["rules"]
    return None if have.get("rules") == rules else {**have, "rules": rules}


def cluster_role() -> dict[str, Any]:
    def rule(group: str, resources: list[str], verbs: str) -> dict[str, Any]:
        return {"apiGroups": [group], "resources": resources, "verbs": verbs.split()}

    own = ["gatewayclasses", "gateways", "httproutes"]
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": USER, "labels": LABELS},
        "rules": [
            rule("", ["secrets", "namespaces"], "get list watch"),
            rule("", ["services"], "get list watch create patch delete"),
            rule("", ["events"], "create patch"),
            rule("discovery.k8s.io", ["endpointslices"], "get list watch create patch"),
            rule("networking.k8s.io", ["ingresses", "ingressclasses"], "get list watch"),
            rule("networking.k8s.io", ["ingresses/status"], "patch"),
            rule("gateway.networking.k8s.io", [*own, "referencegrants"], "get list watch"),
            rule("gateway.networking.k8s.io", [f"{name}/status" for name in own], "patch"),
        ],
    }


def cluster_role_binding() -> dict[str, Any]:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": USER, "labels": LABELS},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": USER},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": USER}],
    }


def ingress_class() -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": CLASS, "labels": LABELS},
        "spec": {"controller": CONTROLLER},
    }


def gateway_class() -> dict[str, Any]:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": CLASS, "labels": LABELS},
        "spec": {"controllerName": definitions.CONTROLLER, "description": "the gateway built into Tiphys"},
    }
