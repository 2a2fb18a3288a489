"""A stand-in for a pod that is gone from the API but whose containers still run, made from their labels. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.kubelet import labels
from tiphys.kubelet.events import Observed


def orphan_pod(uid: str, known: Mapping[str, str], found: Observed) -> dict[str, Any]:
    """Enough of a pod to stop its containers with the grace that it had."""
    names = sorted({record.name for record in found.containers})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": known.get(labels.POD_NAME, uid),
            "namespace": known.get(labels.POD_NAMESPACE, "default"),
            "uid": uid,
        },
        "spec": {
            "terminationGracePeriodSeconds": int(known.get(labels.GRACE_PERIOD) or 30),
            "containers": [{"name": name} for name in names],
        },
        "status": {"phase": "Running"},
    }
