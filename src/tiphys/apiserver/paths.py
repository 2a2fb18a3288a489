"""Paths that are no resources: discovery, OpenAPI, version, health, metrics, token issuer metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from tiphys.api.catalog import Catalog
from tiphys.apiserver.aggregation.discovery import Described
from tiphys.apiserver.describe import Discovery, OpenApi
from tiphys.apiserver.health import ENDPOINTS, Check, Health, Lifecycle
from tiphys.apiserver.matching import check_read
from tiphys.apiserver.metrics import Metrics
from tiphys.apiserver.negotiate import JSON
from tiphys.apiserver.parts import Parts
from tiphys.apiserver.routes import Plain
from tiphys.apiserver.serving import Serving
from tiphys.apiserver.tokens import TokenIssuer
from tiphys.apiserver.version import version_info
from tiphys.base.errors import ServiceUnavailable
from tiphys.base.http.types import Request, Response
from tiphys.store.types import Store

JWKS = "application/jwk-set+json"
FOR_AN_HOUR = "public, max-age=3600"


def table(
    serving: Serving,
    described: Described,
    store: Store,
    parts: Parts,
    issuer: TokenIssuer,
    metrics: Metrics,
    lifecycle: Lifecycle,
) -> Mapping[str, Plain]:
    """Path -> endpoint; `/*` at the end stands for everything below."""
    discovery, openapi = Discovery(serving, described), OpenApi(serving, described)
    health = Health(checks(store, parts, lifecycle))
    found: dict[str, Plain] = {
        "/api": discovery.core,
        "/api/*": discovery.core_version,
        "/apis": discovery.groups,
        "/apis/*": discovery.group,
        "/openapi/v2": openapi.v2,
        "/openapi/v3": openapi.v3,
        "/openapi/v3/*": openapi.v3,
        "/version": version,
        "/metrics": metrics.page,
        "/metrics/slis": health.slis,
        "/.well-known/openid-configuration": lambda request: configuration(request, issuer),
        "/openid/v1/jwks": lambda request: keys(request, issuer),
    }
    for endpoint in ENDPOINTS:
        found[f"/{endpoint}"] = found[f"/{endpoint}/*"] = health.handle
    fixed = [*(path for path in found if not path.endswith("*")), "/apis/", "/openapi/v3/", *health.paths]

    async def root(request: Request) -> Response:
        return raw(request, {"paths": sorted(fixed + api_paths(serving.catalog))}, indent=True)

    found["/"] = root
    return found


def api_paths(catalog: Catalog) -> list[str]:
    """The discovery paths of all groups and versions."""
    out = []
    for group in catalog.groups():
        versions = catalog.current_versions(group)
        if not versions:
            continue
        base = f"/apis/{group}" if group else "/api"
        out += [base] if group else []
        out += [f"{base}/{version}" for version in versions]
    return out


def checks(store: Store, parts: Parts, lifecycle: Lifecycle) -> dict[str, dict[str, Check]]:
    """What each health endpoint looks at."""

    async def ping() -> str:
        return ""

    async def reachable() -> str:
        await store.revision()
        return ""

    async def synced() -> str:
        revision = await store.revision()
        if not await parts.caches.wait(revision, 1.0):
            raise ServiceUnavailable(f"the watch cache is at {parts.caches.current}, the store at {revision}")
        return ""

    # Upstream's names: components in this process need no certificate that could expire.
    first: dict[str, Check] = {"ping": ping, "log": ping}
    live = {**first, "loopback-serving-certificate": ping, "etcd": reachable, **lifecycle.checks()}
    stored: dict[str, Check] = {"etcd": reachable, "etcd-readiness": reachable, "informer-sync": synced}
    ready = {**first, **stored, **lifecycle.checks(), "shutdown": lifecycle.shutdown}
    return {"healthz": live, "livez": live, "readyz": ready}


async def version(request: Request) -> Response:
    """/version"""
    check_read(request, (JSON,))
    return raw(request, version_info(), indent=True)


async def configuration(request: Request, issuer: TokenIssuer) -> Response:
    """OpenID provider metadata of service account tokens (OpenID Connect Discovery 1.0)."""
    check_read(request, (JSON,))
    host = request.headers.get("host", "localhost")
    found = issuer.discovery(f"https://{host}/openid/v1/jwks")
    return raw(request, found, {"Cache-Control": FOR_AN_HOUR})


async def keys(request: Request, issuer: TokenIssuer) -> Response:
    """The public keys that service account tokens are verified by (RFC 7517)."""
    check_read(request, (JWKS,))
    headers = {"Content-Type": JWKS, "Cache-Control": FOR_AN_HOUR}
    return raw(request, issuer.jwks(), headers)


def raw(request: Request, document: Any, headers: Mapping[str, str] | None = None, *, indent: bool = False) -> Response:
    """JSON, whatever the client accepts: these documents have one form."""
    if request.local:
        return Response(200, obj=document)
    return Response(
        200,
        {"Content-Type": JSON, **(headers or {})},
        orjson.dumps(document, option=orjson.OPT_INDENT_2 if indent else None),
    )
