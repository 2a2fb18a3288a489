"""What a node does besides running pods: eviction, garbage collection, its own graceful shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tiphys.base.clock import Clock
from tiphys.base.errors import TiphysError
from tiphys.client.events import EventRecorder
from tiphys.kubelet.collecting.image_policy import ImagePolicy
from tiphys.kubelet.collecting.images import ImageCollector
from tiphys.kubelet.collecting.leftovers import Leftovers
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.ending import PodEnder
from tiphys.kubelet.eviction.manager import EvictionManager, EvictionTools
from tiphys.kubelet.eviction.meter import MachineMeter, Meter
from tiphys.kubelet.eviction.refusal import refusal
from tiphys.kubelet.metrics import KubeletMetrics
from tiphys.kubelet.node import NodeAgent
from tiphys.kubelet.podspec import Object
from tiphys.kubelet.shutdown.manager import NodeShutdown, follow_signal
from tiphys.kubelet.volumes.manager import VolumeManager
from tiphys.kubelet.worker import PodWorker
from tiphys.runtime.types import Runtime

if TYPE_CHECKING:
    from tiphys.kubelet.eviction.notify import MemoryWatch

log = logging.getLogger(__name__)


class NodeDuties:
    """Over the kubelet's parts; `run` once what runs already is taken up."""

    def __init__(
        self,
        config: KubeletConfig,
        runtime: Runtime,
        clock: Clock,
        recorder: EventRecorder,
        agent: NodeAgent,
        workers: Mapping[str, PodWorker],
        volumes: VolumeManager,
        metrics: KubeletMetrics,
        meter: Meter | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._recorder = recorder
        self._agent = agent
        meter = meter or MachineMeter(config, runtime, agent.machine)
        self.pods = PodEnder(workers)
        self.leftovers = Leftovers(config, runtime, volumes, workers.keys)
        policy = ImagePolicy(
            config.image_gc_high, config.image_gc_low, config.image_minimum_age, config.image_maximum_age
        )
        self.images = ImageCollector(
            policy, runtime, clock, recorder, agent.reference, meter.image_room, metrics.images_collected
        )
        self.shutdown = NodeShutdown(config, clock, self.pods, self._announce, agent.poke, metrics)
        tools = EvictionTools(clock, recorder, meter, self.pods, self, agent.reference, agent.poke, metrics)
        self.eviction = EvictionManager(config, tools)
        agent.pressures = lambda: self.eviction.conditions
        agent.troubles = self.troubles

    def refusal(self, pod: Object) -> tuple[str, str] | None:
        """(reason, message) when the node's state keeps the pod out."""
        return refusal(pod, self.eviction.conditions) or self.shutdown.refusal(pod)

    def troubles(self) -> Sequence[str]:
        """Why the node is not ready."""
        return self.shutdown.troubles()

    def _announce(self, reason: str, message: str) -> None:
        self._agent.event("Normal", reason, message)

    async def run(self) -> None:
        """Until cancelled."""
        with contextlib.ExitStack() as stack:
            if self._config.memcg_notification:
                stack.callback(self._watch_memory().close)
            async with asyncio.TaskGroup() as group:
                group.create_task(self.eviction.run(), name="eviction")
                group.create_task(self.images.run(), name="image collection")
                work = self.leftovers.run(self._clock, self._recorder, self._agent.reference)
                group.create_task(work, name="leftovers of pods")
                group.create_task(follow_signal(self.shutdown), name="SIGPWR")
                if self.shutdown.enabled:
                    from tiphys.kubelet.shutdown import logind

                    group.create_task(logind.follow(self.shutdown, self._config, self._clock), name="logind")

    def _watch_memory(self) -> MemoryWatch:
        from tiphys.kubelet.eviction.notify import MemoryWatch
        from tiphys.runtime.cgroups import detect

        root = self._config.cgroup_root
        own = root if "memory" in self._config.capacity else ""
        watch = MemoryWatch(detect(), own, f"{root}/kubepods", self.eviction.thresholds, self.eviction.wake)
        self.eviction.watch = watch
        return watch

    # --- what frees something without touching a pod

    async def remove_dead_containers(self) -> None:
        """Those whose pods run on without them, and all that pods that are gone left."""
        self.pods.forget_dead()
        try:
            await self.leftovers.collect()
        except (TiphysError, OSError) as error:
            log.warning("leftovers of pods cannot be removed: %s", error)

    async def remove_unused_images(self) -> None:
        try:
            await self.images.remove_unused()
        except (TiphysError, OSError) as error:
            log.warning("unused images cannot be removed: %s", error)
