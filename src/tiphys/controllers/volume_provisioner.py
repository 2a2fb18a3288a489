"""Having a volume made for a claim: by a provisioner outside, which the claim names from then on, or on the host.

A provisioner outside is asked by annotation, and makes a volume that refers to the claim. Our own is for tests and
development (`enable-hostpath-provisioner`): a directory on the machine of the manager.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from tiphys.api.meta import new_uid
from tiphys.base.errors import AlreadyExists, ApiError, NotFound, Retry
from tiphys.client.events import NORMAL, WARNING
from tiphys.client.resources import NODES, PERSISTENT_VOLUMES
from tiphys.client.types import Object
from tiphys.controllers.objects import annotations_of, name, namespace, spec
from tiphys.controllers.volume_binding import with_provisioner, without_selected_node
from tiphys.controllers.volume_plugins import (
    HOST_PATH,
    HOST_PATH_ROOT,
    NoPlugin,
    host_path_volume,
    provisioner_name,
    provisioner_plugin,
    provisioning_problem,
    volume_name,
)
from tiphys.controllers.volume_store import VolumeStore
from tiphys.controllers.volumes import SELECTED_NODE, class_of_claim

FAILED = "ProvisioningFailed"


class Provisioner:
    """Provisions for claims that no volume fits."""

    def __init__(self, store: VolumeStore, settings: Mapping[str, Any]) -> None:
        self._store = store
        self._enabled = bool(settings.get("enable-dynamic-provisioning", True))
        self._period = float(settings.get("pvclaimbinder-sync-period", 15.0))
        self._host_paths = bool(settings.get("enable-hostpath-provisioner", False))

    async def provision(self, claim: Object, storage_class: Object | None) -> None:
        """One try. Raises Conflict if the claim has changed, Retry if what failed may go well later."""
        if not self._enabled:
            return
        if storage_class is None:
            self._fail(claim, f'storageclass.storage.k8s.io "{class_of_claim(claim)}" not found')
            return
        try:
            plugin = provisioner_plugin(storage_class)
        except NoPlugin as error:
            self._fail(claim, str(error))
            return
        if plugin is None:
            await self._ask(claim, provisioner_name(storage_class))
        else:
            await self._make(claim, storage_class)

    def _fail(self, claim: Object, message: str) -> None:
        self._store.tell(claim, WARNING, FAILED, message)

    async def _ask(self, claim: Object, provisioner: str) -> None:
        claim = await self._named(claim, provisioner)
        message = (
            f"Waiting for a volume to be created either by the external provisioner '{provisioner}' "
            "or manually by the system administrator. If volume creation is delayed, please verify that "
            "the provisioner is running and correctly registered."
        )
        self._store.tell(claim, NORMAL, "ExternalProvisioning", message)

    async def _named(self, claim: Object, provisioner: str) -> Object:
        marked = with_provisioner(claim, provisioner)
        return claim if marked is None else await self._store.update_claim(marked)

    async def _make(self, claim: Object, storage_class: Object) -> None:
        if not spec(claim).get("dataSource"):
            claim = await self._named(claim, HOST_PATH)
        if await self._exists(claim):
            return
        problem = provisioning_problem(claim, storage_class, enabled=self._host_paths)
        if problem is None:
            problem = await self._node_problem(claim)
        if problem is not None:
            self._fail(claim, problem)
            return
        path = f"{HOST_PATH_ROOT}hostpath_pv/{new_uid()}"
        try:
            volume = host_path_volume(claim, storage_class, path)
            await asyncio.to_thread(os.makedirs, path, 0o750, True)
        except (NoPlugin, OSError) as error:
            await self._give_up(claim, storage_class, error)
            return
        await self._save(claim, volume, path)

    async def _exists(self, claim: Object) -> bool:
        try:
            await self._store.client.get(PERSISTENT_VOLUMES, volume_name(claim))
        except NotFound:
            return False
        return True

    async def _node_problem(self, claim: Object) -> str | None:
        node = annotations_of(claim).get(SELECTED_NODE)
        if node is None:
            return None
        found = await self._store.client.list(NODES, fields=f"metadata.name={node}")
        return None if found.items else f'Failed to get target node: node "{node}" not found'

    async def _give_up(self, claim: Object, storage_class: Object, error: Exception) -> None:
        """The scheduler chooses anew, if it was it that chose; else it is tried again if that may help."""
        freed = without_selected_node(claim)
        if freed is not None:
            claim = await self._store.update_claim(freed)
        self._fail(claim, f'Failed to provision volume with StorageClass "{name(storage_class)}": {error}')
        if isinstance(error, OSError):
            raise Retry(f"provisioning for claim {name(claim)} failed: {error}", self._period) from error

    async def _save(self, claim: Object, volume: Mapping[str, Any], path: str) -> None:
        """Record the volume; a directory that nothing speaks of is not left behind."""
        try:
            created = await self._store.client.create(PERSISTENT_VOLUMES, volume)
        except AlreadyExists:
            await asyncio.to_thread(os.rmdir, path)
            return
        except ApiError as error:
            key = f"{namespace(claim)}/{name(claim)}"
            self._fail(claim, f"Error creating provisioned PV object for claim {key}: {error}. Deleting the volume.")
            await asyncio.to_thread(os.rmdir, path)
            raise
        self._store.volumes.put(created)
        message = f"Successfully provisioned volume {name(created)} using {HOST_PATH}"
        self._store.tell(claim, NORMAL, "ProvisioningSucceeded", message)
