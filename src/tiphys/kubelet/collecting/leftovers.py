"""Removes what pods that are gone have left: containers, directories, logs and links to them, cgroups.

Pods clean up after themselves; this is for what a crash, a reboot or a failed removal left over. Once a minute, and it
looks only at directories, so it costs nothing while there is nothing to do.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from functools import partial
from pathlib import Path

from tiphys.base.clock import Clock
from tiphys.base.errors import TiphysError
from tiphys.client.events import EventRecorder
from tiphys.kubelet import labels
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.logdirs import drop_pod_logs, is_ours
from tiphys.kubelet.podspec import Object
from tiphys.kubelet.volumes.manager import VolumeManager, orphans
from tiphys.runtime.types import Runtime

log = logging.getLogger(__name__)

PERIOD = 60.0
_TIERS = ("", "burstable", "besteffort")


class Leftovers:
    """`living` has the UIDs of pods that are attended to."""

    def __init__(
        self,
        config: KubeletConfig,
        runtime: Runtime,
        volumes: VolumeManager,
        living: Callable[[], Collection[str]],
    ) -> None:
        self._config = config
        self._runtime = runtime
        self._volumes = volumes
        self._living = living
        self.settled: Callable[[], bool] = lambda: True
        """Whether all sources of pods have told what they have: until then nothing is left over."""

    async def run(self, clock: Clock, recorder: EventRecorder, node: Object) -> None:
        """Until cancelled."""
        while True:
            await clock.sleep(PERIOD)
            try:
                await self.collect()
            except (TiphysError, OSError) as error:
                log.warning("leftovers of pods cannot be removed: %s", error)
                recorder.about(node, "Warning", "ContainerGCFailed", str(error))
            except Exception:  # what goes wrong here must not end the node
                log.exception("leftovers of pods could not be removed")

    async def collect(self) -> None:
        """Everything once. Raises TiphysError, OSError with the first thing that would not go, after all were tried."""
        if not self.settled():
            return
        errors: list[TiphysError | OSError] = []
        await self._sandboxes(errors)
        living = set(self._living())
        for uid in await asyncio.to_thread(orphans, self._config, living):
            if uid not in self._living():
                try:
                    await self._volumes.tear_down(uid)
                except (TiphysError, OSError) as error:
                    errors.append(error)
        for directory in await asyncio.to_thread(lambda: list(self._log_directories())):
            if directory.name.rpartition("_")[2] not in self._living():
                self._try(errors, partial(drop_pod_logs, self._config, directory))
        self._try(errors, self._links)
        self._try(errors, self._cgroups)
        if errors:
            raise errors[0]

    def _try(self, errors: list[TiphysError | OSError], work: Callable[[], None]) -> None:
        try:
            work()
        except (TiphysError, OSError) as error:
            errors.append(error)

    async def _sandboxes(self, errors: list[TiphysError | OSError]) -> None:
        """Containers and sandboxes of this node that belong to no pod."""
        name = self._config.node_name
        for container in await self._runtime.containers():
            if _is_left(container.spec.labels, name, self._living()):
                await self._remove(errors, self._runtime.remove_container(container.spec.id))
        for sandbox in await self._runtime.sandboxes():
            if _is_left(sandbox.spec.labels, name, self._living()):
                await self._remove(errors, self._runtime.remove_sandbox(sandbox.spec.id))

    async def _remove(self, errors: list[TiphysError | OSError], work: Awaitable[None]) -> None:
        try:
            await work
        except (TiphysError, OSError) as error:
            errors.append(error)

    def _log_directories(self) -> Iterable[Path]:
        """This node's, of whatever pods."""
        for entry in _children(self._config.log_dir):
            if is_ours(self._config, Path(entry)):
                yield Path(entry)

    def _links(self) -> None:
        """Links to logs that are gone, where they would have been this machine's pods'."""
        for entry in _children(self._config.container_log_dir):
            link = Path(entry)
            target = link.readlink() if link.is_symlink() else None
            if target is None or target.parent.exists() or not target.is_relative_to(self._config.log_dir):
                continue  # a file alone may be missing for the moment in which a log is rotated
            link.unlink(missing_ok=True)

    def _cgroups(self) -> None:
        for tier in _TIERS:
            parent = "/".join(filter(None, (self._config.cgroup_root, "kubepods", tier)))
            for name in self._runtime.cgroups.children(parent):
                if name.startswith("pod") and name.removeprefix("pod") not in self._living():
                    log.info("cgroup %s/%s belongs to no pod: removed", parent, name)
                    self._runtime.cgroups.remove(f"{parent}/{name}")


def _is_left(known: Mapping[str, str], node: str, living: Collection[str]) -> bool:
    return known.get(labels.NODE) == node and known.get(labels.POD_UID) not in living


def _children(directory: Path | None) -> list[str]:
    try:
        return [entry.path for entry in os.scandir(directory)] if directory is not None else []
    except FileNotFoundError:
        return []
