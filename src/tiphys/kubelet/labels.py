"""What the kubelet writes on sandboxes and containers, and reads again after a restart.

Names are those of the CRI (io.kubernetes.*), so that tools which read them find them. All that the state
machine needs to go on after a kill -9 is here or in the pod's status: nothing is kept in memory only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.kubelet.podspec import Object, name_of, namespace_of, uid_of
from tiphys.runtime.types import ContainerStatus, SandboxStatus, State

POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"
RESTART_COUNT = "io.kubernetes.container.restartCount"
CONTAINER_HASH = "io.kubernetes.container.hash"
MESSAGE_PATH = "io.kubernetes.container.terminationMessagePath"
MESSAGE_POLICY = "io.kubernetes.container.terminationMessagePolicy"
GRACE_PERIOD = "io.kubernetes.pod.terminationGracePeriod"
PRE_STOP = "io.kubernetes.container.preStopHandler"
PORTS = "io.kubernetes.container.ports"
IMAGE_NAME = "io.kubernetes.container.image"
IMAGE_REFERENCE = "io.kubernetes.container.imageRef"
ATTEMPT = "io.kubernetes.sandbox.attempt"
NODE = "tiphys.io/node"
RESOURCES = "tiphys.io/resources"
"""Requests and limits that it has, as JSON."""
POD_RESOURCES = "tiphys.io/podResources"
"""Those of the pod as a whole that it was given with, where it has any."""
BACKOFF = "tiphys.io/backoff"
"""Seconds that the restart after this container's end is put off for."""
MESSAGE_FILE = "tiphys.io/terminationMessageFile"
"""The termination log as the host sees it."""

RUNTIME = "tiphys.io/runtime"
"""Of a container as it is returned: the name of a runtime that is not our own."""


def sandbox_id(uid: str, attempt: int) -> str:
    """The same for the same attempt, so that creating it again after a crash is harmless."""
    return hashlib.sha256(f"{uid}/{attempt}".encode()).hexdigest()


def container_id(uid: str, name: str, attempt: int) -> str:
    """Likewise for a container."""
    return hashlib.sha256(f"{uid}/{name}/{attempt}".encode()).hexdigest()


def pod_labels(pod: Object, node: str) -> dict[str, str]:
    """Labels of a sandbox; each of its containers has them too."""
    grace = pod["spec"].get("terminationGracePeriodSeconds")
    return {
        POD_NAME: name_of(pod),
        POD_NAMESPACE: namespace_of(pod),
        POD_UID: uid_of(pod),
        GRACE_PERIOD: str(30 if grace is None else grace),
        NODE: node,
    }


def resource_labels(pod: Object, container: Object) -> dict[str, str]:
    """What a container is given, to be compared with what it is to have."""
    found = {RESOURCES: json.dumps(container.get("resources") or {})}
    if whole := pod["spec"].get("resources"):
        found[POD_RESOURCES] = json.dumps(whole)
    return found


@dataclass(frozen=True, slots=True)
class Record:
    """A container of a pod as the runtime knows it, with what its labels say."""

    id: str
    name: str
    attempt: int
    state: State
    sandbox: str
    backoff: float = 0
    hash: str = ""
    image: str = ""
    image_ref: str = ""
    created_at: float = 0
    started_at: float = 0
    finished_at: float = 0
    exit_code: int = 0
    signal: int = 0
    oom_killed: bool = False
    error: str = ""
    message: str = ""
    """The termination message, once it has ended."""
    resources: Mapping[str, Any] | None = None
    """Requests and limits that it has; None when that is not known."""
    pod_resources: Mapping[str, Any] | None = None
    """Those of the pod as a whole at that time."""
    pre_stop: str = ""
    ports: str = ""
    """Its preStop hook and ports as JSON, where it has a hook."""
    user: tuple[int, int, tuple[int, ...]] | None = None
    """uid, gid and supplementary groups of its first process, where they are numbers."""

    runtime: str = "tiphys"

    @property
    def full_id(self) -> str:
        """As statuses show it: RUNTIME://ID."""
        return f"{self.runtime}://{self.id}"

    @property
    def running(self) -> bool:
        return self.state is State.RUNNING

    @property
    def exited(self) -> bool:
        return self.state in (State.EXITED, State.UNKNOWN)


def record_of(status: ContainerStatus, message: str = "") -> Record:
    """The Record of what the runtime says."""
    labels = status.spec.labels
    return Record(
        id=status.spec.id,
        name=labels.get(CONTAINER_NAME, ""),
        attempt=_integer(labels, RESTART_COUNT),
        state=status.state,
        sandbox=status.spec.sandbox,
        backoff=float(labels.get(BACKOFF) or 0),
        hash=labels.get(CONTAINER_HASH, ""),
        image=labels.get(IMAGE_NAME, ""),
        image_ref=labels.get(IMAGE_REFERENCE, "") or status.spec.image,
        created_at=status.created_at,
        started_at=status.started_at,
        finished_at=status.finished_at,
        exit_code=status.exit_code if status.state is not State.UNKNOWN else 137,
        signal=status.signal,
        oom_killed=status.oom_killed,
        error=status.error,
        message=message,
        resources=json.loads(labels[RESOURCES]) if RESOURCES in labels else None,
        pod_resources=json.loads(labels[POD_RESOURCES]) if POD_RESOURCES in labels else None,
        pre_stop=labels.get(PRE_STOP, ""),
        ports=labels.get(PORTS, ""),
        user=_user(status),
        runtime=labels.get(RUNTIME, "tiphys"),
    )


def _user(status: ContainerStatus) -> tuple[int, int, tuple[int, ...]] | None:
    """As it started, the first group among the others; before that as asked, where that is in numbers."""
    if status.identity is not None:
        known_uid, known_gid, groups = status.identity
        return known_uid, known_gid, tuple(sorted({known_gid, *groups}))
    uid, _, gid = status.spec.user.partition(":")
    if not uid:
        uid = "0"
    if not uid.isdigit() or not (gid or "0").isdigit():
        return None
    group = int(gid or 0)
    return int(uid), group, tuple(sorted({group, *status.spec.supplemental_groups}))


@dataclass(frozen=True, slots=True)
class SandboxRecord:
    """A pod's sandbox as the runtime knows it."""

    id: str
    attempt: int
    running: bool
    ips: tuple[str, ...] = ()
    created_at: float = 0


def sandbox_of(status: SandboxStatus) -> SandboxRecord:
    return SandboxRecord(
        id=status.spec.id,
        attempt=_integer(status.spec.labels, ATTEMPT),
        running=status.state is State.RUNNING,
        ips=status.ips,
        created_at=status.created_at,
    )


def container_hash(container: Object) -> str:
    """Changes when what may be changed in place of a running pod changes: the image (pod update rules)."""
    text = f"{container['name']}\0{container.get('image')}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _integer(labels: Mapping[str, Any], key: str) -> int:
    text = str(labels.get(key, "0"))
    return int(text) if text.isdigit() else 0
