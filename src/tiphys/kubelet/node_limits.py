"""What one node grants its pods and how it holds them to it: one object of app.py for the rest of the kubelet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from tiphys.base.clock import Clock
from tiphys.base.errors import TiphysError
from tiphys.client.events import EventRecorder
from tiphys.kubelet.allocation import Policies
from tiphys.kubelet.allocations import Allocations, Judge
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.limit_metrics import LimitMetrics
from tiphys.kubelet.limits import Assigned, make_rules
from tiphys.kubelet.machine import Machine
from tiphys.kubelet.managers.cpus import StaticCpus
from tiphys.kubelet.managers.manager import Managers
from tiphys.kubelet.oom import OomWatch
from tiphys.kubelet.podspec import Object, is_deleted, is_terminal, uid_of
from tiphys.kubelet.resizing import resizable
from tiphys.kubelet.state import PodState
from tiphys.kubelet.tasks import Tasks
from tiphys.kubelet.tiers import Tiers
from tiphys.kubelet.worker import PodWorker
from tiphys.runtime.types import Resources, Runtime

log = logging.getLogger(__name__)


def holds_resources(state: PodState) -> bool:
    """Whether a pod counts when there is to be room for another one: until it is over, or ended and to be deleted."""
    if state.removed or state.rejection is not None or is_terminal(state.pod):
        return False
    return not is_deleted(state.pod) or bool(state.running() or state.starting)


class NodeLimits:
    """See the module's docstring. `judge` says whether a pod has room, `resized` is told who got more or less."""

    def __init__(
        self,
        config: KubeletConfig,
        machine: Machine,
        runtime: Runtime,
        clock: Clock,
        recorder: EventRecorder,
        group: asyncio.TaskGroup,
        workers: Mapping[str, PodWorker],
        managers: Managers,
        metrics: LimitMetrics,
        judge: Judge,
        resized: Callable[[PodWorker], None],
    ) -> None:
        self._workers, self._runtime, self._managers = workers, runtime, managers
        self.metrics, self._clock = metrics, clock
        self._tasks = Tasks(group)
        self.rules = make_rules(config, machine, runtime.cgroups)
        self.tiers = Tiers(config, machine, runtime.cgroups, clock, recorder)
        policies = Policies(config.cpu_manager_policy, config.memory_manager_policy, self.rules.limited_swap)
        self.allocations = Allocations(config, clock, group, workers, judge, resized, self, policies, metrics)
        log_file = config.kernel_log
        self._oom = OomWatch(log_file, config.node_name, recorder) if log_file is not None else None
        self.tiers.begin()

    async def run(self) -> None:
        """Until cancelled: see that the limits of the node hold, and tell when its memory was not enough."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.tiers.run(), name="cgroups of pods")
            if self._oom is not None:
                group.create_task(self._oom.run(), name="kernel log")

    async def clear(self) -> None:
        """Take back what pods have that are gone; all pods of the node must be known."""
        self._managers.keep_only(uid for uid, worker in self._workers.items() if not is_terminal(worker.state.pod))
        self._share()
        await self.tiers.remove_orphans(self._workers)

    # --- pods that come, change and go: told by the allocations

    def note(self, pod: Object) -> None:
        """The node has this pod, with this much."""
        self.tiers.note(pod)
        if is_terminal(pod):
            self._release(uid_of(pod))

    def drop(self, uid: str) -> None:
        """It is gone."""
        self.tiers.drop(uid)
        self._release(uid)

    # --- CPUs and memory of their own

    def place(self, pod: Object) -> tuple[str, str] | None:
        """Give the containers of a new pod their CPUs and memory; why the pod cannot run here, or None."""
        if not self._managers.active:
            return None
        began, metrics = self._clock.monotonic(), self.metrics
        refusal = self._managers.admit(pod)
        metrics.admission.observe((self._clock.monotonic() - began) * 1000)
        self._count(pod, refusal)
        self._share()
        return refusal

    def _count(self, pod: Object, refusal: tuple[str, str] | None) -> None:
        metrics, reason, text = self.metrics, *(refusal or ("", ""))
        metrics.aligned.inc()
        metrics.cpu_pinned.inc(by=self._managers.wants_cpus(pod))
        metrics.memory_pinned.inc(by=self._managers.wants_memory(pod))
        if reason == "TopologyAffinityError":
            metrics.misaligned.inc()
        elif "memorymanager" in text:
            metrics.memory_failed.inc()
        elif reason:
            metrics.cpu_failed.inc()

    @property
    def exclusive_cpus(self) -> StaticCpus | None:
        """Who has which CPUs for himself, where there is such a policy."""
        return self._managers.cpu_manager

    def assigned(self, pod: Object, container: Object) -> Assigned:
        """CPUs and memory nodes of a pod's container."""
        return self._managers.assigned(pod, container)

    def _release(self, uid: str) -> None:
        if self._managers.release(uid):
            self._share()

    def _share(self) -> None:
        """Containers that share CPUs get what is left, or what came back."""
        if self._managers.cpu_manager is not None:
            self._tasks.replace("shared CPUs", self._rewrite())

    async def _rewrite(self) -> None:
        for worker in list(self._workers.values()):
            names = {container["name"]: container for container in resizable(worker.state.pod)}
            for record in worker.state.running():
                if record.name in names:
                    assigned = self._managers.assigned(worker.state.pod, names[record.name])
                    await self._confine(record.id, assigned.cpus)

    async def _confine(self, id: str, cpus: str) -> None:
        try:
            status = await self._runtime.container(id)
            if status.spec.resources.cpuset_cpus != cpus:
                await self._runtime.update(id, Resources(cpuset_cpus=cpus))
        except (TiphysError, OSError) as error:
            log.warning("container %s cannot be moved to CPUs %s: %s", id, cpus, error)
