"""Calls webhooks: POSTs a review to a `Destination`, over connections that are kept.

    client = WebhookClient(ServiceResolver(caches))
    answer = await client.call(Destination.of(hook["clientConfig"]), review, timeout=10)

A server is known by its certificate: for a service that of NAME.NAMESPACE.svc, signed by the configuration's own CA.
Redirects are not followed, no proxy is used, answers have a size limit, and a call that is cancelled or out of time
gives its connection up. Messages of `CallFailed` are those of kube-apiserver.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from tiphys.api.kinds.base import quote
from tiphys.apiserver.webhooks import failures
from tiphys.apiserver.webhooks.destination import Destination
from tiphys.apiserver.webhooks.resolve import ServiceResolver
from tiphys.base.errors import ApiError, ServiceUnavailable, TiphysError
from tiphys.base.http.client import ClientResponse, HttpClient
from tiphys.base.tls import KeyPair

MAX_ANSWER = 8 << 20
"""Bytes of an answer: an object has 3 MB at most, a patch with it in base64 4 MB."""
MAX_SERVERS = 128
"""Servers to which connections are kept."""
HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json, */*",
    "User-Agent": "kube-apiserver-admission",
}


class CallFailed(TiphysError):
    """A webhook could not be asked, or its answer makes no sense. `status` is what it would mean to a client."""

    def __init__(self, message: str, status: ApiError | None = None, *, called: bool = True) -> None:
        super().__init__(message)
        self.status = status or ServiceUnavailable("error calling webhook")
        self.called = called
        """False: it did not come to a call at all."""


@dataclass(slots=True, eq=False)
class _Server:
    """One server, with the connections to it that are kept."""

    client: HttpClient
    busy: int = 0
    answered: bool = False


class WebhookClient:
    """See the module's docstring."""

    def __init__(self, resolver: ServiceResolver) -> None:
        self.resolver = resolver
        self._servers: OrderedDict[tuple[Destination, str, int], _Server] = OrderedDict()
        self._contexts: OrderedDict[tuple[bytes, KeyPair | None, bool], ssl.SSLContext] = OrderedDict()

    async def close(self) -> None:
        """Drop all connections."""
        while self._servers:
            await self._servers.popitem()[1].client.close()

    async def call(
        self, to: Destination, review: Mapping[str, Any], *, timeout: float, limit: int = MAX_ANSWER
    ) -> dict[str, Any]:
        """POST a review and give back the decoded answer. `timeout` in seconds, `limit` in bytes. Raises CallFailed."""
        body = await self.post(to, orjson.dumps(review), timeout=timeout, limit=limit)
        try:
            answer = orjson.loads(body)
        except ValueError:
            raise CallFailed(failures.of_json(body)) from None
        if not isinstance(answer, dict):
            raise CallFailed(failures.of_shape(answer))
        return answer

    async def post(self, to: Destination, body: bytes, *, timeout: float, limit: int = MAX_ANSWER) -> bytes:
        """POST JSON and give back the body of a 2xx answer. Raises CallFailed."""
        path = to.path + ("&" if "?" in to.path else "?") + f"timeout={math.ceil(timeout)}s"
        address = ""
        try:
            async with asyncio.timeout(timeout):
                host, port = self._resolve(to)
                address = join(host, port)
                answer = await self._ask(to, (host, port), path, body, limit)
        except ApiError as error:
            raise CallFailed(f"Post {quote(to.origin + path)}: {error.message}") from error
        except OSError as error:
            text = failures.of_network(error, address)
            raise CallFailed(f"Post {quote(to.origin + path)}: {text}") from error
        if not 200 <= answer.status <= 206:
            status = failures.of_answer(answer)
            raise CallFailed(status.message, status)
        return answer.body

    def tls(self, to: Destination) -> ssl.SSLContext:
        """What tells the servers of this destination from others. Raises CallFailed."""
        key = (to.ca, to.pair, to.insecure)
        context = self._contexts.get(key)
        if context is None:
            context = self._contexts[key] = _context(to)
            if len(self._contexts) > MAX_SERVERS:
                self._contexts.popitem(last=False)
        return context

    def _resolve(self, to: Destination) -> tuple[str, int]:
        if to.service is not None:
            return self.resolver.resolve(to.service.namespace, to.service.name, to.service.port)
        return to.address

    async def _ask(
        self, to: Destination, address: tuple[str, int], path: str, body: bytes, limit: int
    ) -> ClientResponse:
        server = self._server(to, address)
        was_kept = server.answered
        server.busy += 1
        try:
            await self._forget_some()
            try:
                answer = await _post(server.client, path, body, limit)
            except ConnectionError:
                # A kept connection may be closed by the server in the moment that it is used.
                if not was_kept:
                    raise
                server.answered = False
                answer = await _post(server.client, path, body, limit)
        finally:
            server.busy -= 1
        server.answered = True
        return answer

    def _server(self, to: Destination, address: tuple[str, int]) -> _Server:
        key = (to, *address)
        server = self._servers.get(key)
        if server is None:
            server = self._servers[key] = _Server(self._connections(to, address))
        self._servers.move_to_end(key)
        return server

    async def _forget_some(self) -> None:
        """Drop the connections that were not used for the longest time."""
        if len(self._servers) <= MAX_SERVERS:
            return
        idle = [key for key, server in self._servers.items() if not server.busy]
        dropped = [self._servers.pop(key) for key in idle[: len(self._servers) - MAX_SERVERS]]
        for server in dropped:
            await server.client.close()

    def _connections(self, to: Destination, address: tuple[str, int]) -> HttpClient:
        scheme, _, name = to.origin.partition("://")
        headers = {"Host": name, **HEADERS}
        if to.authorization:
            headers["Authorization"] = to.authorization
        tls = self.tls(to) if scheme == "https" else None
        return HttpClient(f"{scheme}://{join(*address)}", tls=tls, headers=headers, server_name=to.name_checked)


async def _post(client: HttpClient, path: str, body: bytes, limit: int) -> ClientResponse:
    """One request. What is left of an answer that is too large goes with its connection."""
    async with client.stream("POST", path, body=body) as streamed:
        pieces, size = [], 0
        async for piece in streamed.chunks:
            size += len(piece)
            if size > limit:
                raise OSError(f"http: response body too large: more than {limit} bytes")
            pieces.append(piece)
    return ClientResponse(streamed.status, streamed.headers, b"".join(pieces))


def _context(to: Destination) -> ssl.SSLContext:
    from tiphys.base.tls import client_context

    try:
        context = client_context(to.ca or None, to.pair, verify=not to.insecure)
    except (ssl.SSLError, ValueError) as error:
        text = "could not get REST client: unable to load root certificates: unable to parse bytes as PEM block"
        raise CallFailed(text, called=False) from error
    # As in Go: any certificate given is trusted by itself, and names are only those of subjectAltName.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.hostname_checks_common_name = False
    return context


def join(host: str, port: int) -> str:
    """host:port, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
