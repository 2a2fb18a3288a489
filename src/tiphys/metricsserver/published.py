"""What the group metrics.k8s.io looks like to others: its resources, and the role that may read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

GROUP, VERSION = "metrics.k8s.io", "v1beta1"
API_VERSION = f"{GROUP}/{VERSION}"
RESOURCES: tuple[Mapping[str, Any], ...] = (
    {"name": "nodes", "singularName": "", "namespaced": False, "kind": "NodeMetrics", "verbs": ["get", "list"]},
    {"name": "pods", "singularName": "", "namespaced": True, "kind": "PodMetrics", "verbs": ["get", "list"]},
)
ROLES: tuple[Mapping[str, Any], ...] = (
    {
        "kind": "ClusterRole",
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "metadata": {
            "name": "system:aggregated-metrics-reader",
            "labels": {
                "k8s-app": "metrics-server",
                **{f"rbac.authorization.k8s.io/aggregate-to-{role}": "true" for role in ("admin", "edit", "view")},
            },
        },
        "rules": [{"verbs": ["get", "list", "watch"], "apiGroups": [GROUP], "resources": ["pods", "nodes"]}],
    },
)
