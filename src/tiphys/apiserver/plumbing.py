"""The server's tables: built-in kinds, admission plugins, endpoints of subresources and of what has no objects."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from tiphys.api.catalog import ResourceInfo
from tiphys.api.errors import not_found
from tiphys.api.kinds.base import Kind
from tiphys.apiserver import admission, respond, tables
from tiphys.apiserver.config import ApiServerConfig
from tiphys.apiserver.connecting import connecting
from tiphys.apiserver.kubelets import Kubelets
from tiphys.apiserver.parts import Parts
from tiphys.apiserver.podproxy import Proxies
from tiphys.apiserver.quotas import StoredQuotas
from tiphys.apiserver.resource import Call, Key, Resource
from tiphys.apiserver.reviews import Unstored
from tiphys.apiserver.routes import ANY, Endpoint
from tiphys.apiserver.storage import Storage
from tiphys.apiserver.subresources import binding, finalize, scale
from tiphys.apiserver.subresources.eviction import Evictions
from tiphys.apiserver.subresources.token import TokenRequests
from tiphys.apiserver.tokens import TokenIssuer
from tiphys.apiserver.types import Authorizer, Plugin, RequestInfo
from tiphys.apiserver.webhooks.client import WebhookClient
from tiphys.apiserver.webhooks.measures import Measures
from tiphys.apiserver.webhooks.versions import Versions
from tiphys.base.clock import Clock
from tiphys.base.http.types import Handler, Request, Response
from tiphys.base.identity import ANONYMOUS
from tiphys.store.types import Store


def kinds() -> tuple[Kind, ...]:
    """The built-in kinds."""
    from tiphys.api.kinds.all import kinds as all_kinds

    return all_kinds()


def plugins(
    config: ApiServerConfig,
    storage: Storage,
    authorizer: Authorizer,
    webhooks: WebhookClient,
    versions: Versions,
    clock: Clock,
    measures: Measures,
    handler: Callable[[], Handler],
) -> list[Plugin]:
    """The admission plugins, in order."""
    materials = admission.Materials(
        reader=storage.caches,
        authorizer=authorizer,
        ledger=StoredQuotas(storage.caches, storage),
        webhooks=webhooks,
        versions=versions,
        clock=clock,
        measures=measures,
        handler=handler,
        configuration=config.admission,
    )
    return admission.plugins(materials, admission.choose(config.enabled_admission, config.disabled_admission))


def subresources(
    parts: Parts, served: Mapping[Key, Resource], issuer: TokenIssuer, tls: ssl.SSLContext | None
) -> dict[tuple[str, str], Endpoint]:
    """(resource/subresource, verb) -> endpoint; `*` stands for any. What is absent is another view of its object
    (status, resize, ephemeralcontainers, approval) and goes to the verbs' own endpoints."""
    proxies = Proxies(parts, Kubelets(tls))
    evictions = Evictions(parts, served["policy", "v1", "poddisruptionbudgets"])
    return {
        ("*/scale", "get"): partial(scale.get, parts),
        ("*/scale", "update"): partial(scale.put, parts),
        ("*/scale", "patch"): partial(scale.patch, parts),
        ("pods/binding", "create"): partial(binding.bind, parts),
        ("pods/eviction", "create"): evictions.evict,
        ("pods/log", "get"): proxies.log,
        ("pods/exec", ANY): connecting(parts, proxies.session),
        ("pods/attach", ANY): connecting(parts, proxies.session),
        ("pods/portforward", ANY): connecting(parts, proxies.port_forward),
        ("pods/proxy", ANY): connecting(parts, proxies.pod),
        ("services/proxy", ANY): connecting(parts, proxies.service),
        ("nodes/proxy", ANY): connecting(parts, proxies.node),
        ("serviceaccounts/token", "create"): TokenRequests(parts, issuer).create,
        ("namespaces/finalize", "update"): partial(finalize.put, parts),
    }


def unstored(parts: Parts, served: Mapping[Key, Resource], store: Store) -> dict[tuple[str, str, str], Unstored]:
    """(group, plural, verb) -> endpoint of resources without objects, reviews aside."""
    pods = served["", "v1", "pods"]

    async def bind(request: Request, info: RequestInfo, resource: ResourceInfo) -> Response:
        call = Call(request, info, pods, request.user or ANONYMOUS, parts.clock.time())
        return await binding.bind(parts, call)

    async def component(request: Request, info: RequestInfo, resource: ResourceInfo) -> Response:
        found = [one for one in await _components(store) if info.name in ("", one["metadata"]["name"])]
        tabulate = tables.unstored(request, resource, found, parts.clock.time())
        if info.verb == "get":
            if not found:
                raise not_found("", "componentstatuses", info.name)
            answer = {"kind": resource.kind, "apiVersion": "v1", **found[0]}
        else:
            answer = {"kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {}, "items": found}
        return respond.plain(request, answer, tabulate=tabulate)

    return {
        ("", "bindings", "create"): bind,
        ("", "componentstatuses", "list"): component,
        ("", "componentstatuses", "get"): component,
    }


async def _components(store: Store) -> list[dict[str, Any]]:
    """The one component that this server can ask: its store, under the name that old clients look for."""
    await store.revision()
    condition = {"type": "Healthy", "status": "True", "message": "ok"}
    return [{"metadata": {"name": "etcd-0"}, "conditions": [condition]}]
