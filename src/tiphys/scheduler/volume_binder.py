"""Carries out what a placement means for claims: writes it down, and waits until it has come about.

A claim's volume is made or bound by others (the controllers, a provisioner); the pod is bound when they are done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from tiphys.base.errors import Permanent
from tiphys.client.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from tiphys.client.types import Client
from tiphys.scheduler.plugins.volumes import Plan
from tiphys.scheduler.storage import SELECTED_NODE, Storage, is_bound, key_of, selected_node

Object = Mapping[str, Any]

PATIENCE = 600.0
"""Seconds within which volumes must be bound (upstream's bindTimeoutSeconds)."""


class VolumeBinder:
    """Told of changes of storage by `changed`."""

    def __init__(self, client: Client, storage: Storage) -> None:
        self._client = client
        self._storage = storage
        self._waiting: set[asyncio.Event] = set()

    def changed(self) -> None:
        """A claim or a volume changed: those who wait look again."""
        for each in self._waiting:
            each.set()

    async def bind(self, plan: Plan, node: str) -> None:
        """Return when every claim of the plan is bound. Raises Permanent or ApiError; its volumes are free then."""
        try:
            for claim, volume in plan.bindings:
                await self._keep(volume, claim)
            for claim in plan.provisions:
                await self._select(claim, node)
            await self._wait(plan, node)
        finally:
            for _, volume in plan.bindings:
                self._storage.take_back(volume["metadata"]["name"])

    async def _keep(self, volume: Object, claim: Object) -> None:
        """Refer the volume to the claim; the binder does the rest."""
        meta, spec = volume["metadata"], volume["spec"]
        if (spec.get("claimRef") or {}).get("uid") == claim["metadata"]["uid"]:
            return
        annotations = dict(meta.get("annotations") or {})
        if not spec.get("claimRef"):
            annotations["pv.kubernetes.io/bound-by-controller"] = "yes"
        reference = {
            "kind": "PersistentVolumeClaim",
            "apiVersion": "v1",
            **{field: claim["metadata"].get(field) for field in ("namespace", "name", "uid", "resourceVersion")},
        }
        kept = {**volume, "metadata": {**meta, "annotations": annotations}, "spec": {**spec, "claimRef": reference}}
        await self._client.update(PERSISTENT_VOLUMES, kept)

    async def _select(self, claim: Object, node: str) -> None:
        """Say for which node the claim's volume is to be made."""
        if selected_node(claim) == node:
            return
        meta = claim["metadata"]
        annotations = {**(meta.get("annotations") or {}), SELECTED_NODE: node}
        await self._client.update(PERSISTENT_VOLUME_CLAIMS, {**claim, "metadata": {**meta, "annotations": annotations}})

    async def _wait(self, plan: Plan, node: str) -> None:
        told = asyncio.Event()
        told.set()  # the first look is now
        self._waiting.add(told)
        seen: set[str] = set()
        try:
            async with asyncio.timeout(PATIENCE):
                while not self._done(plan, node, seen):
                    told.clear()
                    await told.wait()
        except TimeoutError as error:
            raise Permanent("binding volumes: context deadline exceeded") from error
        finally:
            self._waiting.discard(told)

    def _done(self, plan: Plan, node: str, seen: set[str]) -> bool:
        """`seen`: claims whose chosen node came back from the server; that it vanishes later means: not there."""
        left = [claim for claim, _ in plan.bindings if not self._bound(claim, "", seen)]
        return not left + [claim for claim in plan.provisions if not self._bound(claim, node, seen)]

    def _bound(self, claim: Object, node: str, seen: set[str]) -> bool:
        key = key_of(claim)
        current = self._storage.claims.get(key)
        if current is None or current["metadata"]["uid"] != claim["metadata"]["uid"]:
            raise Permanent(f'binding volumes: persistentvolumeclaim "{key.partition("/")[2]}" not found')
        if is_bound(current):
            return True
        if node and selected_node(current) == node:
            seen.add(key)
        elif node and key in seen:
            raise Permanent(f'binding volumes: provisioning failed for PVC "{key.partition("/")[2]}"')
        return False
