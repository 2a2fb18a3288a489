"""Deletes pods whose devices have a NoExecute taint that their claims do not tolerate, at once or after a while."""

from __future__ import annotations

from collections import OrderedDict

from tiphys.base.errors import NotFound
from tiphys.client.events import NORMAL
from tiphys.client.informer import key_of
from tiphys.client.reconcile import Result
from tiphys.client.resources import PODS, RESOURCE_CLAIMS, RESOURCE_SLICES
from tiphys.client.types import STRATEGIC_PATCH, Object
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.device_taints import (
    Taint,
    any_taint,
    claim_pools,
    pod_end,
    pool_key,
    slice_pools,
    taints_in,
)
from tiphys.controllers.disruption_target import status_patch, target
from tiphys.controllers.objects import deleting, name, namespace, status, uid
from tiphys.controllers.resource_claims import claims_of

_REASON, _MESSAGE = "DeletionByDeviceTaintManager", "Device Taint manager: deleting due to NoExecute taint"
_REMEMBERED = 500


class DeviceTaintEvictionController(Controller):
    """Keys are pods."""

    name = "device-taint-eviction-controller"
    account = "device-taint-eviction-controller"
    workers = 8

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._sentenced: dict[str, str] = {}
        self._evicted: OrderedDict[str, None] = OrderedDict()
        self._pods = self.watch(PODS)
        self._claims = self.watch(RESOURCE_CLAIMS)
        self._claims.add_index("pool", claim_pools)
        self._slices = self.watch(RESOURCE_SLICES)
        self._slices.add_index("pool", slice_pools)
        self._pods.subscribe(self._pod_changed)
        self._claims.subscribe(self._claim_changed)
        self._slices.subscribe(self._slice_changed)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        pod = new or old
        if pod is not None and claims_of(pod):
            self.queue.add(key_of(pod))

    def _claim_changed(self, old: Object | None, new: Object | None) -> None:
        for claim in (old, new):
            for consumer in status(claim or {}).get("reservedFor") or ():
                if claim is not None and consumer.get("resource") == "pods":
                    self.queue.add(f"{namespace(claim)}/{consumer.get('name')}")

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        if not any_taint(old) and not any_taint(new) and not self._sentenced:
            return
        for slice in (old, new):
            for pool in slice_pools(slice) if slice is not None else ():
                for claim in self._claims.by_index("pool", pool):
                    self._claim_changed(None, claim)

    def _taints(self, driver: str, pool: str, device: str) -> list[Taint]:
        return taints_in(self._slices.by_index("pool", pool_key(driver, pool)), device)

    async def reconcile(self, key: str) -> Result | None:
        pod = self._pods.by_key(key)
        had = self._sentenced.get(key)
        if pod is None or (had is not None and had != uid(pod)):
            self._sentenced.pop(key, None)
            had = None
        if pod is None or deleting(pod) or uid(pod) in self._evicted:
            return None
        end = pod_end(pod, self._claims.get, self._taints)
        if end is None:
            if had is not None:
                del self._sentenced[key]
                self._tell(pod, "Cancelling deletion")
            return None
        self._sentenced[key] = uid(pod)
        left = end - self.clock.time()
        if left > 0:
            return Result(left)
        await self._evict(pod)
        self._sentenced.pop(key, None)
        return None

    async def _evict(self, pod: Object) -> None:
        try:
            fresh = await self.client.get(PODS, name(pod), namespace(pod))
            if uid(fresh) == uid(pod) and not deleting(fresh):
                await self._explain_and_delete(fresh)
        except NotFound:
            pass
        self._evicted[uid(pod)] = None
        if len(self._evicted) > _REMEMBERED:
            self._evicted.popitem(last=False)

    async def _explain_and_delete(self, pod: Object) -> None:
        self._tell(pod, "Marking for deletion")
        condition = target(pod, _REASON, _MESSAGE, self.clock.time())
        if condition is not None:
            condition.pop("observedGeneration", None)
            patch = status_patch(pod, condition)
            await self.client.patch(PODS, name(pod), patch, namespace(pod), type=STRATEGIC_PATCH, subresource="status")
        await self.client.delete(PODS, name(pod), namespace(pod), uid=uid(pod))

    def _tell(self, pod: Object, what: str) -> None:
        about = {"kind": "Pod", "apiVersion": "v1", "name": name(pod), "namespace": namespace(pod), "uid": uid(pod)}
        self.recorder.about(about, NORMAL, "DeviceTaintManagerEviction", what)
