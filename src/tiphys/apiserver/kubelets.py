"""Requests that a node or a pod answers: logs, exec, attach, port-forward and the proxy subresources.

The API server finds out where to, then passes bytes on: an upgraded connection (WebSocket or SPDY, whatever the client
speaks) is handed through untouched, because the kubelet speaks all of them. It shows kubelets its own client
certificate and trusts only those that the cluster's CA signed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from tiphys.apiserver import pages
from tiphys.base.errors import ServiceUnavailable
from tiphys.base.http.client import HttpClient
from tiphys.base.http.types import Duplex, Headers, Request, Response

HOP_BY_HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
    "upgrade", "host", "content-length", "authorization", "expect",
}  # fmt: skip
DIAL_SECONDS = 30.0
Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: an origin (scheme, host, port) and whether its certificate is checked."""

    origin: str
    path: str
    query: str = ""
    tls: ssl.SSLContext | None = None
    prefix: str = ""
    """The path of the proxy subresource; links of pages are made to lead through it. "" leaves answers alone."""

    @property
    def url(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path


class Kubelets:
    """Where kubelets are. `tls` presents the API server and trusts the cluster's CA; None without certificates."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls

    def target(self, node: Object, path: str, query: Mapping[str, Any] | list[tuple[str, str]]) -> Target:
        """A path on the kubelet of `node`. Raises ServiceUnavailable when the node has no address."""
        status = node.get("status") or {}
        host = address(status.get("addresses") or ())
        if not host:
            raise ServiceUnavailable(f"no preferred addresses found for node {node['metadata']['name']}")
        port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port") or 10250
        return Target(f"https://{bracketed(host)}:{port}", path, urlencode(query, doseq=True), self._tls)


def address(addresses: Any) -> str:
    """The address to dial: an internal IP before everything else."""
    found = {entry.get("type"): entry.get("address") for entry in reversed(list(addresses))}
    for kind in ("InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS"):
        if found.get(kind):
            return str(found[kind])
    return ""


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


async def forward(request: Request, target: Target) -> Response:
    """Pass a request on and its answer back. Raises ServiceUnavailable when nobody answers."""
    headers = onward_headers(request)
    if target.prefix:
        if redirect := _to_the_root(request, target):
            return redirect
        headers["x-forwarded-uri"] = target.prefix + target.path
    client = HttpClient(target.origin, tls=target.tls)
    try:
        if wants_upgrade(request):
            return await _upgrade(client, request, target, headers)
        return await _exchange(client, request, target, headers)
    except (OSError, ssl.SSLError) as error:
        await client.close()
        raise ServiceUnavailable(f"error trying to reach service: {error or type(error).__name__}") from error
    except BaseException:
        await client.close()
        raise


def wants_upgrade(request: Request) -> bool:
    return "upgrade" in request.headers.get("connection", "").lower() and "upgrade" in request.headers


def onward_headers(request: Request) -> Headers:
    """The client's headers, without those of this hop and without its credentials."""
    headers = {name: value for name, value in request.headers.items() if name not in HOP_BY_HOP}
    if request.peer.address:
        before = request.headers.get("x-forwarded-for")
        headers["x-forwarded-for"] = f"{before}, {request.peer.address}" if before else request.peer.address
    return headers


async def _exchange(client: HttpClient, request: Request, target: Target, headers: Headers) -> Response:
    stack = AsyncExitStack()
    context = client.stream(request.method, target.url, headers=headers, body=request.body, timeout=DIAL_SECONDS)
    streamed = await stack.enter_async_context(context)
    stack.push_async_callback(client.close)
    response = Response(streamed.status, _back(streamed.headers), stream=Relay(streamed.chunks, stack))
    if not target.prefix or request.method == "HEAD":
        return response
    hosts = (target.origin.partition("://")[2], request.headers.get("host", ""))
    return await pages.relinked(response, pages.through(target.prefix, hosts))


def _to_the_root(request: Request, target: Target) -> Response | None:
    """A redirect to the same path with a slash at its end: else links that are relative would miss the proxy."""
    if request.path != target.prefix or request.method not in ("GET", "HEAD") or wants_upgrade(request):
        return None
    query = f"?{request.query_string}" if request.query_string else ""
    return Response(301, {"Location": f"{target.prefix}/{query}"})


class Relay:
    """The chunks of an answer. Unlike a generator it gives back the connection even if nobody ever reads from it."""

    def __init__(self, chunks: AsyncIterator[bytes], stack: AsyncExitStack) -> None:
        self._chunks, self._stack = chunks, stack

    def __aiter__(self) -> Relay:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._chunks)
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        await self._stack.aclose()


async def _upgrade(client: HttpClient, request: Request, target: Target, headers: Headers) -> Response:
    headers["upgrade"] = request.headers["upgrade"]
    answer, far = await client.upgrade(request.method, target.url, headers, body=request.body, timeout=DIAL_SECONDS)
    if far is None:
        await client.close()
        return Response(answer.status, _back(answer.headers), answer.body)

    async def pump(near: Duplex) -> None:
        try:
            await splice(near, far)
        finally:
            await client.close()

    shown = {name: value for name, value in answer.headers.items() if name not in ("content-length", "connection")}
    return Response(101, {**shown, "Connection": "Upgrade"}, upgrade=pump)


def _back(headers: Headers) -> Headers:
    return {name: value for name, value in headers.items() if name not in HOP_BY_HOP}


async def splice(near: Duplex, far: Duplex) -> None:
    """Pass bytes both ways until one side is done; then both are closed."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_copy(near, far)), group.create_task(_copy(far, near))]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            # The end of one direction ends the session: both protocols frame their own half-closes.
            for task in tasks:
                task.cancel()
    finally:
        await far.close()
        await near.close()


async def _copy(source: Duplex, sink: Duplex) -> None:
    try:
        while data := await source.read():
            await sink.write(data)
    except ConnectionError:
        return
