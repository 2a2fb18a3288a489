"""Load balancers of Services without a cloud: addresses from a local pool, in the Services' statuses.

It behaves as a cloud's service controller does: a finalizer as long as there is a load balancer, the same events. What
answers on the addresses is the nodes' business; whoever sees to that reads them in the statuses. Without a pool this
does nothing: then somebody else serves load balancers, or nobody does.
"""

from __future__ import annotations

from collections.abc import Mapping

from tiphys.base.errors import ApiError, NotFound
from tiphys.client.backoff import Backoff
from tiphys.client.events import NORMAL, WARNING
from tiphys.client.informer import key_of
from tiphys.client.reconcile import Result
from tiphys.client.resources import NODES, SERVICES
from tiphys.client.types import MERGE_PATCH, STRATEGIC_PATCH, Object
from tiphys.client.workqueue import WorkQueue
from tiphys.controllers import load_balancers as rules
from tiphys.controllers.address_pool import AddressPool
from tiphys.controllers.base import Controller, ControllerContext
from tiphys.controllers.load_balancers import FINALIZER, NoAddress
from tiphys.controllers.objects import created, deleting, finalizers, name, namespace, uid

SETTING = "load-balancer-addresses"


class ServiceLbController(Controller):
    """Keys are Services. One worker: two must not give away the same address."""

    name = "service-lb-controller"
    account = "service-controller"
    component = "service-controller"
    workers = 1

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.queue = WorkQueue(Backoff(base=5.0, limit=300.0))
        self._pool = AddressPool.parse(str(context.settings.get(SETTING) or ""))
        self._given: dict[str, tuple[Object, list[str]]] = {}
        """By key: the Service as it was when it got them, and the addresses."""
        self._due: set[str] = set()
        """Services whose load balancers were changed by their users."""
        self._waiting: set[str] = set()
        """Services that got no address."""
        self._backends: Mapping[str, str] = {}
        if self._pool:
            self._services = self.watch(SERVICES)
            self._nodes = self.watch(NODES)
            self._services.subscribe(self._service_changed)

    async def background(self) -> None:
        """Remember what was given out before this start; then hear of nodes."""
        if not self._pool:
            return
        self._remember()
        self._backends = rules.node_set(self._nodes.list())
        self._nodes.subscribe(self._node_changed)

    async def reconcile(self, key: str) -> Result | None:
        service = self._services.by_key(key)
        before = self._given.get(key)
        if before is not None and (service is None or uid(before[0]) != uid(service)):
            self._gone(key, before[0])
        if service is None:
            self._waiting.discard(key)
        elif not rules.wants(service) or rules.needs_cleanup(service):
            await self._clean_up(key, service)
        elif not deleting(service) and not self._settled(key, service):
            await self._ensure(key, service)
        return None

    def _remember(self) -> None:
        """Addresses that Services have already; of two with the same the older one keeps it."""
        for service in sorted(self._services.list(), key=created):
            taken = self._taken("")
            held = [each for each in rules.addresses_of(service) if each in self._pool and each not in taken]
            if held and rules.wants(service) and FINALIZER in finalizers(service):
                self._given[key_of(service)] = service, held

    def _taken(self, key: str) -> set[str]:
        """What others have than that Service."""
        return {each for other, (_, held) in self._given.items() if other != key for each in held}

    def _settled(self, key: str, service: Object) -> bool:
        """Whether there is nothing to do, and nothing to tell."""
        given = self._given.get(key)
        return key not in self._due and given is not None and given[1] == rules.addresses_of(service)

    async def _ensure(self, key: str, service: Object) -> None:
        self._due.discard(key)
        self.recorder.event(service, NORMAL, "EnsuringLoadBalancer", "Ensuring load balancer")
        try:
            if FINALIZER not in finalizers(service):
                await self._patch(service, {"metadata": {"finalizers": [FINALIZER]}})
            if not self._backends:
                text = "There are no available nodes for LoadBalancer"
                self.recorder.event(service, WARNING, "UnAvailableLoadBalancer", text)
            chosen = self._give(key, service)
        except NoAddress as error:
            self._waiting.add(key)
            self._failed(service, f"failed to ensure load balancer: {error}")
            return
        except ApiError as error:
            self._due.add(key)
            self._failed(service, f"failed to add load balancer cleanup finalizer: {error}")
            raise
        self.recorder.event(service, NORMAL, "EnsuredLoadBalancer", "Ensured load balancer")
        if chosen != rules.addresses_of(service):
            await self._tell(service, chosen)

    def _give(self, key: str, service: Object) -> list[str]:
        held = self._given[key][1] if key in self._given else rules.addresses_of(service)
        chosen = rules.choose(service, self._pool, held, self._taken(key))
        self._given[key] = service, chosen
        self._waiting.discard(key)
        if set(held) - set(chosen):
            self._freed()
        return chosen

    async def _clean_up(self, key: str, service: Object) -> None:
        self._due.discard(key)
        self._waiting.discard(key)
        if FINALIZER not in finalizers(service):
            return
        self.recorder.event(service, NORMAL, "DeletingLoadBalancer", "Deleting load balancer")
        try:
            if rules.addresses_of(service) and not deleting(service):
                await self._tell(service, [])
            await self._patch(service, {"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}})
        except ApiError as error:
            self._failed(service, f"failed to remove load balancer cleanup finalizer: {error}")
            raise
        self.recorder.event(service, NORMAL, "DeletedLoadBalancer", "Deleted load balancer")
        if self._given.pop(key, None) is not None:
            self._freed()

    def _gone(self, key: str, service: Object) -> None:
        """It was deleted past its finalizer, or replaced by another of the same name."""
        del self._given[key]
        self.recorder.event(service, NORMAL, "DeletingLoadBalancer", "Deleting load balancer")
        self.recorder.event(service, NORMAL, "DeletedLoadBalancer", "Deleted load balancer")
        self._freed()

    def _freed(self) -> None:
        """Addresses became free: those who wait may try again."""
        for key in sorted(self._waiting):
            self.queue.add(key)

    def _failed(self, service: Object, text: str) -> None:
        self.recorder.event(service, WARNING, "SyncLoadBalancerFailed", f"Error syncing load balancer: {text}")

    async def _tell(self, service: Object, addresses: list[str]) -> None:
        patch = {"metadata": {"uid": uid(service)}, "status": rules.ingress(addresses)}
        try:
            await self.client.patch(
                SERVICES, name(service), patch, namespace(service), type=MERGE_PATCH, subresource="status"
            )
        except NotFound:
            return

    async def _patch(self, service: Object, patch: dict[str, dict[str, list[str]]]) -> None:
        """Change its metadata; cloud controllers may write a Service only by its status."""
        try:
            await self.client.patch(
                SERVICES, name(service), patch, namespace(service), type=STRATEGIC_PATCH, subresource="status"
            )
        except NotFound:
            return

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        key = key_of(new or old or {})
        if new is None:
            if key in self._given or key in self._waiting:
                self.queue.add(key)
        elif old is None:
            if rules.wants(new) or rules.needs_cleanup(new):
                self.queue.add(key)
        elif rules.changed(old, new) or rules.needs_cleanup(new):
            self._due.add(key)
            self.queue.add(key)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        """Tell the Services that other nodes are behind their load balancers now."""
        if old is not None and new is not None and rules.node_set([old]) == rules.node_set([new]):
            return
        backends = rules.node_set(self._nodes.list())
        if backends == self._backends:
            return
        self._backends = backends
        for key in self._given:
            service = self._services.by_key(key)
            if service is None:
                continue
            if backends:
                self.recorder.event(service, NORMAL, "UpdatedLoadBalancer", "Updated load balancer with new hosts")
            else:
                text = "There are no available nodes for LoadBalancer"
                self.recorder.event(service, WARNING, "UnAvailableLoadBalancer", text)
