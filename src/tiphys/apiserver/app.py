"""The API server: one Handler for everything, from HTTPS connections and from components in the same process.

    async with ApiServer(config, store, clock) as server:
        async with serve(server.handler, ...): ...            # over HTTPS
        client = LocalClient(server.handler, user)             # without sockets

`_chain` lists the links of the handler chain, once, in order. Everything that the server is made of is built in
`__aenter__`; nothing registers itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import TracebackType

from tiphys.api.catalog import Catalog, builtin
from tiphys.api.decode.request import Codec
from tiphys.apiserver import paths, plumbing
from tiphys.apiserver.admit import Admission
from tiphys.apiserver.aggregation import Aggregation, aggregate
from tiphys.apiserver.aggregation.extension import describe, register
from tiphys.apiserver.allocation import Ledger, SharedAddresses
from tiphys.apiserver.authn import TokenAuthenticator
from tiphys.apiserver.authz import EscalationCheck, RbacAuthorizer, authorize
from tiphys.apiserver.bootstrap import BootstrapConfig, ensure
from tiphys.apiserver.compaction import Compaction
from tiphys.apiserver.config import ApiServerConfig
from tiphys.apiserver.deadline import request_deadline
from tiphys.apiserver.defaults import DefaultsWriter
from tiphys.apiserver.endpoints import Endpoints
from tiphys.apiserver.expiry import EventExpiry
from tiphys.apiserver.extensions import CustomResources
from tiphys.apiserver.fairness import Policy, Upkeep, fairness
from tiphys.apiserver.feed import Caches
from tiphys.apiserver.flow import max_in_flight
from tiphys.apiserver.freshness import Freshness
from tiphys.apiserver.freshness import links as freshness_links
from tiphys.apiserver.guard import guard
from tiphys.apiserver.health import BOOTSTRAPPED, CACHED, EXTENDED, Lifecycle
from tiphys.apiserver.impersonate import impersonate
from tiphys.apiserver.masters import Masters
from tiphys.apiserver.metrics import Metrics
from tiphys.apiserver.own_service import OwnService
from tiphys.apiserver.ownership import Ownership
from tiphys.apiserver.parts import Parts, Reserve
from tiphys.apiserver.repair.loop import AllocationRepair, allocation_repair
from tiphys.apiserver.requestinfo import request_info
from tiphys.apiserver.resource import Key, Resource, served_resources, stored_resources
from tiphys.apiserver.reviews import Reviews, access_reviews
from tiphys.apiserver.routes import Router
from tiphys.apiserver.security import Security
from tiphys.apiserver.service_ips import ServiceIps
from tiphys.apiserver.service_ranges import ServiceRanges
from tiphys.apiserver.services import OwnAddresses, ServiceAddresses
from tiphys.apiserver.serving import Serving
from tiphys.apiserver.storage import Storage
from tiphys.apiserver.timers import Timers
from tiphys.apiserver.tokens import TokenIssuer
from tiphys.apiserver.types import Authorizer, Plugin, Reader
from tiphys.apiserver.upheld import upheld
from tiphys.apiserver.watching import Watches
from tiphys.apiserver.webhooks import ServiceResolver, WebhookClient
from tiphys.apiserver.webhooks.measures import Measures
from tiphys.apiserver.webhooks.versions import Versions
from tiphys.base.clock import Clock
from tiphys.base.http.types import Handler
from tiphys.store.types import Store


class ApiServer:
    """See the module's docstring. `reader` gives the current objects to whoever lives in this process."""

    handler: Handler
    reader: Reader
    catalog: Catalog
    issuer: TokenIssuer

    def __init__(self, config: ApiServerConfig, store: Store, clock: Clock) -> None:
        self._config, self._store, self._clock = config, store, clock
        self._group = asyncio.TaskGroup()
        self.lifecycle = Lifecycle()
        self._webhooks: list[WebhookClient] = []
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> ApiServer:
        await self._group.__aenter__()
        try:
            await self._start()
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timers.close()
        for webhooks in self._webhooks:
            await webhooks.close()
        for task in self._tasks:
            task.cancel()
        try:
            await self._group.__aexit__(kind, error, trace)
        finally:
            await self._stack.aclose()

    async def _start(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self._timers = Timers(self._clock, self._group)
        kinds = plumbing.kinds()
        self.catalog = builtin(kinds)
        caches = Caches(self._store, stored_resources(self.catalog), self._clock)
        self.reader = caches
        await caches.load()
        self.lifecycle.done.update(CACHED)
        self._uphold(caches.run)
        self._freshness = Freshness(self._store, caches) if self._store.shared else None
        if self._freshness is not None:
            self._uphold(self._freshness.run)
        served = served_resources(self.catalog, kinds, caches)
        self.serving = Serving(self.catalog, served)
        rbac = RbacAuthorizer(caches)
        self._security = Security(self._config, caches, rbac, self._clock)
        await self._stack.enter_async_context(self._security.audited())
        self.issuer, authorizer = self._security.issuer, self._security.authorizer
        self._uphold(self._security.run)
        parts = self._parts(caches, served, authorizer, rbac)
        self._aggregation = Aggregation(parts, self.serving, self._config.front_proxy)
        custom = CustomResources(parts, self.serving)
        custom.start()
        self.lifecycle.done.update(EXTENDED)
        self._uphold(custom.run)
        tokens = self._security.tokens
        router = self._router(parts, served, authorizer, rbac, tokens)
        self.handler = self._security.handler = self._chain(caches, router, authorizer)
        await self._ensure_defaults(parts, served)
        self.lifecycle.done.update(BOOTSTRAPPED)
        events = EventExpiry(
            caches.of("", "events"), parts.storage, self._timers, self._clock, self._config.event_seconds
        )
        self._uphold(events.run)
        self._uphold(self._compaction(caches).run)

    def _uphold(self, run: Callable[[], Awaitable[None]]) -> None:
        """Do something for as long as the server lives."""
        self._tasks.append(self._group.create_task(upheld(run, self._clock)))

    def _chain(self, caches: Caches, router: Router, authorizer: Authorizer) -> Handler:
        """The links that every request goes through, the first one first."""
        config = self._config
        links = [
            guard(config.request_timeout),
            request_info,
            self.metrics.link,
            request_deadline,
            *freshness_links(self._freshness),
            *self._security.links(),
            impersonate(authorizer),
            self._limits(caches),
            authorize(authorizer, config.always_allowed_paths),
            aggregate(self._aggregation.remotes, config.extensions),
        ]
        handler: Handler = router.handle
        for link in reversed(links):
            handler = link(handler)
        return handler

    def _limits(self, caches: Caches) -> Callable[[Handler], Handler]:
        """The link that holds back what is too much at once."""
        config = self._config
        if not config.fairness or not (config.max_reads and config.max_writes):
            return max_in_flight(config.max_reads, config.max_writes)
        policy = Policy(caches, config.max_reads + config.max_writes, self._clock)
        self.metrics.fairness = policy.pool
        return fairness(policy, caches, config.request_timeout / 4)

    def _parts(
        self, caches: Caches, served: Mapping[Key, Resource], authorizer: Authorizer, rbac: RbacAuthorizer
    ) -> Parts:
        config = self._config
        storage = Storage(self._store, caches)
        codec = Codec(self.catalog.resources[0].definitions)
        webhooks = WebhookClient(ServiceResolver(caches, own=(config.advertise_address, config.secure_port)))
        self._webhooks.append(webhooks)
        versions = Versions(self.serving, codec)
        measures = Measures(self._clock)
        plugins: list[Plugin] = plumbing.plugins(
            config, storage, authorizer, webhooks, versions, self._clock, measures, lambda: self.handler
        )
        if self._security.uses_rbac:
            plugins.append(EscalationCheck(rbac, authorizer))
        first, last = config.node_ports
        address = self._bootstrap().service_address
        ranges = ServiceRanges(caches.of("networking.k8s.io", "servicecidrs"), config.service_cidr)
        self._ips = ServiceIps(caches, storage, self._clock)
        services = ServiceAddresses(
            caches.of("", "services"), ranges, range(first, last + 1), {address}, self._ips.exists
        )
        self._allocations = services.metrics.registry
        return Parts(
            caches=caches,
            storage=storage,
            codec=codec,
            ownership=Ownership(codec, self.serving),
            authorizer=authorizer,
            clock=self._clock,
            admission=Admission(plugins, measures),
            webhooks=webhooks,
            watches=Watches(caches, self._timers),
            timers=self._timers,
            reserves={("", "services"): self._among_servers(services)},
        )

    def _compaction(self, caches: Caches) -> Compaction:
        config = self._config
        return Compaction(self._store, caches, self._clock, config.compaction_interval_seconds, config.history_seconds)

    def _repair(self, caches: Caches) -> AllocationRepair:
        repair = allocation_repair(caches, self._ips, self._config, self._timers, self._clock, lambda: self.handler)
        self.metrics.registries.append(repair.metrics.registry)
        return repair

    def _among_servers(self, services: ServiceAddresses) -> Reserve:
        if self._freshness is None:
            return OwnAddresses(services, self._ips)
        return SharedAddresses(services, self._ips, Ledger(self._store, self._clock), self._freshness)

    def _router(
        self,
        parts: Parts,
        served: Mapping[Key, Resource],
        authorizer: Authorizer,
        rbac: RbacAuthorizer,
        tokens: Sequence[TokenAuthenticator],
    ) -> Router:
        self.metrics = Metrics(self._clock, parts.caches, self._store)
        self.metrics.registries += [parts.admission.measures.registry, self._allocations]
        answers = access_reviews(authorizer, rbac, tokens, self.issuer.audiences, self._clock.time)
        unstored = {**Reviews(parts, answers).endpoints(), **plumbing.unstored(parts, served, self._store)}
        return Router(
            self.serving,
            Endpoints(parts, self._store),
            self._clock,
            subresources=plumbing.subresources(parts, served, self.issuer, self._config.kubelet_tls),
            unstored=unstored,
            paths=paths.table(
                self.serving, self._aggregation.described, self._store, parts, self.issuer, self.metrics, self.lifecycle
            ),
        )

    def _bootstrap(self, servers: tuple[tuple[str, int], ...] = ()) -> BootstrapConfig:
        config = self._config
        return BootstrapConfig(
            advertise_address=config.advertise_address,
            port=config.secure_port,
            servers=servers,
            service_cidr=config.service_cidr,
            client_ca=config.client_ca.decode(),
            front_proxy_ca=config.front_proxy_ca.decode(),
            objects=config.objects,
        )

    async def _ensure_defaults(self, parts: Parts, served: Mapping[Key, Resource]) -> None:
        stored = {(one.group, one.plural): one for one in served.values() if not one.foreign}
        writer = DefaultsWriter(parts, stored)
        masters = Masters(self._store, self._clock, (self._config.advertise_address, self._config.secure_port))

        async def restore() -> None:
            await ensure(parts.caches, writer, self._bootstrap(await masters.renew()), self._clock.time())

        await restore()
        for extension in self._config.extensions:
            describe(extension, self._aggregation.described)
            await register(extension, parts.caches, writer, self._clock)
        self._uphold(self._repair(parts.caches).run)
        self._uphold(partial(masters.run, restore))
        if self._config.publish_service:
            self._uphold(OwnService(parts.caches, restore, self._clock).run)
        self._uphold(partial(self._aggregation.run, writer))
        if self._config.fairness:
            upkeep = Upkeep(parts.caches, restore, writer.update, self._clock)
            self._uphold(upkeep.run)
