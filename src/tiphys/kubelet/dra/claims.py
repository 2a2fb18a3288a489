"""Claims that pods of this node use: which, for whom, and what drivers answered. The durable part of DRA.

One file a claim, ROOT_DIR/dra/UID.json, written before its driver is asked to prepare it and removed once the driver
has undone that. Claims are found by name, as pods name them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiphys.base.errors import TiphysError
from tiphys.base.files import write_json
from tiphys.kubelet.podspec import Object, name_of, namespace_of, uid_of

log = logging.getLogger(__name__)


class ClaimError(TiphysError):
    """A pod's claims cannot be prepared, or not undone."""


@dataclass(slots=True)
class Claim:
    """`devices` are the drivers' answers: pool_name, device_name, request_names, cdi_device_ids, share_id."""

    uid: str
    name: str
    namespace: str
    pods: set[str] = field(default_factory=set)
    devices: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """By driver; a driver that has not answered yet has an empty list."""
    prepared: bool = False
    """By this process: a new kubelet asks again, which is harmless."""

    def selected(self, request: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
        """(driver, device) of the devices of one request, or of all."""
        base = request.partition("/")[0]
        for driver, devices in sorted(self.devices.items()):
            for device in devices:
                if not request or not device["request_names"] or base in device["request_names"]:
                    yield driver, device


def claim_names(pod: Object) -> Iterator[tuple[str, str | None]]:
    """(name in the pod, name of the ResourceClaim); None: none is needed. Raises ClaimError."""
    statuses = (pod.get("status") or {}).get("resourceClaimStatuses") or ()
    made = {one["name"]: one.get("resourceClaimName") for one in statuses}
    for claim in pod["spec"].get("resourceClaims") or ():
        if name := claim.get("resourceClaimName"):
            yield claim["name"], str(name)
        elif claim["name"] in made:
            yield claim["name"], made[claim["name"]]
        else:
            raise ClaimError(f'pod "{namespace_of(pod)}/{name_of(pod)}": ResourceClaim not created yet')
    if extended := (pod.get("status") or {}).get("extendedResourceClaimStatus"):
        yield "", str(extended["resourceClaimName"])


def is_owned(pod: Object, name: str) -> bool:
    """Whether the claim was made for this pod, so that it must be its owner."""
    return all(claim.get("resourceClaimName") != name for claim in pod["spec"].get("resourceClaims") or ())


def checked(pod: Object, claim: Object) -> Claim:
    """The record of a ResourceClaim that `pod` may use now. Raises ClaimError."""
    meta = claim["metadata"]
    if is_owned(pod, meta["name"]) and not any(
        owner.get("uid") == uid_of(pod) and owner.get("controller") for owner in meta.get("ownerReferences") or ()
    ):
        where = f"pod {namespace_of(pod)}/{name_of(pod)}"
        raise ClaimError(
            f"ResourceClaim {meta['namespace']}/{meta['name']} was not created for {where} (pod is not owner)"
        )
    status = claim.get("status") or {}
    if not any(consumer.get("uid") == uid_of(pod) for consumer in status.get("reservedFor") or ()):
        who = f"pod {name_of(pod)} ({uid_of(pod)})"
        raise ClaimError(f"{who} is not allowed to use ResourceClaim {meta['name']} ({meta['uid']})")
    if not status.get("allocation"):
        raise ClaimError(f"ResourceClaim {meta['name']}: not allocated")
    results = (status["allocation"].get("devices") or {}).get("results") or ()
    drivers: dict[str, list[dict[str, Any]]] = {str(result["driver"]): [] for result in results}
    return Claim(str(meta["uid"]), str(meta["name"]), str(meta["namespace"]), devices=drivers)


def wanted_requests(pod: Object, container: Object) -> Iterator[tuple[str, str, str]]:
    """(name in the pod, name of the claim, request or "" for all) of what a container asks for. Raises ClaimError."""
    asked = (container.get("resources") or {}).get("claims") or ()
    names = dict(claim_names(pod)) if asked else {}
    for one in asked:
        if claim := names.get(one["name"]):
            yield one["name"], claim, str(one.get("request") or "")
    extended = (pod.get("status") or {}).get("extendedResourceClaimStatus") or {}
    for mapping in extended.get("requestMappings") or ():
        if mapping.get("containerName") == container["name"]:
            yield "", str(extended["resourceClaimName"]), str(mapping["requestName"])


class ClaimLedger:
    """All claims in use, on disk and in memory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._claims: dict[tuple[str, str], Claim] = {}
        for file in sorted(directory.glob("*.json")):
            try:
                claim = _parse(json.loads(file.read_text()))
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.warning("%s is not understood, its claim is not undone: %s", file, error)
            else:
                self._claims[claim.namespace, claim.name] = claim

    def get(self, namespace: str, name: str) -> Claim | None:
        return self._claims.get((namespace, name))

    def of_pod(self, uid: str) -> list[Claim]:
        return [claim for claim in self._claims.values() if uid in claim.pods]

    def pods(self) -> set[str]:
        return {uid for claim in self._claims.values() for uid in claim.pods}

    def all(self) -> Iterable[Claim]:
        return self._claims.values()

    def save(self, claim: Claim) -> None:
        """Raises OSError."""
        self._claims[claim.namespace, claim.name] = claim
        self._directory.mkdir(parents=True, exist_ok=True)
        content = {"name": claim.name, "namespace": claim.namespace, "pods": sorted(claim.pods)}
        write_json(self._directory / f"{claim.uid}.json", {"uid": claim.uid, **content, "devices": claim.devices})

    def drop(self, claim: Claim) -> None:
        self._claims.pop((claim.namespace, claim.name), None)
        (self._directory / f"{claim.uid}.json").unlink(missing_ok=True)


def _parse(content: Mapping[str, Any]) -> Claim:
    return Claim(content["uid"], content["name"], content["namespace"], set(content["pods"]), dict(content["devices"]))
