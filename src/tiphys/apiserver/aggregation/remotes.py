"""Which groups and versions other servers answer for, from the APIServices as they are now; and connections to them."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tiphys.api.meta import is_true
from tiphys.apiserver.feed import Caches
from tiphys.apiserver.types import Object, RequestInfo
from tiphys.apiserver.webhooks.client import join
from tiphys.apiserver.webhooks.resolve import ServiceResolver
from tiphys.base.errors import ServiceUnavailable
from tiphys.base.http.client import HttpClient
from tiphys.base.identity import User
from tiphys.base.tls import KeyPair

GROUP, PLURAL = "apiregistration.k8s.io", "apiservices"
CHECKER = User("system:kube-aggregator", groups=("system:masters",))
"""Who asks when this server wants to know something for itself."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A group and version that another server answers for."""

    name: str
    group: str
    version: str
    namespace: str
    service: str
    port: int
    ca: bytes
    insecure: bool
    available: bool
    group_priority: int
    version_priority: int

    @property
    def server_name(self) -> str:
        """What its certificate must say."""
        return f"{self.service}.{self.namespace}.svc"

    @property
    def path(self) -> str:
        """Where its discovery is."""
        return f"/apis/{self.group}/{self.version}"

    @property
    def server(self) -> tuple[object, ...]:
        """What tells servers, and our trust in them, apart."""
        return (self.namespace, self.service, self.port, self.ca, self.insecure)


class Remotes:
    """See the module's docstring. `pair` is the certificate that other servers know this one by."""

    def __init__(self, caches: Caches, resolver: ServiceResolver, pair: KeyPair | None) -> None:
        self._caches, self._resolver, self._pair = caches, resolver, pair
        self._current = self._revision = -1
        self._found: Mapping[tuple[str, str], Remote] = {}
        self._contexts: dict[tuple[object, ...], ssl.SSLContext] = {}
        self._clients: dict[tuple[object, ...], HttpClient] = {}

    def current(self) -> Mapping[tuple[str, str], Remote]:
        """By (group, version)."""
        if self._caches.current == self._current:
            return self._found
        self._current = self._caches.current
        revision = self._caches.revision(GROUP, PLURAL)
        if revision != self._revision:
            self._revision = revision
            found = [_remote(obj) for obj in self._caches.list(GROUP, PLURAL) if (obj.get("spec") or {}).get("service")]
            self._found = {(remote.group, remote.version): remote for remote in found}
        return self._found

    def of(self, info: RequestInfo) -> Remote | None:
        """Who answers a request; None: this server does."""
        found = self.current()
        if not found:
            return None
        if info.resource_request:
            return found.get((info.group, info.version))
        pieces = info.path.removeprefix("/openapi/v3").split("/", 4)
        return found.get((pieces[2], pieces[3])) if len(pieces) > 3 and pieces[1] == "apis" else None

    async def client(self, remote: Remote) -> HttpClient:
        """Connections to one of its endpoints. Raises NotFound, ServiceUnavailable."""
        address = self._resolver.resolve(remote.namespace, remote.service, remote.port)
        key = (*remote.server, *address)
        client = self._clients.get(key)
        if client is None:
            await self._forget()
            client = self._clients[key] = HttpClient(
                f"https://{join(*address)}",
                tls=self._tls(remote),
                headers={"Host": f"{remote.server_name}:{remote.port}"},
                server_name=remote.server_name,
            )
        return client

    async def close(self) -> None:
        """Drop all connections."""
        while self._clients:
            await self._clients.popitem()[1].close()

    async def _forget(self) -> None:
        """Drop the connections to servers that no APIService names any more."""
        named = {remote.server for remote in self._found.values()}
        for key in [key for key in self._clients if key[:-2] not in named]:
            await self._clients.pop(key).close()

    def _tls(self, remote: Remote) -> ssl.SSLContext:
        from tiphys.base.tls import client_context

        key = (remote.ca, remote.insecure)
        if key not in self._contexts:
            try:
                context = client_context(remote.ca or None, self._pair, verify=not remote.insecure)
            except (ssl.SSLError, ValueError) as error:
                raise ServiceUnavailable(f"the caBundle of APIService {remote.name} cannot be read: {error}") from error
            context.hostname_checks_common_name = False
            self._contexts[key] = context
        return self._contexts[key]


def _remote(obj: Object) -> Remote:
    spec: Mapping[str, Any] = obj["spec"]
    service = spec["service"]
    return Remote(
        name=obj["metadata"]["name"],
        group=spec.get("group", ""),
        version=spec["version"],
        namespace=service.get("namespace", ""),
        service=service.get("name", ""),
        port=service.get("port") or 443,
        ca=base64.b64decode(spec.get("caBundle") or ""),
        insecure=bool(spec.get("insecureSkipTLSVerify")),
        available=is_true(obj, "Available"),
        group_priority=spec.get("groupPriorityMinimum", 0),
        version_priority=spec.get("versionPriority", 0),
    )
