"""Starting a container: its image, its spec, create, start; each failure with the reason that its status shows."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tiphys.base.clock import Clock
from tiphys.base.errors import TiphysError
from tiphys.client.events import EventRecorder
from tiphys.client.informer import Informer
from tiphys.client.types import Client
from tiphys.kubelet import events as ev
from tiphys.kubelet.addresses import pod_addresses
from tiphys.kubelet.backoff import PullBackoff
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.devices.grants import Grants
from tiphys.kubelet.devices.pool import AllocationError
from tiphys.kubelet.downward import PodFacts
from tiphys.kubelet.dra.claims import ClaimError
from tiphys.kubelet.env import ConfigError, make_env, service_links
from tiphys.kubelet.envfiles import file_value
from tiphys.kubelet.images import ImageError, Images, Wanted
from tiphys.kubelet.instructions import StartContainer
from tiphys.kubelet.labels import record_of
from tiphys.kubelet.limits import Assigned, Rules
from tiphys.kubelet.machine import Machine
from tiphys.kubelet.metrics import KubeletMetrics
from tiphys.kubelet.podspec import Object, field_path, find_container, is_host_network, name_of, namespace_of
from tiphys.kubelet.registries.accounts import make_plugins
from tiphys.kubelet.registries.counts import ImageCounts
from tiphys.kubelet.sources import ObjectSources
from tiphys.kubelet.specs import Setting, container_spec
from tiphys.kubelet.state import PodState
from tiphys.kubelet.staticpods.manifest import is_static
from tiphys.kubelet.termination import termination_message
from tiphys.kubelet.volumes.images import image_volumes
from tiphys.kubelet.volumes.manager import VolumeManager
from tiphys.kubelet.worker import PodWorker
from tiphys.runtime.types import ContainerSpec, ContainerStatus, Image, Runtime, State

if TYPE_CHECKING:
    from tiphys.kubelet.plugins.node import NodePlugins


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What containers are made from, besides their pods."""

    config: KubeletConfig
    client: Client
    runtime: Runtime
    clock: Clock
    volumes: VolumeManager
    sources: ObjectSources
    services: Informer
    metrics: KubeletMetrics
    recorder: EventRecorder
    plugins: NodePlugins
    machine: Machine
    rules: Rules
    assigned: Callable[[Object, Object], Assigned]
    """CPUs and memory nodes of a pod's container."""
    allocatable: Callable[[], Mapping[str, str]]


def target_id(state: PodState, container: Object) -> str:
    """Of the running container that an ephemeral one targets; "" for none. Raises ConfigError when it does not run."""
    name = container.get("targetContainerName")
    if not name:
        return ""
    found = next((record.id for record in state.running() if record.name == name), "")
    if not found:
        raise ConfigError(f"unable to find target container {name}")
    return found


class Starter:
    """Pulls and starts."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        config = around.config
        store, clock = around.runtime.images, around.clock
        self._counts = ImageCounts(around.metrics.registry)
        plugins = make_plugins(config, around.client, clock, self._counts)
        self._images = Images(config, store, clock, around.sources, plugins, self._counts)

    @property
    def around(self) -> Surroundings:
        return self._around

    def facts(self, state: PodState) -> PodFacts:
        """What the pod may be told about itself now."""
        host = tuple(state.host_ips)
        own = pod_addresses(state.sandbox.ips if state.sandbox is not None else (), host)
        return PodFacts(
            pod=state.pod,
            pod_ips=host if is_host_network(state.pod) else own,
            host_ips=host,
            node_name=self._around.config.node_name,
            allocatable=self._around.allocatable(),
        )

    async def pull(self, worker: PodWorker, name: str) -> None:
        """-> ImageReady or StartFailed."""
        pod = worker.state.pod
        container = find_container(pod, name) or {}
        mounted = {mount["name"] for mount in container.get("volumeMounts") or ()}
        wanted = Wanted(str(container.get("image") or ""), str(container.get("imagePullPolicy") or "IfNotPresent"))
        try:
            for volume, source in image_volumes(pod).items():
                if volume in mounted:
                    made = await self._ensure(worker, source)
                    self._around.volumes.set_image(worker.uid, volume, made.id)
            image = await self._ensure(worker, wanted, name)
        except ImageError as error:
            self._pull_failed(worker, name, error)
        else:
            worker.post(ev.ImageReady(name, image.id))

    async def _ensure(self, worker: PodWorker, wanted: Wanted, container: str = "") -> Image:
        """An image of the pod; events are about `container`, or about the pod itself."""
        pod = worker.state.pod
        image = await self._images.ensure(pod, wanted, lambda *event: self._event(pod, container, *event))
        worker.pull_backoffs.pop(wanted.name, None)
        return image

    def _pull_failed(self, worker: PodWorker, name: str, error: ImageError) -> None:
        retry_at = 0.0
        if error.reason == "ErrImagePull":
            backoff = worker.pull_backoffs.setdefault(error.image, PullBackoff())
            retry_at = backoff.failed(self._around.clock.time(), str(error))
        worker.post(ev.StartFailed(name, error.reason, str(error), retry_at, error.image))

    async def start(self, worker: PodWorker, wanted: StartContainer) -> None:
        """-> ContainerStarted or StartFailed."""
        try:
            spec = await self._spec(worker, wanted)
        except ConfigError as error:
            worker.post(ev.StartFailed(wanted.container, "CreateContainerConfigError", str(error)))
            return
        except (TiphysError, OSError) as error:
            worker.post(ev.StartFailed(wanted.container, "CreateContainerError", str(error)))
            return
        if await self._create(worker, spec, wanted.container):
            await self._start(worker, spec, wanted.container)

    async def _spec(self, worker: PodWorker, wanted: StartContainer) -> ContainerSpec:
        around, pod = self._around, worker.state.pod
        container = find_container(pod, wanted.container)
        image = await around.runtime.images.get(wanted.image)
        sandbox = worker.state.sandbox
        if container is None or image is None or sandbox is None:
            raise ConfigError("the container, its image or its sandbox has gone")
        if not is_static(pod):
            await around.services.wait_synced()
        linked = pod["spec"].get("enableServiceLinks") is not False
        services = service_links(around.services.list(), namespace_of(pod), linked)
        facts, target = self.facts(worker.state), target_id(worker.state, container)
        env = make_env(facts, container, around.sources, services, partial(file_value, around.volumes, pod))
        grants = await self._grants(pod, container)
        machine, volumes = around.machine, around.volumes
        setting = Setting(around.config, facts, volumes, env, image, sandbox.id, machine, around.rules, target, grants)
        setting = replace(setting, assigned=around.assigned(pod, container))
        return around.plugins.apply(container_spec(setting, container, wanted), grants, pod)

    async def _grants(self, pod: Object, container: Object) -> Grants:
        try:
            return await self._around.plugins.grants(pod, container)
        except (AllocationError, ClaimError) as error:
            raise ConfigError(str(error)) from error

    async def _create(self, worker: PodWorker, spec: ContainerSpec, name: str) -> bool:
        runtime = self._around.runtime
        try:
            if spec.id in worker.state.records:
                await runtime.remove_container(spec.id)  # created by a kubelet that was killed before it started it
            await runtime.create_container(spec)
        except (TiphysError, OSError) as error:
            self._counts.mounted(spec, failed=True)
            worker.post(ev.StartFailed(name, "CreateContainerError", str(error)))
            return False
        self._event(worker.state.pod, name, "Normal", "Created", "Container created")
        return True

    async def _start(self, worker: PodWorker, spec: ContainerSpec, name: str) -> None:
        runtime = self._around.runtime
        try:
            status = await runtime.start_container(spec.id)
        except (TiphysError, OSError) as error:
            self._counts.mounted(spec, failed=True)
            await self._keep_failed(worker, spec.id)
            worker.post(ev.StartFailed(name, "RunContainerError", str(error)))
            return
        self._counts.mounted(spec, failed=False)
        self._event(worker.state.pod, name, "Normal", "Started", "Container started")
        self._link_log(worker.state.pod, status.spec, name)
        worker.post(ev.ContainerStarted(record_of(status, termination_message(status))))

    async def _keep_failed(self, worker: PodWorker, id: str) -> None:
        """A container that could not be run counts as one that ended, for its status and the back-off."""
        runtime = self._around.runtime
        try:
            status: ContainerStatus = await runtime.container(id)
            if status.state is State.EXITED:
                worker.post(ev.ContainerChanged(record_of(status)))
            else:
                await runtime.remove_container(id)
        except TiphysError:
            return

    def _link_log(self, pod: Object, spec: ContainerSpec, name: str) -> None:
        """/var/log/containers/POD_NAMESPACE_CONTAINER-ID.log, where log collectors look."""
        directory = self._around.config.container_log_dir
        if directory is None:
            return
        link = directory / f"{name_of(pod)}_{namespace_of(pod)}_{name}-{spec.id}.log"
        try:
            directory.mkdir(parents=True, exist_ok=True)
            draft = Path(f"{link}.new")
            draft.unlink(missing_ok=True)
            os.symlink(spec.log_path, draft)
            draft.rename(link)
        except OSError as error:
            self._event(pod, name, "Warning", "Failed", f"cannot link its log: {error}")

    def _event(self, pod: Object, name: str, type: str, reason: str, message: str) -> None:
        about = {"apiVersion": "v1", "kind": "Pod", **pod}
        path = field_path(pod, name) if name else ""
        self._around.recorder.event(about, type, reason, message, field_path=path)
