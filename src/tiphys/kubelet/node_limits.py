"""What one node grants its pods and how it holds them to it: one object of app.py for the rest of the kubelet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from tiphys.base.clock import Clock
from tiphys.client.events import EventRecorder
from tiphys.kubelet.allocation import Policies
from tiphys.kubelet.allocations import Allocations, Judge
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.limits import ANY, Assigned, make_rules
from tiphys.kubelet.machine import Machine
from tiphys.kubelet.podspec import Object
from tiphys.kubelet.tiers import Tiers
from tiphys.kubelet.worker import PodWorker
from tiphys.runtime.types import Cgroups


class NodeLimits:
    """See the module's docstring. `judge` says whether a pod has room, `resized` is told who got more or less."""

    def __init__(
        self,
        config: KubeletConfig,
        machine: Machine,
        cgroups: Cgroups,
        clock: Clock,
        recorder: EventRecorder,
        group: asyncio.TaskGroup,
        workers: Mapping[str, PodWorker],
        judge: Judge,
        resized: Callable[[PodWorker], None],
    ) -> None:
        self._workers = workers
        self.rules = make_rules(config, machine, cgroups)
        self.tiers = Tiers(config, machine, cgroups, clock, recorder)
        policies = Policies(config.cpu_manager_policy, config.memory_manager_policy, self.rules.limited_swap)
        self.allocations = Allocations(config, clock, group, workers, judge, resized, self.tiers, policies)
        self.tiers.begin()

    async def run(self) -> None:
        """Until all limits of the node hold."""
        await self.tiers.run()

    async def clear(self) -> None:
        """Remove what is left of pods that are gone; all pods of the node must be known."""
        await self.tiers.remove_orphans(self._workers)

    def assigned(self, pod: Object, container: Object) -> Assigned:
        """CPUs and memory nodes of a pod's container."""
        return ANY
