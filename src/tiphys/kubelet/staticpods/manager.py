"""Static pods: from the sources to workers and mirrors.

A static pod has a worker like any other. When its manifest goes it is ended as if it had been deleted with its own
grace; one that changes is another pod of the same name, which starts when the former has ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Protocol

from tiphys.base.clock import Clock, rfc3339, rfc3339_micro
from tiphys.client.informer import Informer
from tiphys.client.types import Client
from tiphys.kubelet import events as ev
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.podspec import Object, grace_seconds, is_deleted, uid_of
from tiphys.kubelet.staticpods.files import FileSource
from tiphys.kubelet.staticpods.manifest import SEEN, is_static, mirrors, without_marks
from tiphys.kubelet.staticpods.mirrors import Key, MirroredStatuses, Mirrors, key_of
from tiphys.kubelet.staticpods.urls import UrlSource
from tiphys.kubelet.worker import PodWorker

log = logging.getLogger(__name__)

_API_WAIT = 2.0
"""Seconds that the start waits for the API, so that pods go on with what it knows of them."""


class Host(Protocol):
    """What of the kubelet static pods need."""

    config: KubeletConfig
    client: Client
    clock: Clock
    pods: Informer
    workers: dict[str, PodWorker]

    def own_node(self) -> Object: ...

    def start_pod(self, pod: Object) -> None: ...

    def resave(self, worker: PodWorker) -> None: ...


class StaticPods:
    """See the module's docstring."""

    def __init__(self, host: Host, statuses: MirroredStatuses, group: asyncio.TaskGroup) -> None:
        self._host = host
        self._statuses = statuses
        self._group = group
        self._mirrors = Mirrors(
            host.client, host.clock, group, statuses, host.own_node, self._pod_of, lambda key: self._is_ending(key)
        )
        self._wanted: dict[str, Mapping[str, dict[str, Any]]] = {}
        """By source, by UID."""
        self._running: dict[Key, PodWorker] = {}
        self._starting = False
        self.ready = asyncio.Event()
        """Set when every source has been read: what is left of other pods may go."""

    async def begin(self) -> None:
        """Start what the sources have; they are followed from now on."""
        config, host = self._host.config, self._host
        sources: list[FileSource | UrlSource] = []
        if config.static_pod_path is not None:
            period = config.file_check_frequency
            files = FileSource(
                config.static_pod_path, config.node_name, host.clock, period, lambda pods: self._apply("file", pods)
            )
            self._wanted["file"] = {}
            sources.append(files)
        if config.static_pod_url:
            url, headers, period = config.static_pod_url, config.static_pod_url_header, config.http_check_frequency
            sources.append(
                UrlSource(url, headers, config.node_name, host.clock, period, lambda pods: self._apply("http", pods))
            )
        self._expected = len(sources)
        self._read: set[str] = set()
        if not sources:
            self.ready.set()
            return
        await self._wait_for_api()
        self._starting = True
        for source in sources:
            if isinstance(source, FileSource):
                source.look()
            self._group.create_task(source.run(), name="static pods")
        self._starting = False

    async def _wait_for_api(self) -> None:
        try:
            async with asyncio.timeout(_API_WAIT):
                await self._host.pods.wait_synced()
        except TimeoutError:
            log.info("the API server does not answer: static pods start without it")

    def _apply(self, source: str, pods: list[dict[str, Any]]) -> None:
        self._wanted[source] = {uid_of(pod): pod for pod in pods}
        self._read.add(source)
        self._settle()
        if len(self._read) == self._expected and not self.ready.is_set():
            self.ready.set()
            for key in set(self._statuses.mirrors) - set(self._running):
                self._mirrors.reconcile(key)

    def _settle(self) -> None:
        """End what is not wanted any more, start what is and may."""
        wanted = {uid: pod for pods in self._wanted.values() for uid, pod in pods.items()}
        for worker in list(self._running.values()):
            if worker.uid not in wanted:
                self._end(worker)
        for uid, pod in wanted.items():
            worker_ = self._running.get(key_of(pod))
            if worker_ is None:
                self._start(pod)
            elif worker_.uid == uid and not is_deleted(worker_.state.pod):
                self._update(worker_, pod)

    def _start(self, pod: dict[str, Any]) -> None:
        uid = uid_of(pod)
        if uid in self._host.workers:
            log.warning("static pod %s/%s is not started: another pod has its UID %s", *key_of(pod), uid)
            return
        seen = rfc3339_micro(self._host.clock.time())
        marked = {**pod, "metadata": {**pod["metadata"], "annotations": {**pod["metadata"]["annotations"], SEEN: seen}}}
        mirror = self._host.pods.get(*key_of(pod))
        if self._starting and mirror is not None and mirrors(mirror, pod) and mirror.get("status"):
            marked["status"] = mirror["status"]
        self._host.start_pod(marked)
        self._running[key_of(pod)] = self._host.workers[uid]
        self._mirrors.reconcile(key_of(pod))

    def _update(self, worker: PodWorker, pod: dict[str, Any]) -> None:
        """A manifest that names its UID was changed: this is the same pod."""
        former = worker.state.pod
        if without_marks(former) == without_marks(pod):
            return
        seen = former["metadata"]["annotations"][SEEN]
        annotations = {**pod["metadata"]["annotations"], SEEN: seen}
        worker.post(ev.PodChanged({**pod, "metadata": {**pod["metadata"], "annotations": annotations}}))

    def _end(self, worker: PodWorker) -> None:
        pod = worker.state.pod
        if is_deleted(pod):
            return
        grace = grace_seconds(pod)
        until = rfc3339(self._host.clock.time() + grace)
        meta = {**pod["metadata"], "deletionTimestamp": until, "deletionGracePeriodSeconds": grace}
        worker.post(ev.PodChanged({**pod, "metadata": meta}))

    def finished(self, worker: PodWorker) -> None:
        """A pod's worker is done; another pod may have waited for its name."""
        key = key_of(worker.state.pod)
        if is_static(worker.state.pod) and self._running.get(key) is worker:
            del self._running[key]
            self._settle()
            self._mirrors.reconcile(key)

    # --- mirrors

    def mirror_changed(self, old: Object | None, new: Object | None) -> None:
        """The API's object came, changed or went."""
        pod = new if new is not None else old
        if pod is None:
            return
        key = key_of(pod)
        if new is None:
            self._forget(key, pod)
        elif old is None or uid_of(old) != uid_of(new):
            if old is not None:
                self._forget(key, old)
            self._statuses.mirrors[key] = new
            self._show(key, new)
        else:
            self._statuses.mirrors[key] = new
            self._statuses.observe(new)
        if self.ready.is_set() or key in self._running:
            self._mirrors.reconcile(key)

    def _show(self, key: Key, mirror: Object) -> None:
        """Write to a new mirror what is known of its pod."""
        worker = self._running.get(key)
        if worker is not None and worker.state.version and mirrors(mirror, worker.state.pod):
            self._host.resave(worker)

    def _forget(self, key: Key, mirror: Object) -> None:
        known = self._statuses.mirrors.get(key)
        if known is not None and uid_of(known) == uid_of(mirror):
            del self._statuses.mirrors[key]
        self._statuses.forget(uid_of(mirror))
        worker = self._running.get(key)
        if worker is not None:
            worker.post(ev.StatusSaved(worker.state.version))  # nobody is left to be told

    def _pod_of(self, key: Key) -> Object | None:
        worker = self._running.get(key)
        return worker.state.pod if worker is not None else None

    def _is_ending(self, key: Key) -> bool:
        pod = self._pod_of(key)
        return pod is not None and is_deleted(pod)
