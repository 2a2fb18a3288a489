"""Objects with fields missing or null, as other versions may have stored them, do not upset the rules."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tiphys.controllers.attach_rules import Health, attach_outcome, detach_outcome
from tiphys.controllers.attach_volumes import (
    Unresolved,
    Volume,
    claim_keys,
    claim_names,
    of_persistent_volume,
    resolve,
    skips_attach,
    volumes_in_use,
    wants_volumes,
)
from tiphys.controllers.device_taints import claim_end, claim_pools, pod_end, slice_pools, taints_in
from tiphys.controllers.resource_claims import (
    claim_statuses,
    extended_claim,
    needs_work,
    new_claim,
    owning_pod,
    released,
    template_keys,
    to_reserve,
)
from tiphys.controllers.selinux_labels import SeveralLabels, mounted, use_of

WHEN = "2026-01-01T00:00:00Z"
META = {"name": "a", "namespace": "b", "uid": "u", "deletionTimestamp": WHEN, "annotations": {"c": "d"}}
POD: dict[str, Any] = {
    "metadata": META,
    "spec": {
        "nodeName": "n",
        "securityContext": {"seLinuxOptions": {"level": "s0"}, "seLinuxChangePolicy": "MountOption"},
        "containers": [{"name": "c", "volumeMounts": [{"name": "v"}], "securityContext": {"seLinuxOptions": {}}}],
        "volumes": [
            {"name": "v", "persistentVolumeClaim": {"claimName": "x"}},
            {"name": "w", "ephemeral": {"volumeClaimTemplate": {}}},
            {"name": "i", "iscsi": {"targetPortal": "p", "iqn": "q", "lun": 1}},
            {"name": "f", "fc": {"targetWWNs": ["a"], "lun": 0, "wwids": ["b"]}},
        ],
        "resourceClaims": [{"name": "g", "resourceClaimTemplateName": "t"}, {"name": "h", "resourceClaimName": "own"}],
    },
    "status": {
        "phase": "Running",
        "containerStatuses": [{"name": "c", "state": {"running": {"startedAt": WHEN}}}],
        "resourceClaimStatuses": [{"name": "g", "resourceClaimName": "a-g-x"}],
        "extendedResourceClaimStatus": {"resourceClaimName": "e"},
    },
}
VOLUME: dict[str, Any] = {
    "metadata": {"name": "pv"},
    "spec": {
        "accessModes": ["ReadWriteOnce"],
        "csi": {"driver": "d", "volumeHandle": "h"},
        "claimRef": {"namespace": "b", "name": "x", "uid": "u"},
    },
}
HELD: dict[str, Any] = {"metadata": META, "spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}}
CLAIM: dict[str, Any] = {
    "metadata": {**META, "finalizers": ["f"], "ownerReferences": [{"kind": "Pod", "uid": "u", "controller": True}]},
    "spec": {},
    "status": {
        "allocation": {
            "devices": {
                "results": [
                    {
                        "driver": "d",
                        "pool": "p",
                        "device": "g",
                        "tolerations": [{"key": "k", "effect": "NoExecute", "tolerationSeconds": 1}],
                    }
                ]
            }
        },
        "reservedFor": [{"resource": "pods", "name": "a", "uid": "u"}],
    },
}
NODE: dict[str, Any] = {
    "metadata": META,
    "spec": {"taints": [{"key": "k", "effect": "NoExecute"}]},
    "status": {"conditions": [{"type": "Ready", "status": "True"}], "volumesInUse": ["x"]},
}
SLICE: dict[str, Any] = {
    "metadata": META,
    "spec": {
        "driver": "d",
        "pool": {"name": "p", "generation": 1},
        "devices": [{"name": "g", "taints": [{"key": "k", "effect": "NoExecute", "timeAdded": WHEN}]}],
    },
}
ATTACHMENT: dict[str, Any] = {
    "metadata": META,
    "status": {"attached": True, "attachError": {"message": "m"}, "detachError": {"message": "m"}},
}
KEPT = {"metadata", "name", "uid", "driver", "level", "kind"}
"""What every object has, or its validation has seen to for ever."""


def damaged(value: Any, rng: random.Random) -> Any:
    """`value` with some fields gone, null or empty."""
    if isinstance(value, dict):
        made = {}
        for key, each in value.items():
            luck = 1.0 if key in KEPT else rng.random()
            if luck < 0.08:
                continue
            made[key] = None if luck < 0.16 else damaged(each, rng)
        return made
    if isinstance(value, list):
        return [damaged(each, rng) for each in value if rng.random() > 0.1]
    return copy.copy(value)


def rules(rng: random.Random) -> Iterator[Callable[[], Any]]:
    pod, volume, held, claim = (damaged(each, rng) for each in (POD, VOLUME, HELD, CLAIM))
    node, slice, attachment = (damaged(each, rng) for each in (NODE, SLICE, ATTACHMENT))
    known = Volume("u", driver="d", handle="h")

    def resolving() -> None:
        for source, name in claim_names(pod):
            resolve(pod, source, name, lambda *_: held, lambda *_: volume)

    yield resolving
    yield lambda: (claim_keys(pod), wants_volumes(pod), of_persistent_volume(volume), skips_attach(volume))
    yield lambda: (Health.of(node), volumes_in_use(node))
    yield lambda: (attach_outcome(attachment, known, 0, 9), detach_outcome(attachment, known, 0, 9))
    yield lambda: (needs_work(pod, lambda *_: claim), template_keys(pod), extended_claim(pod), owning_pod(claim))
    yield lambda: (to_reserve(pod, claim), released(claim, frozenset("u")), claim_statuses(pod, {"g": "x"}))
    yield lambda: new_claim(pod, {"name": "g", "resourceClaimTemplateName": "t"}, damaged({"spec": VOLUME}, rng))
    yield lambda: (claim_pools(claim), slice_pools(slice), taints_in([slice, slice], "g"))
    yield lambda: claim_end(claim, lambda *_: taints_in([slice], "g"))
    yield lambda: pod_end(pod, lambda *_: claim, lambda *_: taints_in([slice], "g"))
    yield lambda: [use_of(pod, name, supported=True) for name in mounted(pod)]


@pytest.mark.parametrize("seed", range(20))
def test_rules_stand_damaged_objects(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(100):
        for rule in rules(rng):
            try:
                rule()
            except (Unresolved, SeveralLabels):
                continue
