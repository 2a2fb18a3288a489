"""The cgroups that pods are in: kubepods, kubepods/burstable and kubepods/besteffort, with what each may use.

kubepods is limited to what the node has for pods, so that the pods of one node cannot take what is another's. Burstable
pods together weigh as much as they request; a pod that comes, goes or is resized changes that at once. Cgroups of pods
that nobody knows any more are removed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path

from tiphys.base.clock import Clock
from tiphys.base.errors import TiphysError
from tiphys.client.events import EventRecorder
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.machine import Machine
from tiphys.kubelet.node_resources import capacity, enforced, reservation, tier
from tiphys.kubelet.podspec import Object, is_terminal, uid_of
from tiphys.kubelet.resources import Amounts, milli, pod_requests, qos_class
from tiphys.runtime.types import Cgroups, Resources

log = logging.getLogger(__name__)

_RETRY = 60.0
TIERS = ("", "burstable", "besteffort")


class Tiers:
    """Of one node."""

    def __init__(
        self, config: KubeletConfig, machine: Machine, cgroups: Cgroups, clock: Clock, recorder: EventRecorder
    ) -> None:
        self._config, self._machine, self._cgroups = config, machine, cgroups
        self._clock, self._recorder = clock, recorder
        self._requested: dict[str, int] = {}
        """Millicores of each burstable pod."""
        self._shares = -1
        self._whole: Amounts = {}
        """What the node had when its pods were held to it."""

    def path(self, *below: str) -> str:
        """Of kubepods, or of a cgroup in it."""
        return "/".join((f"{self._config.cgroup_root}/kubepods", *filter(None, below)))

    async def run(self) -> None:
        """Arrange them; tried until the kernel agrees, since what runs may have more than it is to have."""
        if not self._config.cgroups_per_qos:
            return
        while not self._hold():
            await self._clock.sleep(_RETRY)
        self._reserve()

    def _hold(self) -> bool:
        self._whole = capacity(self._config, self._machine)
        limits = enforced(self._config, self._whole, most_processes())
        return self._enforce(self.path(), limits, "across pods")

    def recheck(self) -> None:
        """What the node has may have changed: nodes of one machine share it."""
        if self._whole and self._whole != capacity(self._config, self._machine):
            self._hold()

    def begin(self) -> None:
        """Make the tiers, before the first pod does."""
        if not self._config.cgroups_per_qos:
            return
        try:
            self._cgroups.set(self.path("besteffort"), tier(0, self._machine))
            self._update()
        except (TiphysError, OSError) as error:
            log.warning("cgroups of pods: %s", error)

    def _enforce(self, path: str, limits: Resources, what: str) -> bool:
        try:
            self._cgroups.set(path, limits)
        except (TiphysError, OSError) as error:
            names = "[" + " ".join(part for part in path.split("/") if part) + "]"
            text = f'Failed to update Node Allocatable Limits "{names}": {error}'
            self._event("Warning", "FailedNodeAllocatableEnforcement", text)
            return False
        self._event("Normal", "NodeAllocatableEnforced", f"Updated Node Allocatable limit {what}")
        return True

    def _reserve(self) -> None:
        config = self._config
        for name, cgroup, source in (
            ("system", config.system_reserved_cgroup, config.system_reserved),
            ("kube", config.kube_reserved_cgroup, config.kube_reserved),
        ):
            for key, compressible in ((f"{name}-reserved", False), (f"{name}-reserved-compressible", True)):
                if key in config.enforce_node_allocatable:
                    self._reserve_one(name, cgroup, reservation(source, compressible=compressible))

    def _reserve_one(self, name: str, cgroup: str, limits: Resources) -> None:
        path = cgroup.strip("/")
        error: object = f'cgroup ["{path}"] has some missing paths' if self._cgroups.get(path) is None else None
        if error is None:
            try:
                self._cgroups.set(path, limits)
            except (TiphysError, OSError) as failed:
                error = failed
        if error is not None:
            text = f'Failed to enforce {name.title()} Reserved Cgroup Limits on "{cgroup}": {error}'
            self._event("Warning", "FailedNodeAllocatableEnforcement", text)
            return
        self._event("Normal", "NodeAllocatableEnforced", f"Updated limits on {name} reserved cgroup {cgroup}")

    def _event(self, type: str, reason: str, message: str) -> None:
        name = self._config.node_name
        about = {"kind": "Node", "name": name, "uid": name, "apiVersion": "v1"}
        self._recorder.about(about, type, reason, message)

    # --- pods that come and go

    def note(self, pod: Object) -> None:
        """The node has this pod, with this much."""
        if qos_class(pod) != "Burstable":
            return
        if is_terminal(pod):
            self.drop(uid_of(pod))
            return
        self._requested[uid_of(pod)] = milli(pod_requests(pod), "cpu")
        self._try_update()

    def drop(self, uid: str) -> None:
        """It is gone, or over."""
        if self._requested.pop(uid, None) is not None:
            self._try_update()

    def _try_update(self) -> None:
        try:
            self._update()
        except (TiphysError, OSError) as error:
            log.warning("weight of burstable pods: %s", error)

    def _update(self) -> None:
        limits = tier(sum(self._requested.values()), self._machine)
        if limits.cpu_shares != self._shares and self._config.cgroups_per_qos:
            self._cgroups.set(self.path("burstable"), limits)
            self._shares = limits.cpu_shares

    async def remove_orphans(self, known: Iterable[str]) -> None:
        """Cgroups of pods that nobody knows: a machine that crashed, a sandbox that could not be removed."""
        kept = {f"pod{uid}" for uid in known}
        for name in TIERS:
            for child in self._cgroups.children(self.path(name)):
                if child.startswith("pod") and child not in kept:
                    await self._remove(self.path(name, child))

    async def _remove(self, path: str) -> None:
        try:
            await asyncio.to_thread(self._cgroups.remove, path)
            log.info("cgroup %s of a pod that is gone was removed", path)
        except (TiphysError, OSError) as error:
            log.warning("cgroup %s of a pod that is gone stays: %s", path, error)


def most_processes() -> int:
    """How many processes and threads this machine can have."""
    found = []
    for name in ("pid_max", "threads-max"):
        try:
            found.append(int(Path("/proc/sys/kernel", name).read_text()))
        except (OSError, ValueError):
            continue
    return min(found, default=0)
