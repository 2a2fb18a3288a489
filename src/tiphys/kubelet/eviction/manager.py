"""The eviction manager: looks at the node every ten seconds, and at once when the kernel says that memory is short.

What is short is first sought from dead containers and unused images; then one pod at a time has to go. Pods that
exceed a limit of their own local storage go whatever room there is. Decisions are in pressure.py, ranking.py and
limits.py; figures come from a `Meter`. Disk use of pods is measured only for those that have limits of it, or when
disk is what is short, and never for more than a fiftieth of the time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tiphys.base.clock import Clock
from tiphys.base.errors import TiphysError
from tiphys.client.events import EventRecorder
from tiphys.kubelet import events as ev
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.ending import PodEnder
from tiphys.kubelet.eviction import signals
from tiphys.kubelet.eviction.figures import NodeFigures, Observations, PodFigures, observations
from tiphys.kubelet.eviction.limits import exceeded, has_storage_limits
from tiphys.kubelet.eviction.messages import REASON, eviction_message
from tiphys.kubelet.eviction.meter import Disks, Meter
from tiphys.kubelet.eviction.pressure import Pressure, met
from tiphys.kubelet.eviction.ranking import measured_by, rank
from tiphys.kubelet.eviction.refusal import is_critical
from tiphys.kubelet.eviction.signals import EvictionSettings, Threshold, add_containerfs, make_thresholds
from tiphys.kubelet.metrics import KubeletMetrics
from tiphys.kubelet.podspec import Object, full_name, uid_of

log = logging.getLogger(__name__)

INTERVAL = 10.0
_IMMEDIATELY = 1.0
"""Seconds of grace of pods that must go at once."""
_CLEANED_UP = 30.0
_PART_OF_TIME = 50


class Reclaims(Protocol):
    """What frees something without touching a pod."""

    async def remove_dead_containers(self) -> None: ...

    async def remove_unused_images(self) -> None: ...


class Watches(Protocol):
    """Has the manager woken when memory becomes scarce (see notify.py)."""

    def update(self, figures: NodeFigures) -> None: ...


@dataclass(frozen=True, slots=True)
class EvictionTools:
    """What the manager works with."""

    clock: Clock
    recorder: EventRecorder
    meter: Meter
    pods: PodEnder
    reclaims: Reclaims
    node: Object
    """Reference to the node, for events."""
    changed: Callable[[], None]
    """Called when the node's conditions are others than before."""
    metrics: KubeletMetrics


class EvictionManager:
    """See the module's docstring; `conditions` are the node's pressures, e.g. ("MemoryPressure",)."""

    def __init__(self, config: KubeletConfig, tools: EvictionTools) -> None:
        self._config = config
        self._tools = tools
        self._clock = tools.clock
        self._pods = tools.pods
        self._disks = tools.meter.disks()
        self._pressure = Pressure(thresholds_of(config, self._disks), config.eviction_transition)
        self._woken = asyncio.Event()
        self._storage_due = 0.0
        self.watch: Watches | None = None
        self.conditions: tuple[str, ...] = ()
        self._metrics = tools.metrics

    @property
    def thresholds(self) -> Sequence[Threshold]:
        return self._pressure.thresholds

    def wake(self) -> None:
        """Look at once."""
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                evicted = await self.synchronize()
            except (TiphysError, OSError) as error:
                log.warning("the node cannot be measured: %s", error)
                evicted = []
            except Exception:  # a look that goes wrong must not end the node; the next may be right
                log.exception("the node could not be looked after")
                evicted = []
            if evicted:
                await self._pods.wait_ended(evicted, _CLEANED_UP)
            else:
                await self._pause()

    async def _pause(self) -> None:
        self._woken.clear()
        try:
            async with asyncio.timeout(INTERVAL):
                await self._woken.wait()
        except TimeoutError:
            return

    async def synchronize(self) -> Sequence[str]:
        """Look once and do what follows; returns the UIDs of pods that have to go."""
        figures = await self._tools.meter.node()
        now = self._clock.monotonic()
        observed = observations(figures, now)
        found = self._pressure.observe(observed, now)
        if self.watch is not None:
            self.watch.update(figures)
        if found.conditions != self.conditions:
            self.conditions = found.conditions
            self._tools.changed()
        if self._config.storage_isolation and (over := await self._end_greedy()):
            return over
        return await self._relieve(found.due, observed) if found.due else []

    # --- limits of pods' own

    async def _end_greedy(self) -> list[str]:
        """End pods that exceed a limit of local storage."""
        started = self._clock.monotonic()
        watched = [pod for pod in self._pods.active() if has_storage_limits(pod) and self._pods.containers(pod)]
        if not watched or started < self._storage_due:
            return []
        ended = []
        for pod in watched:
            figures = await self._measure(pod, memory=False, storage=True)
            excess = exceeded(pod, figures, self._disks.dedicated_images) if figures is not None else None
            if excess is not None and self._end(pod, ev.Evicted(REASON, excess.message, _IMMEDIATELY), {}):
                self._metrics.evictions.inc(excess.signal)
                ended.append(uid_of(pod))
        took = self._clock.monotonic() - started
        self._storage_due = self._clock.monotonic() + took * _PART_OF_TIME
        return ended

    async def _measure(self, pod: Object, *, memory: bool, storage: bool) -> PodFigures | None:
        return await self._tools.meter.pod(pod, self._pods.containers(pod), memory=memory, storage=storage)

    # --- what the node is short of

    async def _relieve(self, due: Sequence[Threshold], observed: Observations) -> list[str]:
        threshold = due[0]
        resource = signals.RESOURCES[threshold.signal]
        log.info("the node is low on %s: %s", resource, threshold)
        text = f"Attempting to reclaim {resource}"
        self._tools.recorder.about(self._tools.node, "Warning", "EvictionThresholdMet", text)
        if await self._reclaim(threshold.signal):
            return []
        pods = self._pods.active()
        storage = resource in (signals.STORAGE, "inodes")
        figures = {}
        for pod in pods:
            if (found := await self._measure(pod, memory=not storage, storage=storage)) is not None:
                figures[uid_of(pod)] = found
        for one in due:
            age = self._clock.monotonic() - observed[one.signal].at
            self._metrics.eviction_stats_age.observe(age, one.signal)
        measured = measured_by(threshold.signal, self._disks.dedicated_images, self._disks.split)
        for pod in rank(threshold.signal, pods, figures, measured):
            message, annotations = eviction_message(resource, pod, figures.get(uid_of(pod)), due, observed)
            how = ev.Evicted(REASON, message, self._grace(threshold, pod), disruption=True)
            if self._end(pod, how, annotations):
                self._metrics.evictions.inc(threshold.signal)
                return [uid_of(pod)]
        log.warning("the node is low on %s, and no pod can be evicted", resource)
        return []

    async def _reclaim(self, signal: str) -> bool:
        """Free what no pod misses; True when that suffices for all thresholds."""
        kinds = reclaims_for(signal, self._disks.dedicated_images, self._disks.split)
        if "containers" in kinds:
            await self._tools.reclaims.remove_dead_containers()
        if "images" in kinds:
            await self._tools.reclaims.remove_unused_images()
        if not kinds:
            return False
        observed = observations(await self._tools.meter.node(), self._clock.monotonic())
        return not met(self._pressure.thresholds, observed, with_reclaim=True)

    def _grace(self, threshold: Threshold, pod: Object) -> float:
        if threshold.hard:
            return _IMMEDIATELY
        own = pod["spec"].get("terminationGracePeriodSeconds")
        most = float(self._config.eviction_max_pod_grace)
        return most if own is None else min(most, float(own))

    def _end(self, pod: Object, how: ev.Evicted, annotations: dict[str, str]) -> bool:
        if is_critical(pod):
            log.warning("pod %s is critical and not evicted", full_name(pod))
            return False
        if not self._pods.end(pod, how):
            return False
        about = {"apiVersion": "v1", "kind": "Pod", **pod}
        self._tools.recorder.event(about, "Warning", how.reason, how.message, annotations=annotations)
        log.info("pod %s is evicted: %s", full_name(pod), how.message)
        return True


def thresholds_of(config: KubeletConfig, disks: Disks) -> list[Threshold]:
    """All that the configuration asks for. Raises BadThreshold."""
    settings = EvictionSettings(
        config.eviction_hard, config.eviction_soft, config.eviction_soft_grace, config.eviction_minimum_reclaim
    )
    return add_containerfs(make_thresholds(settings), disks.dedicated_images, disks.split)


def reclaims_for(signal: str, dedicated_images: bool, split: bool) -> frozenset[str]:
    """What may free the file system that a signal is about: "containers", "images". Pure."""
    if signals.RESOURCES[signal] not in (signals.STORAGE, "inodes"):
        return frozenset()
    images = signal in (signals.IMAGEFS, signals.IMAGEFS_INODES)
    nodefs = signal in (signals.NODEFS, signals.NODEFS_INODES)
    if not dedicated_images:
        return frozenset(("containers", "images"))
    if split:
        return frozenset(("images",)) if images else frozenset(("containers",))
    return frozenset() if nodefs else frozenset(("containers", "images"))
