"""The kubelet: one node's pods, from the API to the runtime and back.

    kubelet = Kubelet(config, client, runtime, clock)
    await kubelet.run()              # until cancelled; containers go on

It registers the node, takes up what runs already, then follows the pods that are bound to the node: one
PodWorker each. It is told of everything by watches and by the runtime's events.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from collections.abc import Iterable, Mapping, Sequence

from tiphys.base.clock import Clock
from tiphys.base.errors import TiphysError
from tiphys.client.events import EventRecorder
from tiphys.client.informer import Informer
from tiphys.client.resources import NODES, PODS, SERVICES
from tiphys.client.types import Client
from tiphys.kubelet import events as ev
from tiphys.kubelet import labels
from tiphys.kubelet.actions import Actions, Tools
from tiphys.kubelet.admission import Refusal, Verdict, judge
from tiphys.kubelet.allocation import effective
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.duties import NodeDuties
from tiphys.kubelet.eviction.meter import Meter
from tiphys.kubelet.eviction.refusal import is_critical
from tiphys.kubelet.hooks import Hooks
from tiphys.kubelet.isolation import Guard, Isolation
from tiphys.kubelet.labels import Record, SandboxRecord, record_of, sandbox_of
from tiphys.kubelet.limit_metrics import LimitMetrics
from tiphys.kubelet.logdirs import drop_pod_logs
from tiphys.kubelet.managers.manager import Managers
from tiphys.kubelet.metering import metered
from tiphys.kubelet.metrics import KubeletMetrics
from tiphys.kubelet.node import NodeAgent
from tiphys.kubelet.node_limits import NodeLimits, holds_resources
from tiphys.kubelet.orphans import orphan_pod
from tiphys.kubelet.plugins.node import NodePlugins
from tiphys.kubelet.podmetrics import PodMetrics
from tiphys.kubelet.podspec import Object, full_name, is_deleted, phase_of, uid_of
from tiphys.kubelet.probes.dialing import Dial
from tiphys.kubelet.probes.prober import Prober
from tiphys.kubelet.probes.schedule import Asks
from tiphys.kubelet.room import Room
from tiphys.kubelet.sole import sole
from tiphys.kubelet.sources import ObjectSources
from tiphys.kubelet.starter import Starter, Surroundings
from tiphys.kubelet.state import PodState
from tiphys.kubelet.staticpods.manager import StaticPods
from tiphys.kubelet.staticpods.manifest import is_mirror
from tiphys.kubelet.staticpods.mirrors import MirroredStatuses
from tiphys.kubelet.tasks import Tasks
from tiphys.kubelet.termination import termination_message
from tiphys.kubelet.volumes.manager import VolumeManager, orphans
from tiphys.kubelet.volumes.references import has_changing_volumes
from tiphys.kubelet.worker import PodWorker
from tiphys.runtime.types import ContainerEvent, ContainerStatus, Runtime, SandboxStatus, State

log = logging.getLogger(__name__)

_RETRY = 2.0
COLLECTED_AT_ONCE = 64
"""Finished pods, whose objects refer to each other, are collected so many at a time: left alone, such cycles grow old,
and Python looks at old objects only when there are a quarter more of them."""


class Kubelet:
    """See the module's docstring. `started` is set when it follows its pods. `listeners`: see server.listen.

    `guard` keeps what network policies say; `dial` connects from inside the node's network, else from this process's.
    """

    def __init__(
        self,
        config: KubeletConfig,
        client: Client,
        runtime: Runtime,
        clock: Clock,
        *,
        prober: Asks | None = None,
        listeners: Sequence[socket.socket] = (),
        meter: Meter | None = None,
        guard: Guard | None = None,
        dial: Dial | None = None,
    ) -> None:
        self.config = config
        self.client = client
        self.metrics = KubeletMetrics()
        self.runtime = runtime = metered(runtime, self.metrics, clock)
        self.clock = clock
        self.recorder = EventRecorder(client, clock, "kubelet", config.node_name)
        self.agent = NodeAgent(config, client, runtime, clock, self.recorder)
        self._managers = managers = Managers(config)
        around = (client, clock, self.agent, lambda: self.workers.values(), managers, self.metrics)
        self.plugins = NodePlugins(config, *around)
        fields = f"spec.nodeName={config.node_name}"
        self.pods = Informer(client, PODS, clock, fields=fields)
        self._services = Informer(client, SERVICES, clock)
        self._node = Informer(client, NODES, clock, fields=f"metadata.name={config.node_name}")
        self._listeners = listeners
        self._meter = meter
        self._prober = prober or Prober(runtime, dial)
        self._dial = dial
        self._isolation = Isolation(guard)
        self.workers: dict[str, PodWorker] = {}
        self._finished = 0
        self.started = asyncio.Event()
        self._found: dict[str, ev.Observed] = {}
        self._labels: dict[str, Mapping[str, str]] = {}
        self._group: asyncio.TaskGroup
        self._actions: Actions
        self._statuses: MirroredStatuses
        self._static: StaticPods
        self._tasks: Tasks

    async def run(self) -> None:
        """Until cancelled. Raises Permanent when another kubelet uses the root directory."""
        async with sole(self.config.root_dir, self.clock), asyncio.TaskGroup() as group:
            self._set_up(group)
            if self.config.serve_api:
                await self._serve_api()
            for name, work in (
                ("events", self.recorder.run()),
                ("pods", self.pods.run()),
                ("services", self._services.run()),
                ("runtime events", self._follow_runtime()),
                ("plugins", self.plugins.run()),
                ("limits of the node", self.limits.run()),
                ("node", self._run_node()),
            ):
                group.create_task(work, name=name)
            await self._take_up()
            group.create_task(self.duties.run(), name="duties of the node")
            self.started.set()

    def _set_up(self, group: asyncio.TaskGroup) -> None:
        config, clock = self.config, self.clock
        self._group = group
        self._tasks = Tasks(group)
        self._statuses = MirroredStatuses(self.client, clock, group)
        self._static = StaticPods(self, self._statuses, group)
        detection, period = config.change_detection, config.sync_frequency
        sources = ObjectSources(self.client, clock, group, self._sources_changed, detection, period)
        self.volumes = VolumeManager(config, self.client, clock, sources, lambda: self.agent.allocatable, self._warn)
        self.duties = NodeDuties(
            config,
            self.runtime,
            clock,
            self.recorder,
            self.agent,
            self.workers,
            self.volumes,
            self.metrics,
            self._meter,
        )
        self.duties.leftovers.settled = self._static.ready.is_set
        shared = (config, self.agent.machine, self.runtime, clock, self.recorder, group, self.workers, self._managers)
        counted = LimitMetrics(self.metrics.registry)
        self.limits = NodeLimits(*shared, counted, self._judge, self._refresh_volumes)
        self.agent.before_report = self.limits.tiers.recheck
        around = Surroundings(
            config=config,
            client=self.client,
            runtime=self.runtime,
            clock=clock,
            volumes=self.volumes,
            sources=sources,
            services=self._services,
            metrics=self.metrics,
            recorder=self.recorder,
            plugins=self.plugins,
            machine=self.agent.machine,
            rules=self.limits.rules,
            assigned=self.limits.assigned,
            allocatable=lambda: self.agent.allocatable,
        )
        self._actions = Actions(
            Tools(
                config=config,
                client=self.client,
                runtime=self.runtime,
                clock=clock,
                volumes=self.volumes,
                starter=Starter(around),
                hooks=Hooks(self.runtime, clock, self._dial),
                prober=self._prober,
                metrics=self.metrics,
                resizes=counted,
                statuses=self._statuses,
                recorder=self.recorder,
                plugins=self.plugins,
                isolation=self._isolation,
            )
        )
        self.plugins.resave = self._actions.resave

    async def _serve_api(self) -> None:
        """Take connections before the node says that it is there."""
        from tiphys.kubelet.server.api import NodeApi
        from tiphys.kubelet.server.listen import listen, listen_plainly

        listening = asyncio.Event()

        def ready(port: int) -> None:
            self.agent.port = port
            listening.set()

        api = NodeApi(self)
        plain = (
            (self.config.address, api.settings.read_only_port, api.open),
            (api.settings.health_address, api.settings.health_port, api.health),
        )
        for address, port, handler in plain:
            if port:
                work = listen_plainly(address, port, handler, self.clock)
                self._group.create_task(work, name=f"port {port}")
        work = listen(self.config, api.handle, api.certificate, self.clock, ready, self._listeners)
        serving = self._group.create_task(work, name="node API")
        serving.add_done_callback(lambda _: listening.set())
        await listening.wait()

    async def _run_node(self) -> None:
        await self.agent.register()
        self._node.subscribe(self.agent.observe)
        self._group.create_task(self._node.run(), name="own node")
        await self.agent.run()

    async def _take_up(self) -> None:
        """What runs here, the pods that should, and what must go because its pod is gone."""
        self._found = await self._observe_all()
        self._isolation.observed(self._found, self._labels)
        await self._static.begin()
        await self.pods.wait_synced()
        for pod in sorted(self.pods.list(), key=self._turn):
            self._pod_changed(None, pod)
        self._isolation.settle()
        self.pods.subscribe(self._pod_changed)
        if self._static.ready.is_set():
            self._clear_leftovers()
        else:
            self._group.create_task(self._clear_when_ready(), name="leftovers")

    async def _clear_when_ready(self) -> None:
        """A pod that a source has not told of yet may still come."""
        await self._static.ready.wait()
        self._clear_leftovers()

    def _clear_leftovers(self) -> None:
        for uid, found in self._found.items():
            if uid not in self.workers:
                self._add_orphan(uid, found)
        gone = orphans(self.config, set(self.workers))
        self._group.create_task(self.volumes.remove(gone), name="volumes of pods that are gone")
        for uid in gone:
            for directory in self.config.log_dir.glob(f"*_{uid}"):
                drop_pod_logs(self.config, directory)
        self._found, self._labels = {}, {}
        self._group.create_task(self.limits.clear(), name="cgroups of pods that are gone")
        self._group.create_task(self.plugins.release_strangers(self.workers), name="claims of pods that are gone")

    async def _observe_all(self) -> dict[str, ev.Observed]:
        began = self.clock.monotonic()
        sandboxes, containers = await self._list_runtime()
        self.metrics.relist.observe(self.clock.monotonic() - began)
        self.metrics.last_seen.set(self.clock.time())
        by_uid: dict[str, tuple[list[SandboxRecord], list[Record]]] = {}
        for sandbox in sandboxes:
            uid = sandbox.spec.labels[labels.POD_UID]
            self._labels[uid] = sandbox.spec.labels
            by_uid.setdefault(uid, ([], []))[0].append(sandbox_of(sandbox))
        for container in containers:
            record = record_of(container, termination_message(container))
            by_uid.setdefault(container.spec.labels[labels.POD_UID], ([], []))[1].append(record)
        return {uid: ev.Observed(tuple(boxes), tuple(records)) for uid, (boxes, records) in by_uid.items()}

    async def _list_runtime(self) -> tuple[list[SandboxStatus], list[ContainerStatus]]:
        """All that is this node's; tries until the runtime answers."""
        name = self.config.node_name
        while True:
            try:
                sandboxes = await self.runtime.sandboxes()
                containers = await self.runtime.containers()
            except (TiphysError, OSError) as error:
                log.warning("the runtime does not answer, trying again: %s", error)
                await self.clock.sleep(_RETRY)
                continue
            mine = [one for one in sandboxes if one.spec.labels.get(labels.NODE) == name]
            return mine, [one for one in containers if one.spec.labels.get(labels.NODE) == name]

    # --- pods

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if is_mirror(new or old or {"metadata": {}}):
            self._static.mirror_changed(old, new)
            return
        if new is None:
            if old is not None and (worker := self.workers.get(uid_of(old))) is not None:
                worker.post(ev.PodRemoved(old))
            return
        worker = self.workers.get(uid_of(new))
        if worker is None:
            self.start_pod(new)
            return
        before = worker.state.pod
        worker.post(ev.PodChanged(self.limits.allocations.changed(new)))
        self.limits.allocations.retry(worker.uid)
        self._statuses.observe(new)
        if before["metadata"].get("labels") != new["metadata"].get("labels") or before["metadata"].get(
            "annotations"
        ) != new["metadata"].get("annotations"):
            self._refresh_volumes(worker)

    def start_pod(self, pod: Object) -> None:
        """Run a pod that is not run yet."""
        found = self._found.get(uid_of(pod)) or ev.Observed((), ())
        worker = self._new_worker(self.limits.allocations.take_up(pod, found.containers))
        self._isolation.took_up(worker.uid, pod)
        self.limits.allocations.resume(worker)
        fresh = not found.sandboxes and not found.containers and self._is_fresh(pod)
        refusal = self.limits.place(worker.state.pod) if fresh else None
        if refusal is not None:
            worker.post(ev.Rejected(*refusal))
            worker.post(found)
        elif self.plugins.wants(pod, found, fresh):
            self._group.create_task(self._ask_plugins(worker, found, fresh), name=f"devices of {full_name(pod)}")
        else:
            self._check(worker, found, fresh)

    async def _ask_plugins(self, worker: PodWorker, found: ev.Observed, fresh: bool) -> None:
        """Before anything else, as upstream: what it holds counts when its requests are looked at."""
        refusal = await self.plugins.admit(worker.state.pod)
        if refusal is not None:
            worker.post(ev.Rejected(*refusal))
        self._check(worker, found, fresh and refusal is None)

    def _check(self, worker: PodWorker, found: ev.Observed, fresh: bool) -> None:
        pod = worker.state.pod
        if fresh and (kept_out := self.duties.refusal(pod)) is not None:
            self._take_in(worker, kept_out)
        elif fresh:
            verdict = self._verdict(pod)
            if verdict.missing and is_critical(pod):
                self._group.create_task(self._preempt(worker, found, verdict), name=f"room for {full_name(pod)}")
                return
            self._take_in(worker, verdict.refusal)
        worker.post(found)
        self.limits.allocations.retry(worker.uid)

    async def _preempt(self, worker: PodWorker, found: ev.Observed, verdict: Verdict) -> None:
        """Make room for a critical pod, then take it in."""
        others = list(self._admitted(worker.uid))
        refusal = await Room(self.duties.pods, self.recorder, self.metrics).make(worker.state.pod, others, verdict)
        self._take_in(worker, refusal)
        worker.post(found)

    def _take_in(self, worker: PodWorker, refusal: Refusal | None) -> None:
        if refusal is None:
            self.limits.allocations.admit(worker.state.pod)
        else:
            self.metrics.admission_rejections.inc(refusal[0])
            worker.post(ev.Rejected(*refusal))

    def _judge(self, pod: Object) -> Refusal | None:
        """Why the node has no place for the pod."""
        return self._verdict(pod).refusal

    def _verdict(self, pod: Object) -> Verdict:
        node, allowed = self.plugins.at_least(self.own_node()), self.config.allowed_unsafe_sysctls
        return judge(pod, node, self._admitted(uid_of(pod)), allowed, self.agent.machine.apparmor)

    def _new_worker(self, pod: Object) -> PodWorker:
        state = PodState(pod, host_ips=self.config.node_ips, max_backoff=self.config.max_restart_period)
        worker = PodWorker(state, self._actions, self.clock, self._group, self._drop)
        self.workers[worker.uid] = worker
        PodMetrics(worker, self.metrics, self.clock)
        return worker

    def _turn(self, pod: Object) -> tuple[bool, str]:
        """At the start: pods that were admitted before come before others, old ones before new ones."""
        return self._is_fresh(pod), str(pod["metadata"].get("creationTimestamp") or "")

    def _is_fresh(self, pod: Object) -> bool:
        """Whether no kubelet has taken it up yet."""
        return phase_of(pod) == "Pending" and not is_deleted(pod) and not (pod.get("status") or {}).get("startTime")

    def resave(self, worker: PodWorker) -> None:
        """Hand over a pod's status once more: there is a new object to write it to."""
        self._actions.resave(worker)

    def own_node(self) -> Object:
        """The node's object in the API, as far as it is known."""
        return self._node.get("", self.config.node_name) or self.agent.node

    def _admitted(self, except_uid: str) -> Iterable[Object]:
        for uid, worker in self.workers.items():
            if uid != except_uid and holds_resources(worker.state):
                yield effective(worker.state.pod, worker.state.status)

    def _add_orphan(self, uid: str, found: ev.Observed) -> None:
        """Containers whose pod was removed while no kubelet ran: stop them and clean up."""
        log.info("pod %s is gone from the API: stopping what is left of it", uid)
        self.metrics.orphaned_pods.inc()
        pod = orphan_pod(uid, self._labels.get(uid, {}), found)
        worker = self._new_worker(pod)
        worker.post(found)
        worker.post(ev.PodRemoved(pod))

    def _drop(self, worker: PodWorker) -> None:
        self.workers.pop(worker.uid, None)
        self._statuses.forget(worker.uid)
        self.limits.allocations.forget(worker.uid)
        log.debug("pod %s is finished", full_name(worker.state.pod))
        self._static.finished(worker)
        self._finished += 1
        if self._finished % COLLECTED_AT_ONCE == 0:
            gc.collect()

    def _warn(self, pod: Object, reason: str, message: str) -> None:
        self.recorder.event({"apiVersion": "v1", "kind": "Pod", **pod}, "Warning", reason, message)

    # --- changes from elsewhere

    def _sources_changed(self, uid: str) -> None:
        worker = self.workers.get(uid)
        if worker is not None:
            worker.post(ev.SourcesChanged())
            self._refresh_volumes(worker)

    def _refresh_volumes(self, worker: PodWorker) -> None:
        if worker.volumes_ready and has_changing_volumes(worker.state.pod):
            self._tasks.replace(f"volumes {worker.uid}", self._actions.refresh_volumes(worker))

    async def _follow_runtime(self) -> None:
        """Tell workers what happens to their containers; after a gap, look at everything again."""
        while True:
            try:
                async for event in self.runtime.events():
                    self.metrics.last_seen.set(self.clock.time())
                    self._runtime_event(event)
            except (TiphysError, OSError) as error:
                log.warning("events of the runtime stopped, asking again: %s", error)
            await self.clock.sleep(_RETRY)
            for uid, found in (await self._observe_all()).items():
                if (worker := self.workers.get(uid)) is not None:
                    for record in found.containers:
                        worker.post(ev.ContainerChanged(record))

    def _runtime_event(self, event: ContainerEvent) -> None:
        worker = next((one for one in self.workers.values() if one.owns(event.sandbox)), None)
        if worker is None or event.state is not State.EXITED:
            return
        if event.container:
            key = f"observe {event.container}"
            self._tasks.replace(key, self._actions.observe(worker, event.container))
        elif worker.state.sandbox is not None:
            known = worker.state.sandbox
            worker.post(ev.SandboxChanged(SandboxRecord(known.id, known.attempt, running=False)))
