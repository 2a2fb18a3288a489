"""A stand-in for a pod that is gone from the API but whose containers still run, made from their labels. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tiphys.kubelet import labels
from tiphys.kubelet.events import Observed
from tiphys.kubelet.labels import Record


def orphan_pod(uid: str, known: Mapping[str, str], found: Observed) -> dict[str, Any]:
    """Enough of a pod to stop its containers with the grace and the preStop hooks that they had."""
    newest = {record.name: record for record in sorted(found.containers, key=lambda record: record.attempt)}
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
            "containers": [_container(record) for _, record in sorted(newest.items())],
        },
        "status": {"phase": "Running"},
    }


def _container(record: Record) -> dict[str, Any]:
    if not record.pre_stop:
        return {"name": record.name}
    hook, ports = json.loads(record.pre_stop), json.loads(record.ports or "[]")
    return {"name": record.name, "lifecycle": {"preStop": hook}, "ports": ports}
