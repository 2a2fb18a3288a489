"""Keeps the proxy as the API says: objects -> plan -> fronts, routes, certificates; Services and statuses written back.

A change is planned anew as a whole, however many changes come meanwhile; endpoints alone, which change most often, are
replaced without that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tiphys.base.clock import Clock, rfc3339
from tiphys.base.errors import NotFound
from tiphys.client.events import WARNING, EventRecorder
from tiphys.client.informer import InformerFactory, key_of
from tiphys.client.reconcile import Result, run_workers
from tiphys.client.resources import ENDPOINT_SLICES, NAMESPACES, SERVICES
from tiphys.client.types import MERGE_PATCH, Client, Object
from tiphys.client.workqueue import WorkQueue
from tiphys.gateway import services, snapshot
from tiphys.gateway.certificates import BadCertificate, Contexts
from tiphys.gateway.fronts import Fronts
from tiphys.gateway.ingress.classes import our_classes
from tiphys.gateway.lookups import SecretLookup
from tiphys.gateway.plan import Plan, SecretKey, StatusPlan
from tiphys.gateway.proxy.server import Proxy
from tiphys.gateway.resources import (
    GATEWAY_CLASSES,
    GATEWAYS,
    HTTP_ROUTES,
    INGRESS_CLASSES,
    INGRESSES,
    REFERENCE_GRANTS,
)
from tiphys.gateway.snapshot import Snapshot

log = logging.getLogger(__name__)

ACCESS_LOG = "tiphys.io/access-log"
"""Annotation of our IngressClass: "true" logs each request."""
_PAUSE, _MOST = 0.005, 0.5
"""Seconds between two plans at least; more when a plan takes long, so that a storm leaves time for requests."""


@dataclass(slots=True)
class _Todo:
    """What is to be looked at again."""

    plan: bool = True
    endpoints: bool = False
    told: asyncio.Event = field(default_factory=asyncio.Event)


class Controller:
    """One for a proxy. `addresses` are where it listens."""

    def __init__(
        self, client: Client, clock: Clock, informers: InformerFactory, proxy: Proxy, addresses: Sequence[str]
    ) -> None:
        self._client = client
        self._clock = clock
        self._proxy = proxy
        self._addresses = addresses
        self._contexts = Contexts(clock)
        self._fronts = Fronts(proxy, self._contexts, addresses)
        self._todo = _Todo()
        self._recorder = EventRecorder(client, clock, "tiphys-gateway")
        self._said: set[tuple[str, str, str]] = set()
        self._plan: Plan | None = None
        self._statuses: Mapping[str, StatusPlan] = {}
        self._queue: WorkQueue[str] = WorkQueue()
        """service NAMESPACE/NAME, status PLURAL NAMESPACE/NAME, gone NAMESPACE/NAME."""
        self.synced = asyncio.Event()
        """Set when the first plan is in force."""
        self._secrets = SecretLookup(informers, self._changed)
        resources = (INGRESSES, INGRESS_CLASSES, GATEWAY_CLASSES, GATEWAYS, HTTP_ROUTES, REFERENCE_GRANTS, NAMESPACES)
        self._informers = {resource: informers.get(resource) for resource in resources}
        self._services = informers.get(SERVICES)
        self._slices = informers.get(ENDPOINT_SLICES)
        self._slices.add_index("service", _service_of)
        for informer in (*self._informers.values(), self._services):
            informer.subscribe(self._object_changed)
        self._slices.subscribe(self._slice_changed)

    # Being told

    def _changed(self) -> None:
        self._todo.plan = True
        self._todo.told.set()

    def _object_changed(self, old: Object | None, new: Object | None) -> None:
        """Statuses of our own making lead to no new plan, but for the addresses of Services."""
        if old is not None and new is not None and _same(old, new):
            return
        self._changed()

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        self._todo.endpoints = True
        self._todo.told.set()

    # Doing

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._recorder.run(), name="gateway events")
            await self._wait_synced()
            tasks.create_task(run_workers("gateway", self._queue, self._write, 2), name="gateway writes")
            while True:
                started = self._clock.monotonic()
                try:
                    await self._once()
                except Exception:  # the last plan stays in force; the next change is planned again
                    log.exception("there is no plan for what is there now")
                took = self._clock.monotonic() - started
                await self._todo.told.wait()
                await self._clock.sleep(min(_MOST, max(_PAUSE, took)))

    async def _wait_synced(self) -> None:
        """The definitions of the Gateway API may be gone: those informers are not waited for long."""
        for informer in (self._services, self._slices, self._informers[INGRESSES], self._informers[INGRESS_CLASSES]):
            await informer.wait_synced()
        for informer in self._informers.values():
            try:
                async with asyncio.timeout(2):
                    await informer.wait_synced()
            except TimeoutError:
                log.warning("no %s yet: going on without", informer.resource.plural)

    async def _once(self) -> None:
        todo = self._todo
        todo.told.clear()
        if todo.plan or self._plan is None:
            todo.plan = todo.endpoints = False
            world = self._snapshot()
            plan = snapshot.make(world)
            wanted = set(plan.secrets)
            await self._secrets.follow(wanted)
            if any(self._secrets.get(*key) is not None for key in wanted):
                plan = snapshot.make(world)  # now with what is in them
            self._apply(plan)
            self.synced.set()
        elif todo.endpoints:
            todo.endpoints = False
            self._proxy.backends.set(snapshot.resolve(self._snapshot(), self._plan.backends))
            self._check_slices()

    def _snapshot(self) -> Snapshot:
        informers = self._informers
        return Snapshot(
            ingresses=informers[INGRESSES].list(),
            classes=informers[INGRESS_CLASSES].list(),
            service=self._services.get,
            slices=lambda namespace, name: self._slices.by_index("service", f"{namespace}/{name}"),
            secret=self._secrets.get,
            gateway_classes=informers[GATEWAY_CLASSES].list(),
            gateways=informers[GATEWAYS].list(),
            routes=informers[HTTP_ROUTES].list(),
            grants=informers[REFERENCE_GRANTS].list(),
            namespace=lambda name: informers[NAMESPACES].get("", name),
            usable=self._unusable,
            now=rfc3339(self._clock.time()),
        )

    def _unusable(self, key: SecretKey) -> str:
        secret = self._secrets.get(*key)
        if secret is None:
            return "it does not exist"
        try:
            self._contexts.get(secret)
        except BadCertificate as error:
            return str(error)
        return ""

    def _apply(self, plan: Plan) -> None:
        before, self._plan = self._plan, plan
        self._proxy.backends.set(plan.endpoints)
        self._proxy.access_log = self._wants_log()
        problems = self._fronts.apply(plan.fronts, self._secrets.get)
        self._contexts.keep(set(plan.secrets))
        for text in problems:
            log.warning("%s", text)
        self._tell(plan)
        self._statuses = {f"{one.resource.plural} {key_of(one.obj)}": one for one in plan.statuses}
        for key in self._statuses:
            self._queue.add(f"status {key}")
        for key in plan.services:
            self._queue.add(f"service {key}")
        for key in before.services if before is not None else ():
            if key not in plan.services and key != snapshot.INGRESS_SERVICE.key:
                self._queue.add(f"gone {key}")

    def _wants_log(self) -> bool:
        classes = self._informers[INGRESS_CLASSES].list()
        own = our_classes(classes)
        return any(
            one["metadata"]["name"] in own and (one["metadata"].get("annotations") or {}).get(ACCESS_LOG) == "true"
            for one in classes
        )

    def _tell(self, plan: Plan) -> None:
        """What is wrong, once for each version of the object."""
        said = set()
        for obj, reason, message in plan.problems:
            metadata = obj["metadata"]
            what = f"{metadata.get('uid')} {metadata.get('generation')}", reason, message
            if what not in self._said:
                self._recorder.event(obj, WARNING, reason, message)
            said.add(what)
        self._said = said

    def _check_slices(self) -> None:
        """Of Services that lead to us; somebody may have changed or removed them."""
        for key in self._plan.services if self._plan is not None else ():
            self._queue.add(f"service {key}")

    # Writing

    async def _write(self, key: str) -> Result | None:
        kind, _, rest = key.partition(" ")
        if kind == "status":
            await self._write_status(rest)
        elif kind == "gone":
            await services.remove(self._client, *rest.split("/"))
        elif self._plan is not None and rest in self._plan.services:
            plan = self._plan.services[rest]
            bound = {port: self._fronts.bound((rest, port)) for port in plan.ports.values()}
            slices = [
                one
                for one in self._slices.by_index("service", rest)
                if one["metadata"]["labels"].get("endpointslice.kubernetes.io/managed-by") == services.MANAGED_BY
            ]
            have = self._services.by_key(rest)
            await services.ensure(self._client, plan, have, slices, self._addresses, bound)
        return None

    async def _write_status(self, key: str) -> None:
        wanted = self._statuses.get(key)
        if wanted is None:
            return
        metadata = wanted.obj["metadata"]
        patch = {"status": wanted.status, "metadata": {"uid": metadata["uid"]}}
        try:
            await self._client.patch(
                wanted.resource,
                metadata["name"],
                patch,
                metadata.get("namespace", ""),
                type=MERGE_PATCH,
                subresource="status",
            )
        except NotFound:
            log.debug("%s is gone", key)


def _service_of(obj: Object) -> Sequence[str]:
    metadata = obj["metadata"]
    name = (metadata.get("labels") or {}).get("kubernetes.io/service-name")
    return (f"{metadata['namespace']}/{name}",) if name else ()


def _same(old: Object, new: Object) -> bool:
    """Whether only what nobody plans by has changed."""
    kind = new.get("kind")
    if kind == "Service" and old.get("status") != new.get("status"):
        return False
    before, after = old["metadata"], new["metadata"]
    for name in ("annotations", "labels", "deletionTimestamp", "uid", "ownerReferences"):
        if before.get(name) != after.get(name):
            return False
    return all(old.get(name) == new.get(name) for name in ("spec", "data"))
