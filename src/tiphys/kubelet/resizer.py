"""Carries out a resize: the pod's cgroup and its running containers, in the order that keeps every limit valid.

Memory first, then CPU. Where the pod grows its cgroup comes before its containers, else after them; of the containers
those that shrink come first. Harmless when repeated: what is right already is left alone. A container's new sizes are
noted with it as they are written, so that a kubelet that is killed goes on where it was.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

from tiphys.base.errors import TiphysError
from tiphys.kubelet import events as ev
from tiphys.kubelet import labels
from tiphys.kubelet.allocation import SCALABLE
from tiphys.kubelet.labels import Record, record_of
from tiphys.kubelet.limits import ANY, container_resources, pod_resources
from tiphys.kubelet.podspec import Object, full_name
from tiphys.kubelet.resizing import Sizes, changes, needs_restart, resizable, running, wanted_sizes
from tiphys.kubelet.specs import cgroup_parent
from tiphys.kubelet.starter import Starter
from tiphys.kubelet.termination import termination_message
from tiphys.kubelet.worker import PodWorker
from tiphys.runtime.types import Resources, Runtime, RuntimeFailure

log = logging.getLogger(__name__)

_FILES = {
    "memory": ("memory_limit", "memory_swap"),
    "cpu": ("cpu_shares", "cpu_weight", "cpu_quota", "cpu_period", "cpuset_cpus", "cpuset_mems"),
}


class Resizer:
    """Of one node. `starter` knows by which rules containers are made."""

    def __init__(self, runtime: Runtime, starter: Starter) -> None:
        self._runtime, self._cgroups, self._starter = runtime, runtime.cgroups, starter

    async def run(self, worker: PodWorker) -> str:
        """-> ContainerChanged for each container, ResizeFinished. Returns why it failed, or ""."""
        error = ""
        try:
            await self._resize(worker)
        except (TiphysError, OSError) as failed:
            error = str(failed)
            log.info("pod %s cannot be resized now: %s", full_name(worker.state.pod), error)
        worker.post(ev.ResizeFinished(error))
        return error

    async def _resize(self, worker: PodWorker) -> None:
        pod, around = worker.state.pod, self._starter.around
        path = cgroup_parent(around.config, pod)
        exclusive = any(around.assigned(pod, container).exclusive for container in resizable(pod))
        wanted, current = pod_resources(pod, around.rules, exclusive), self._cgroups.get(path)
        if current is None:
            raise RuntimeFailure(f'unable to get pod cgroup memory config for pod "{full_name(pod)}"')
        todo = [(c, r) for c, r in running(worker.state) if changes(pod, c, r) and not needs_restart(pod, c, r)]
        await self._check_memory(worker, path, current, wanted, todo)
        for name in SCALABLE[::-1]:
            before, after = pod_steps(name, current, wanted)
            for step in before:
                self._cgroups.set(path, step)
            for container, record in shrinking_first(pod, name, todo):
                await self._resize_container(worker, container, record, name)
            for step in after:
                self._cgroups.set(path, step)
        await self._note(worker, todo)

    async def _resize_container(self, worker: PodWorker, container: Object, record: Record, name: str) -> None:
        pod, around = worker.state.pod, self._starter.around
        assigned = around.assigned(pod, container) if name == "cpu" else ANY
        numbers = container_resources(pod, container, around.rules, assigned)
        partly = Resources(**{field: getattr(numbers, field) for field in _FILES[name]})
        known = worker.state.records.get(record.id, record)
        have = mixed(known.resources or {}, container.get("resources") or {}, name)
        await self._runtime.update(record.id, partly, {labels.RESOURCES: json.dumps(have)})
        await self._tell(worker, record)

    async def _note(self, worker: PodWorker, todo: list[tuple[Object, Record]]) -> None:
        """Now they have all that they are granted."""
        for container, record in todo:
            await self._runtime.update(record.id, Resources(), labels.resource_labels(worker.state.pod, container))
            await self._tell(worker, record)

    async def _tell(self, worker: PodWorker, record: Record) -> None:
        status = await self._runtime.container(record.id)
        worker.post(ev.ContainerChanged(record_of(status, termination_message(status))))

    async def _check_memory(
        self, worker: PodWorker, path: str, current: Resources, wanted: Resources, todo: list[tuple[Object, Record]]
    ) -> None:
        """Nobody gets a limit below what is in use. Raises RuntimeFailure."""
        pod = worker.state.pod
        shrinks = wanted.memory_limit > 0 and not 0 < current.memory_limit <= wanted.memory_limit
        containers = list(_shrinking_memory(pod, todo))
        if not shrinks and not containers:
            return
        usage = self._cgroups.usage(path)
        if usage is None:
            raise RuntimeFailure(f'unable to read memory usage for pod "{full_name(pod)}"')
        errors = []
        if shrinks and usage.memory_bytes >= wanted.memory_limit:
            limit = wanted.memory_limit
            errors.append(f"attempting to set pod memory limit ({limit}) below current usage ({usage.memory_bytes})")
        for record, limit in containers:
            used = (await self._runtime.usage(record.id)).memory_bytes
            if used >= limit:
                what = f'container "{record.name}" memory limit ({limit})'
                errors.append(f"attempting to set {what} below current usage ({usage.memory_bytes})")
        if errors:
            text = errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]"
            raise RuntimeFailure(f"cannot decrease memory limits: {text}")


def _shrinking_memory(pod: Object, todo: list[tuple[Object, Record]]) -> Iterator[tuple[Record, int]]:
    """(container, its new memory limit in bytes) of those that get a lower one, or one at all."""
    for container, record in todo:
        new = wanted_sizes(pod, container).limits["memory"].value
        old = Sizes.of(record.resources, record.pod_resources).limits["memory"].value
        if new and not 0 < old <= new:
            yield record, new


def mixed(old: dict[str, Any] | Any, new: Any, name: str) -> dict[str, Any]:
    """`old` requests and limits with the amounts of `name` from `new`."""
    made = dict(old)
    for kind in ("limits", "requests"):
        amount = (new.get(kind) or {}).get(name)
        rest = {key: value for key, value in (old.get(kind) or {}).items() if key != name}
        if made_kind := rest | ({} if amount is None else {name: amount}):
            made[kind] = made_kind
        else:
            made.pop(kind, None)
    return made


def shrinking_first(pod: Object, name: str, todo: list[tuple[Object, Record]]) -> list[tuple[Object, Record]]:
    """Those of `todo` whose `name` (cpu, memory) changes."""

    def grows(pair: tuple[Object, Record]) -> bool:
        new, old = wanted_sizes(pod, pair[0]), Sizes.of(pair[1].resources, pair[1].pod_resources)
        if new.limits[name] != old.limits[name]:
            return old.limits[name] < new.limits[name]
        return old.requests[name] < new.requests[name]

    return sorted((pair for pair in todo if name in changes(pod, *pair)), key=grows)


def pod_steps(name: str, current: Resources, wanted: Resources) -> tuple[list[Resources], list[Resources]]:
    """What to write to the pod's cgroup before its containers and after them. A limit that `wanted` does not have
    stays as it is."""
    before: list[Resources] = []
    after: list[Resources] = []
    if name == "memory":
        if wanted.memory_limit > 0 and wanted.memory_limit != current.memory_limit:
            grows = 0 < current.memory_limit < wanted.memory_limit
            (before if grows else after).append(Resources(memory_limit=wanted.memory_limit))
        return before, after
    quota = Resources(cpu_quota=wanted.cpu_quota, cpu_period=wanted.cpu_period)
    if wanted.cpu_quota > 0 and wanted.cpu_quota != current.cpu_quota:
        (before if 0 < current.cpu_quota < wanted.cpu_quota else after).append(quota)
    elif wanted.cpu_quota < 0 < current.cpu_quota:
        before.append(quota)
    shares = Resources(cpu_shares=wanted.cpu_shares, cpu_weight=wanted.cpu_weight)
    have, want = current.cpu_shares, wanted.cpu_shares
    if current.cpu_weight:
        have, want = current.cpu_weight, wanted.cpu_weight
    if have < want:
        before.append(shares)
    elif want < have:
        after.insert(0, shares)
    return before, after
