"""What becomes of a volume whose claim has gone: kept, deleted, or emptied for the next claim.

Volumes of CSI drivers are deleted by their provisioners, which watch for Released. Host paths are deleted here, and
emptied by a pod (`recycle`): that takes its time, so it runs as a task of its own, one a volume.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tiphys.base.errors import NotFound, Permanent, Retry
from tiphys.client.events import NORMAL, WARNING
from tiphys.client.informer import Informer
from tiphys.client.resources import PERSISTENT_VOLUMES
from tiphys.client.types import Object
from tiphys.controllers.objects import annotations_of, finalizers, name, namespace, spec, uid
from tiphys.controllers.volume_binder_state import keeps_phase, released
from tiphys.controllers.volume_binding import IN_TREE_FINALIZER, unbound_volume
from tiphys.controllers.volume_plugins import (
    HOST_PATH,
    NFS,
    NoPlugin,
    deletable_path,
    deleter_plugin,
    recycler_plugin,
    recycler_pod,
    recycler_template,
)
from tiphys.controllers.volume_recycler import scrub
from tiphys.controllers.volume_store import VolumeStore
from tiphys.controllers.volumes import (
    AVAILABLE,
    DELETE,
    FAILED,
    MIGRATED_TO,
    RECYCLE,
    RELEASED,
    RETAIN,
    claim_key,
    terminated,
)

log = logging.getLogger(__name__)

_FAILED_DELETE = (WARNING, "VolumeFailedDelete")
_FAILED_RECYCLE = (WARNING, "VolumeFailedRecycle")
_UNKNOWN = (WARNING, "VolumeUnknownReclaimPolicy")


class Reclaimer:
    """Carries out reclaim policies. `again` is told the volume to look at again, and after how many seconds."""

    def __init__(
        self,
        store: VolumeStore,
        pods: Informer,
        settings: Mapping[str, Any],
        again: Callable[[str, float], None],
    ) -> None:
        self._store = store
        self._pods = pods
        self._settings = settings
        self._again = again
        self._period = float(settings.get("pvclaimbinder-sync-period", 15.0))
        self._templates = {plugin: _template(plugin, settings) for plugin in (HOST_PATH, NFS)}
        self._recycling: set[str] = set()
        self._wanted: asyncio.Queue[Object] = asyncio.Queue()

    async def reclaim(self, volume: Object) -> None:
        """Say that the volume is released, and do what its policy asks for. Raises Conflict, Retry."""
        if not keeps_phase(volume):
            volume = await self._store.set_volume_phase(volume, RELEASED)
        if annotations_of(volume).get(MIGRATED_TO):
            return
        policy = spec(volume).get("persistentVolumeReclaimPolicy")
        if policy == DELETE:
            await self._delete(volume)
        elif policy == RECYCLE:
            self._start_recycling(volume)
        elif policy != RETAIN:
            message = "Volume has unrecognized PersistentVolumeReclaimPolicy"
            await self._store.set_volume_phase(volume, FAILED, message, _UNKNOWN)

    async def run(self) -> None:
        """Empty volumes until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                volume = await self._wanted.get()
                tasks.create_task(self._recycle_one(volume), name=f"recycle {name(volume)}")

    async def _delete(self, volume: Object) -> None:
        try:
            plugin = deleter_plugin(volume)
        except NoPlugin as error:
            await self._store.set_volume_phase(volume, FAILED, str(error), _FAILED_DELETE)
            return
        current = await self._still_released(volume) if plugin else None
        if current is None:
            return
        try:
            await asyncio.to_thread(remove_path, deletable_path(current))
        except (NoPlugin, OSError) as error:
            await self._store.set_volume_phase(current, FAILED, str(error), _FAILED_DELETE)
            if isinstance(error, OSError):
                raise Retry(f"deleting volume {name(volume)} failed: {error}", self._period) from error
            return
        left = [each for each in finalizers(current) if each != IN_TREE_FINALIZER]
        if left != list(finalizers(current)):
            meta = {**current["metadata"], "finalizers": left}
            current = await self._store.update_volume({**current, "metadata": meta})
        await self._store.client.delete(PERSISTENT_VOLUMES, name(current), uid=uid(current))

    async def _still_released(self, volume: Object) -> Object | None:
        """The volume as the server has it, if its data are nobody's still."""
        try:
            current = await self._store.client.get(PERSISTENT_VOLUMES, name(volume))
        except NotFound:
            return None
        same = uid(current) == uid(volume)
        return current if same and released(current, self._store.claims.by_key(claim_key(current))) else None

    def _start_recycling(self, volume: Object) -> None:
        if uid(volume) not in self._recycling:
            self._recycling.add(uid(volume))
            self._wanted.put_nowait(volume)

    async def _recycle_one(self, volume: Object) -> None:
        try:
            await self._recycle(volume)
        except Exception as error:  # noqa: BLE001 - a fault with one volume must not end the others' recycling
            log.warning("recycling volume %s failed: %s", name(volume), error)
            self._again(name(volume), self._period)
        finally:
            self._recycling.discard(uid(volume))

    async def _recycle(self, volume: Object) -> None:
        current = await self._still_released(volume)
        if current is None or spec(current).get("persistentVolumeReclaimPolicy") != RECYCLE:
            return
        users = self._users(current)
        if users and self._store.claims.by_key(claim_key(current)) is None:
            self._store.tell(current, NORMAL, "VolumeFailedRecycle", f"Volume is used by pods: {','.join(users)}")
            return
        plugin = recycler_plugin(current)
        if plugin is None:
            message = "No recycler plugin found for the volume!"
            await self._store.set_volume_phase(current, FAILED, message, _FAILED_RECYCLE)
            return
        pod = recycler_pod(current, self._templates[plugin], self._settings)
        problem = await scrub(self._store.client, pod, self._forward(current))
        if problem:
            await self._store.set_volume_phase(current, FAILED, f"Recycle failed: {problem}", _FAILED_RECYCLE)
            self._again(name(current), self._period)
            return
        self._store.tell(current, NORMAL, "VolumeRecycled", "Volume recycled")
        free = await self._store.update_volume(unbound_volume(current))
        await self._store.set_volume_phase(free, AVAILABLE)

    def _users(self, volume: Object) -> list[str]:
        pods = self._pods.by_index("claims", claim_key(volume))
        return sorted(f"{namespace(pod)}/{name(pod)}" for pod in pods if not terminated(pod))

    def _forward(self, volume: Object) -> Callable[[str, str], None]:
        return lambda type, message: self._store.tell(volume, type, "RecyclerPod", f"Recycler pod: {message}")


def _template(plugin: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The recycler's pod: that of the file which a setting names, else ours. Raises Permanent if it is no pod."""
    kind = "hostpath" if plugin == HOST_PATH else "nfs"
    path = settings.get(f"pv-recycler-pod-template-filepath-{kind}")
    if not path:
        return recycler_template()
    import yaml

    try:
        pod = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise Permanent(f"{path} is no template of a recycler: {error}") from error
    if not isinstance(pod, dict) or not (pod.get("spec") or {}).get("volumes"):
        raise Permanent(f"pod specification ({path}): does not contain any volume(s)")
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {}, **pod}


def remove_path(path: str) -> None:
    """Delete a directory or file and all that is in it; nothing is fine."""
    target = Path(path)
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
