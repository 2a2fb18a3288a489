"""Sets up the volumes of pods under root_dir/pods/UID/volumes and keeps their contents current.

`ensure` may be called again at any time: what is there already is left as it is, what changed is renewed.
ConfigMaps and Secrets are watched (sources.py), tokens have a date: nothing is polled. Nothing that the end of a pod
needs is in memory: what is mounted for it is read from the kernel.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tiphys.api.quantity import parse
from tiphys.base.clock import Clock
from tiphys.base.errors import TiphysError
from tiphys.client.types import Client
from tiphys.kubelet import userns
from tiphys.kubelet.config import KubeletConfig
from tiphys.kubelet.downward import PodFacts
from tiphys.kubelet.podspec import Object, uid_of
from tiphys.kubelet.sources import ObjectSources
from tiphys.kubelet.volumes import emptydir, hostpath, mounts
from tiphys.kubelet.volumes.atomic import write_payload
from tiphys.kubelet.volumes.claims import Bound, BoundError, Claims, NotReady
from tiphys.kubelet.volumes.contents import FILLED, Contents
from tiphys.kubelet.volumes.nested import nested_mount_points
from tiphys.kubelet.volumes.payload import VolumeError
from tiphys.kubelet.volumes.persistent import Attached, attach, attach_nfs, detach_unused
from tiphys.kubelet.volumes.references import find_volume, referenced, source_of, used_volumes
from tiphys.kubelet.volumes.tokens import Tokens
from tiphys.kubelet.volumes.waiting import timed_out

log = logging.getLogger(__name__)

_PLUGINS = {
    "configMap": "kubernetes.io~configmap",
    "secret": "kubernetes.io~secret",
    "projected": "kubernetes.io~projected",
    "downwardAPI": "kubernetes.io~downward-api",
    "emptyDir": "kubernetes.io~empty-dir",
}
_IN_MEMORY = frozenset({"secret", "projected", "downwardAPI"})
"""What must not get to a disk."""
_CLAIMS = ("persistentVolumeClaim", "ephemeral")


class VolumesError(TiphysError):
    """Volumes that could not be set up: one event text each in `messages`, the names of those in `unmounted`."""

    def __init__(self, messages: tuple[str, ...], unmounted: tuple[str, ...]) -> None:
        super().__init__("; ".join(messages))
        self.messages = messages
        self.unmounted = unmounted


class VolumeManager:
    """Volumes of all pods of a node. `allocatable` tells what the node has for pods, `warn` records a Warning about a
    pod by reason and message."""

    def __init__(
        self,
        config: KubeletConfig,
        client: Client,
        clock: Clock,
        sources: ObjectSources,
        allocatable: Callable[[], Mapping[str, str]] = dict,
        warn: Callable[[Object, str, str], None] = lambda pod, reason, message: None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._sources = sources
        self._allocatable = allocatable
        self._warn = warn
        self._contents = Contents(sources, Tokens(client, clock))
        self._claims = Claims(client)
        self._attached: dict[str, dict[str, Attached]] = {}
        """Of each pod, by its uid: where its volumes of claims and shares are."""
        self._images: dict[tuple[str, str], str] = {}
        """ID of the image that a pod's volume is, by uid and name."""

    async def ensure(self, facts: PodFacts) -> None:
        """Set up every volume of the pod. Raises VolumesError."""
        pod, uid = facts.pod, uid_of(facts.pod)
        # Secrets below, and set-uid programs of containers: nothing for other users of the host.
        self._config.pods_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
        await self._sources.use(uid, referenced(pod))
        self._contents.begin(uid)
        failed: dict[str, VolumeError | OSError] = {}
        used = used_volumes(pod)
        for volume in pod["spec"].get("volumes") or ():
            if volume["name"] not in used:
                continue
            try:
                await self._ensure_one(facts, volume)
            except (VolumeError, OSError) as error:
                failed[volume["name"]] = error
        if failed:
            raise VolumesError(_messages(failed), tuple(failed))

    def renew_at(self, uid: str) -> float | None:
        """When a token of the pod is due for renewal; None if it has none."""
        return self._contents.renew_at(uid)

    def set_image(self, uid: str, name: str, image: str) -> None:
        """The image of a pod's image volume is here, with this ID."""
        self._images[uid, name] = image

    def image(self, pod: Object, name: str) -> str:
        """ID of the image that a volume is; "" for other volumes. Raises VolumeError."""
        volume = find_volume(pod, name)
        if volume is None or volume.get("image") is None:
            return ""
        try:
            return self._images[uid_of(pod), name]
        except KeyError:
            raise VolumeError(f'the image of volume "{name}" is not here') from None

    def path(self, pod: Object, name: str) -> Path:
        """Where a volume is on this host. Raises VolumeError."""
        volume = find_volume(pod, name)
        if volume is None:
            raise VolumeError(f'cannot find volume "{name}"')
        if "hostPath" in volume:
            return Path(str(volume["hostPath"]["path"]))
        if source_of(volume) in (*_CLAIMS, "nfs"):
            return self._found(pod, name).path
        return self._root(pod, volume)

    def device(self, pod: Object, name: str) -> Attached:
        """A raw block volume. Raises VolumeError."""
        return self._found(pod, name)

    def _found(self, pod: Object, name: str) -> Attached:
        attached = self._attached.get(uid_of(pod), {}).get(name)
        if attached is None:
            raise VolumeError(f'volume "{name}" is not set up')
        return attached

    def is_readonly(self, pod: Object, name: str) -> bool:
        """Whether containers may only read a volume, whatever their mounts say."""
        volume = find_volume(pod, name)
        attached = self._attached.get(uid_of(pod), {}).get(name)
        filled = volume is not None and source_of(volume) in FILLED
        return filled or (attached is not None and attached.readonly)

    def groups(self, pod: Object) -> tuple[int, ...]:
        """GIDs that volumes ask the pod's containers to have."""
        return tuple(group for one in self._attached.get(uid_of(pod), {}).values() for group in one.groups)

    async def tear_down(self, uid: str) -> None:
        """Unmount and remove all volumes and files of the pod, in a thread: the kernel takes its time to let go of a
        mount. Raises OSError."""
        self._sources.release(uid)
        self._contents.forget(uid)
        self._attached.pop(uid, None)
        self._images = {key: image for key, image in self._images.items() if key[0] != uid}
        userns.release(self._config, uid)
        await asyncio.to_thread(mounts.remove_directory, self._config.pod_dir(uid))
        await asyncio.to_thread(detach_unused, self._config)

    async def remove(self, uids: Iterable[str]) -> None:
        """`tear_down` of pods that are gone; what cannot be removed now is logged, and left for the next collection."""
        for uid in uids:
            try:
                await self.tear_down(uid)
            except OSError as error:
                log.warning("what is left of pod %s cannot be removed yet: %s", uid, error)

    def _root(self, pod: Object, volume: Mapping[str, Any]) -> Path:
        source = source_of(volume)
        if source not in _PLUGINS:
            raise VolumeError(f"volumes of type {source} are not supported by this node")
        return self._config.pod_dir(uid_of(pod)) / "volumes" / _PLUGINS[source] / str(volume["name"])

    async def _ensure_one(self, facts: PodFacts, volume: Mapping[str, Any]) -> None:
        source, pod, name = source_of(volume), facts.pod, str(volume["name"])
        attached = self._attached.setdefault(uid_of(pod), {})
        if source == "image":
            return
        if source == "hostPath":
            hostpath.prepare_host_path(volume["hostPath"])
        elif source in _CLAIMS:
            if name not in attached:
                bound = await self._claims.bound(pod, volume)
                attached[name] = await self._attach(pod, bound)
        elif source == "nfs":
            if name not in attached:
                readonly = bool(volume["nfs"].get("readOnly"))
                path = await attach_nfs(self._config, pod, name, volume["nfs"], (), readonly=readonly)
                attached[name] = Attached(path, readonly)
        else:
            await self._ensure_own(facts, volume, source)

    async def _ensure_own(self, facts: PodFacts, volume: Mapping[str, Any], source: str) -> None:
        """A volume that is the pod's alone: an empty directory, filled or not."""
        root, pod = self._root(facts.pod, volume), facts.pod
        plugins = self._config.pod_dir(uid_of(pod)) / "plugins"
        ready = plugins / "kubernetes.io~empty-dir" / str(volume["name"]) / "ready"
        memory = -1
        if self._config.memory_volumes:
            memory = parse(str(self._allocatable().get("memory") or "0")).value
        if source == "emptyDir":
            emptydir.prepare_empty_dir(root, ready, volume.get("emptyDir") or {}, pod, memory)
            return
        files = await self._contents.make(facts, source, volume[source] or {})
        wrapper = {"medium": "Memory"} if source in _IN_MEMORY else {}
        emptydir.prepare_empty_dir(root, ready, wrapper, pod, memory)
        try:
            for path in nested_mount_points(pod, str(volume["name"])):
                (root / path).mkdir(parents=True, exist_ok=True)
        except ValueError as error:
            raise VolumeError(str(error)) from error
        group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
        write_payload(root, files, self._clock.time(), None if group is None else int(group))

    async def _attach(self, pod: Object, bound: Bound) -> Attached:
        try:
            self._check_alone(pod, bound)
            self._check_shareable(pod, bound)
            return await attach(self._config, pod, bound, self._clock, partial(self._warn, pod))
        except (VolumeError, OSError) as error:
            raise BoundError(str(bound.volume["metadata"]["name"]), error) from error

    def _check_alone(self, pod: Object, bound: Bound) -> None:
        """ReadWriteOncePod: nobody else has it."""
        if "ReadWriteOncePod" not in bound.access_modes:
            return
        name = bound.volume["metadata"]["name"]
        for uid, volumes in self._attached.items():
            if uid != uid_of(pod) and any(one.name == name for one in volumes.values()):
                raise VolumeError("volume uses the ReadWriteOncePod access mode and is already in use by another pod")

    def _check_shareable(self, pod: Object, bound: Bound) -> None:
        """Warn when a local volume that others have is about to be given to another group."""
        wanted = (pod["spec"].get("securityContext") or {}).get("fsGroup")
        name = bound.volume["metadata"]["name"]
        others = [volumes for uid, volumes in self._attached.items() if uid != uid_of(pod)]
        used = [one for volumes in others for one in volumes.values() if one.name == name and not one.block]
        if wanted is None or "local" not in bound.volume["spec"] or not used:
            return
        found = used[0].path.stat().st_gid
        if found != int(wanted):
            text = f"The requested fsGroup is {wanted}, but the volume {name} has GID {found}."
            self._warn(pod, "AlreadyMountedVolume", f"{text} The volume may not be shareable.")


def _messages(failed: Mapping[str, VolumeError | OSError]) -> tuple[str, ...]:
    """Event texts: one for each volume, and one for all that are not there yet because of their claims."""
    unprocessed = {name: error for name, error in failed.items() if isinstance(error, NotReady)}
    messages = [
        f'{_step(error)} for volume "{getattr(error, "volume", name)}" : {_text(error)}'
        for name, error in failed.items()
        if name not in unprocessed
    ]
    if unprocessed:
        why = "; ".join(map(str, unprocessed.values()))
        messages.append(timed_out(tuple(failed), tuple(unprocessed), why))
    return tuple(messages)


def _step(error: VolumeError | OSError) -> str:
    return error.step if isinstance(error, VolumeError) else "MountVolume.SetUp failed"


def _text(error: VolumeError | OSError) -> str:
    if isinstance(error, VolumeError):
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)


def orphans(config: KubeletConfig, known: set[str]) -> list[str]:
    """UIDs of pods that have a directory here but are not `known`."""
    try:
        return sorted(set(os.listdir(config.pods_dir)) - known)
    except FileNotFoundError:
        return []
