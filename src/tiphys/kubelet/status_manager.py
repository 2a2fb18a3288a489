"""Brings the API's pod statuses up to what the state machines say: one patch at a time a pod, the newest only.

A status that cannot be written is tried again until it can or the pod is gone: a terminal state is never lost,
since a pod's containers are kept until it is confirmed here.

While a pod is on its way to run nobody waits for each single step, and each costs the API server, every watcher and
this kubelet more than the step itself: such statuses are held for a moment, and mostly overtaken by the next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tiphys.base.clock import Clock
from tiphys.base.errors import ApiError, Conflict, NotFound
from tiphys.client.backoff import Backoff
from tiphys.client.resources import PODS
from tiphys.client.types import Client
from tiphys.kubelet.conditions import is_own
from tiphys.kubelet.podspec import Object, full_name, name_of, namespace_of, uid_of
from tiphys.kubelet.status_patch import status_patch
from tiphys.kubelet.tasks import Tasks

log = logging.getLogger(__name__)


GATHER = 0.1
"""Seconds for which the status of a pod is held that was Pending and still is."""


@dataclass(slots=True)
class _Entry:
    pod: Object
    known: Mapping[str, Any]
    """What the API has, as far as is known."""
    revision: int
    saved: Callable[[int], None]
    wanted: Mapping[str, Any] = field(default_factory=dict)
    version: int = 0
    sending: bool = False
    holding: bool = False

    @property
    def patient(self) -> bool:
        """Whether the status may be held."""
        pending = self.known.get("phase") in (None, "Pending") and self.wanted.get("phase") == "Pending"
        return pending and not self.pod["metadata"].get("deletionTimestamp")


class StatusManager:
    """Writes statuses."""

    def __init__(self, client: Client, clock: Clock, group: asyncio.TaskGroup) -> None:
        self._client = client
        self._clock = clock
        self._tasks = Tasks(group)
        self._entries: dict[str, _Entry] = {}
        self._backoff = Backoff(base=0.2, limit=30.0, jitter=0.2, seed="status")

    def set(self, pod: Object, status: Mapping[str, Any], version: int, saved: Callable[[int], None]) -> None:
        """Want `status`; `saved(version)` is called when the API has it or does not need it any more."""
        entry = self._entries.get(uid_of(pod))
        if entry is None:
            entry = _Entry(pod, pod.get("status") or {}, _revision(pod), saved)
            self._entries[uid_of(pod)] = entry
        entry.wanted, entry.version = status, version
        self._send(entry)

    def observe(self, pod: Object) -> None:
        """The API's object changed: if somebody else wrote the kubelet's fields, write them again."""
        entry = self._entries.get(uid_of(pod))
        if entry is None or _revision(pod) <= entry.revision:
            return
        entry.pod, entry.known, entry.revision = pod, pod.get("status") or {}, _revision(pod)
        if not entry.sending and self._patch(entry):
            self._send(entry)

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        self._entries.pop(uid, None)
        self._tasks.cancel(uid)

    def _send(self, entry: _Entry) -> None:
        if not entry.sending or (entry.holding and not entry.patient):
            entry.sending = True
            self._tasks.replace(uid_of(entry.pod), self._deliver(entry), name=f"status of {full_name(entry.pod)}")

    async def _deliver(self, entry: _Entry) -> None:
        failures = 0
        confirmed = -1
        while confirmed != entry.version:
            entry.holding = entry.patient
            if entry.holding:
                await self._clock.sleep(GATHER)
                entry.holding = False
            version = entry.version
            try:
                await self._write(entry)
            except (NotFound, Conflict):
                log.debug("pod %s is gone: its status is not needed", full_name(entry.pod))
            except (ApiError, OSError) as error:
                delay = self._backoff.delay(failures)
                failures += 1
                log.warning("status of %s: next try in %.1f s: %s", full_name(entry.pod), delay, error)
                await self._clock.sleep(delay)
                continue
            confirmed, failures = version, 0
            entry.saved(version)
        entry.sending = False

    async def _write(self, entry: _Entry) -> None:
        patch = self._patch(entry)
        if not patch:
            return
        pod = entry.pod
        body = {"metadata": {"uid": uid_of(pod)}, "status": patch}
        answer = await self._client.patch(PODS, name_of(pod), body, namespace_of(pod), subresource="status")
        if _revision(answer) >= entry.revision:
            entry.known, entry.revision = answer.get("status") or {}, _revision(answer)

    def _patch(self, entry: _Entry) -> dict[str, Any]:
        """Fields and conditions that the kubelet never sets are left alone."""
        theirs = {name: value for name, value in entry.known.items() if name in entry.wanted or name in _FIELDS}
        return status_patch(_own(theirs), _own(entry.wanted))


_FIELDS = frozenset(
    (
        *("phase", "reason", "message", "hostIP", "hostIPs", "podIP", "podIPs", "startTime", "qosClass"),
        *("observedGeneration", "conditions", "initContainerStatuses", "containerStatuses"),
        "ephemeralContainerStatuses",
    )
)


def _own(status: Mapping[str, Any]) -> dict[str, Any]:
    own = dict(status)
    if "conditions" in own:
        own["conditions"] = [condition for condition in own["conditions"] if is_own(condition)]
    return own


def _revision(obj: Object) -> int:
    text = str(obj["metadata"].get("resourceVersion") or "0")
    return int(text) if text.isdigit() else 0
