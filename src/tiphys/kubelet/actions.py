"""The kubelet's hands: carries out what a pod's state machine asks for, with the runtime and the API.

Every method posts what came of it to the worker; see instructions.py for which event answers what.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tiphys.base.clock import Clock
from tiphys.base.errors import ApiError, Conflict, NotFound, TiphysError
from tiphys.client.events import EventRecorder
from tiphys.client.resources import PODS, RUNTIME_CLASSES
from tiphys.client.types import Client
from tiphys.kubelet import events as ev
from tiphys.kubelet import instructions as do
from tiphys.kubelet import userns
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.downward import PodFacts
from tiphys.kubelet.dra.claims import ClaimError
from tiphys.kubelet.hooks import HookFailed, Hooks
from tiphys.kubelet.isolation import Isolation
from tiphys.kubelet.labels import record_of, sandbox_of
from tiphys.kubelet.limit_metrics import LimitMetrics
from tiphys.kubelet.limits import pod_resources
from tiphys.kubelet.logdirs import drop_log_link, drop_pod_logs, make_log_directory
from tiphys.kubelet.metrics import KubeletMetrics
from tiphys.kubelet.podspec import Object, field_path, find_container, full_name, name_of, namespace_of
from tiphys.kubelet.probes.counted import CountedProber
from tiphys.kubelet.probes.prober import Target
from tiphys.kubelet.probes.schedule import Asks, ProbeSchedule
from tiphys.kubelet.resizer import Resizer
from tiphys.kubelet.resizing import resizable
from tiphys.kubelet.specs import pod_dns, sandbox_spec
from tiphys.kubelet.starter import Starter
from tiphys.kubelet.staticpods.manifest import is_static
from tiphys.kubelet.status_manager import StatusManager
from tiphys.kubelet.termination import termination_message
from tiphys.kubelet.volumes.manager import VolumeManager, VolumesError
from tiphys.kubelet.volumes.waiting import VolumeWait
from tiphys.kubelet.worker import Hands, PodWorker
from tiphys.runtime.types import ContainerStatus, NoSuchContainer, Runtime, SandboxSpec

if TYPE_CHECKING:
    from tiphys.kubelet.plugins.node import NodePlugins

log = logging.getLogger(__name__)

_RETRY = 5.0
_MIN_GRACE = 2.0


@dataclass(frozen=True, slots=True)
class Tools:
    """What the hands work with."""

    config: KubeletConfig
    client: Client
    runtime: Runtime
    clock: Clock
    volumes: VolumeManager
    starter: Starter
    hooks: Hooks
    prober: Asks
    metrics: KubeletMetrics
    resizes: LimitMetrics
    statuses: StatusManager
    recorder: EventRecorder
    plugins: NodePlugins
    isolation: Isolation


class Actions(Hands):
    """Does it for real."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._config = tools.config
        self._runtime = tools.runtime
        self._clock = tools.clock

    def facts(self, worker: PodWorker) -> PodFacts:
        return self._tools.starter.facts(worker.state)

    async def ensure_volumes(self, worker: PodWorker) -> None:
        """Then again whenever a token is due, as long as the worker lives."""
        if not await self._ensure_volumes_once(worker):
            return
        worker.post(ev.VolumesReady())
        await self.keep_tokens(worker)

    async def _ensure_volumes_once(self, worker: PodWorker) -> bool:
        try:
            await self._tools.volumes.ensure(self.facts(worker))
        except VolumesError as error:
            waiting = worker.volume_wait
            worker.post(ev.VolumesFailed(*waiting.failed(error.messages, error.unmounted, self._clock.time())))
        except OSError as error:
            text = (f"cannot set up volumes: {error}",)
            worker.post(ev.VolumesFailed(*worker.volume_wait.failed(text, (), self._clock.time())))
        else:
            worker.volume_wait = VolumeWait()
            return True
        return False

    async def keep_tokens(self, worker: PodWorker) -> None:
        """Renew the pod's tokens in time."""
        while (at := self._tools.volumes.renew_at(worker.uid)) is not None:
            await self._clock.sleep(max(1.0, at - self._clock.time()))
            await self.refresh_volumes(worker)

    async def refresh_volumes(self, worker: PodWorker) -> None:
        """Bring the contents of volumes up to date; what fails is said and stays as it was."""
        try:
            await self._tools.volumes.ensure(self.facts(worker))
        except (VolumesError, OSError) as error:
            for message in getattr(error, "messages", (str(error),)):
                self.record_event(worker, do.RecordEvent("Warning", "FailedMount", message))

    async def create_sandbox(self, worker: PodWorker, attempt: int) -> None:
        pod = worker.state.pod
        try:
            await self._tools.plugins.prepare(pod)
        except ClaimError as error:
            text = f"Failed to prepare dynamic resources: {error}"
            worker.post(ev.SandboxFailed(str(error), ("FailedPrepareDynamicResources", text)))
            return
        try:
            handler = await self._handler(pod)
            users = userns.mapping(self._config, pod)
            make_log_directory(self._config, self._config.pod_log_dir(namespace_of(pod), name_of(pod), worker.uid))
            wanted = replace(self._sandbox_spec(pod, attempt, users), handler=handler)
            status = await self._runtime.create_sandbox(wanted)
        except (TiphysError, OSError) as error:
            worker.post(ev.SandboxFailed(str(error)))
        else:
            for reason, message in pod_dns(self._config, pod)[1]:
                self.record_event(worker, do.RecordEvent("Warning", reason, message))
            made = sandbox_of(status)
            self._tools.isolation.attached(pod, made)
            worker.post(ev.SandboxChanged(made))

    async def _handler(self, pod: Object) -> str:
        """Of the pod's RuntimeClass. Raises NotFound."""
        name = pod["spec"].get("runtimeClassName")
        return str((await self._tools.client.get(RUNTIME_CLASSES, str(name)))["handler"]) if name else ""

    async def remove_sandbox(self, worker: PodWorker, id: str) -> None:
        await self._insist(f"remove sandbox {id}", lambda: self._runtime.remove_sandbox(id))
        self._tools.isolation.removed(worker.uid, id)
        worker.post(ev.SandboxRemoved(id))

    async def remove_container(self, worker: PodWorker, id: str) -> None:
        await self._insist(f"remove container {id}", lambda: self._runtime.remove_container(id))
        drop_log_link(self._config, id)
        worker.post(ev.ContainerRemoved(id))

    async def _insist(self, what: str, action: Any) -> None:
        while True:
            try:
                await action()
            except (TiphysError, OSError) as error:
                log.warning("cannot %s, trying again: %s", what, error)
                await self._clock.sleep(_RETRY)
            else:
                return

    async def pull_image(self, worker: PodWorker, container: str) -> None:
        began = self._clock.monotonic()
        await self._tools.starter.pull(worker, container)
        worker.seconds_pulling += self._clock.monotonic() - began

    async def start_container(self, worker: PodWorker, wanted: do.StartContainer) -> None:
        try:
            await self._tools.isolation.isolate(worker.state)
        except (TiphysError, OSError) as error:
            worker.post(ev.StartFailed(wanted.container, "CreateContainerError", str(error)))
        else:
            await self._tools.starter.start(worker, wanted)

    def _sandbox_spec(self, pod: Object, attempt: int, users: tuple[int, int] | None) -> SandboxSpec:
        around = self._tools.starter.around
        alone = any(around.assigned(pod, container).exclusive for container in resizable(pod))
        limits = pod_resources(pod, around.rules, alone)
        return sandbox_spec(self._config, pod, attempt, limits, users)

    async def resize_pod(self, worker: PodWorker) -> None:
        began = self._clock.monotonic()
        error = await Resizer(self._runtime, self._tools.starter).run(worker)
        took = (self._clock.monotonic() - began) * 1000
        self._tools.resizes.duration.observe(took, "false" if error else "true")

    async def run_hook(self, worker: PodWorker, id: str, container: str) -> None:
        spec = find_container(worker.state.pod, container) or {}
        error = ""
        try:
            await self._hook(worker, spec, id, "postStart")
        except HookFailed as failed:
            error = str(failed)
        worker.post(ev.HookFinished(id, container, error))

    async def _hook(self, worker: PodWorker, container: Object, id: str, kind: str) -> None:
        hook = (container.get("lifecycle") or {}).get(kind)
        if hook:
            ips = self.facts(worker).pod_ips
            told = await self._tools.hooks.run(worker.state.pod, container, id, hook, ips[0] if ips else "")
            if told:
                self.record_event(worker, do.RecordEvent("Warning", "LifecycleHTTPFallback", told))

    async def stop_container(self, worker: PodWorker, wanted: do.StopContainer) -> None:
        started = self._clock.monotonic()
        if wanted.hook and wanted.grace > 0:
            await self._pre_stop(worker, wanted)
        if wanted.after:
            await self._wait_turn(worker, wanted.after, wanted.grace - (self._clock.monotonic() - started))
        left = max(_MIN_GRACE, wanted.grace - (self._clock.monotonic() - started))
        try:
            status = await self._runtime.stop_container(wanted.id, left)
        except NoSuchContainer:
            worker.post(ev.ContainerRemoved(wanted.id))
            worker.post(ev.StopFinished(wanted.id))
        except (TiphysError, OSError) as error:
            worker.post(ev.StopFinished(wanted.id, str(error)))
        else:
            worker.post(ev.ContainerChanged(record_of(status, termination_message(status))))
            worker.post(ev.StopFinished(wanted.id))

    async def _wait_turn(self, worker: PodWorker, others: tuple[str, ...], limit: float) -> None:
        """Until the `others` have ended, `limit` seconds at most."""
        changed = asyncio.Event()
        worker.listeners.add(changed.set)
        try:
            async with asyncio.timeout(max(0.0, limit)):
                while any(record.id in others for record in worker.state.running()):
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            log.info("containers of pod %s do not end in time: the others are stopped too", full_name(worker.state.pod))
        finally:
            worker.listeners.discard(changed.set)

    async def _pre_stop(self, worker: PodWorker, wanted: do.StopContainer) -> None:
        container = find_container(worker.state.pod, wanted.container) or {}
        try:
            async with asyncio.timeout(wanted.grace):
                await self._hook(worker, container, wanted.id, "preStop")
        except TimeoutError:
            log.info("preStop hook of %s did not end within its grace", wanted.container)
        except HookFailed as error:
            log.info("preStop hook of %s failed: %s", wanted.container, error)
            event = do.RecordEvent("Warning", "FailedPreStopHook", "PreStopHook failed", wanted.container)
            self.record_event(worker, event)

    async def probe(self, worker: PodWorker, wanted: do.StartProbes) -> None:
        container = find_container(worker.state.pod, wanted.container)
        if container is None:
            return
        ips = self.facts(worker).pod_ips

        def verdict(kind: str, healthy: bool) -> None:
            worker.post(ev.Probed(wanted.id, wanted.container, kind, healthy))

        def event(reason: str, message: str) -> None:
            self.record_event(worker, do.RecordEvent("Warning", reason, message, wanted.container))

        schedule = ProbeSchedule(
            CountedProber(self._tools.prober, self._tools.metrics, self._clock, worker.state.pod),
            self._clock,
            wanted,
            Target(wanted.id, container, ips[0] if ips else "127.0.0.1"),
            verdict,
            event,
            ready=worker.state.verdicts.get((wanted.id, "readiness")),
        )
        await schedule.run()

    async def delete_pod(self, worker: PodWorker) -> None:
        pod = worker.state.pod
        if is_static(pod):
            worker.post(ev.PodRemoved(pod))  # there is no object; its mirror goes when all is cleaned up
            return
        while True:
            try:
                await self._tools.client.delete(PODS, name_of(pod), namespace_of(pod), grace_seconds=0, uid=worker.uid)
            except (NotFound, Conflict):
                return
            except (ApiError, OSError) as error:
                log.warning("cannot delete pod %s, trying again: %s", full_name(pod), error)
                await self._clock.sleep(_RETRY)
            else:
                return

    async def clean_up(self, worker: PodWorker, logs: bool) -> None:
        pod = worker.state.pod
        await self._insist("release claims", lambda: self._tools.plugins.release(worker.uid))
        await self._insist("clean up", lambda: self._tools.volumes.tear_down(worker.uid))
        if logs:
            directory = self._config.pod_log_dir(namespace_of(pod), name_of(pod), worker.uid)
            await asyncio.to_thread(drop_pod_logs, self._config, directory)
        worker.post(ev.CleanedUp())

    def save_status(self, worker: PodWorker, status: Mapping[str, Any], version: int) -> None:
        began = self._clock.monotonic()

        def saved(version: int) -> None:
            self._tools.metrics.status_sync.observe(self._clock.monotonic() - began)
            worker.post(ev.StatusSaved(version))

        shown = self._tools.plugins.overlay(worker.state.pod, status)
        self._tools.statuses.set(worker.state.pod, shown, version, saved)

    def resave(self, worker: PodWorker) -> None:
        """The health of what the pod's containers hold has changed."""
        self.save_status(worker, worker.state.status, worker.state.version)

    def record_event(self, worker: PodWorker, wanted: do.RecordEvent) -> None:
        pod = {"apiVersion": "v1", "kind": "Pod", **worker.state.pod}
        path = field_path(pod, wanted.container) if wanted.container else ""
        self._tools.recorder.event(pod, wanted.type, wanted.reason, wanted.message, field_path=path)

    async def observe(self, worker: PodWorker, id: str) -> None:
        """A container changed: read it and tell the worker."""
        try:
            status: ContainerStatus = await self._runtime.container(id)
        except NoSuchContainer:
            worker.post(ev.ContainerRemoved(id))
        except (TiphysError, OSError) as error:
            log.warning("container %s cannot be looked at, trying again: %s", id, error)
            await self._clock.sleep(_RETRY)
            await self.observe(worker, id)
        else:
            worker.post(ev.ContainerChanged(record_of(status, termination_message(status))))
