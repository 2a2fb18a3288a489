"""Requests that a kubelet answers: over TLS that both sides check, upgrades passed through untouched."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from tiphys.apiserver.app import ApiServer
from tiphys.apiserver.config import ApiServerConfig
from tiphys.base.clock import SystemClock
from tiphys.base.http.client import HttpClient
from tiphys.base.http.server import serve
from tiphys.base.http.types import Duplex, Request, Response
from tiphys.base.http.websocket import connect
from tiphys.base.identity import User
from tiphys.base.tls import Authority, client_context, server_context
from tiphys.client.local import LocalClient
from tiphys.client.types import Resource
from tiphys.store.memory import MemoryStore

ADMIN = User("admin", groups=("system:masters",))
PODS, NODES, ACCOUNTS = (Resource("", "v1", name) for name in ("pods", "nodes", "serviceaccounts"))


async def kubelet(request: Request) -> Response:
    """A kubelet that tells what it was asked, and echoes what comes over an upgraded connection."""
    assert request.peer.certificate is not None, "the API server must show its certificate"
    assert "authorization" not in request.headers

    async def echo(duplex: Duplex) -> None:
        while data := await duplex.read():
            await duplex.write(data.upper())

    if "upgrade" in request.headers:
        return Response(101, {"Upgrade": request.headers["upgrade"], "Connection": "Upgrade"}, upgrade=echo)
    if "previous" in request.query:
        return Response(400, {"Content-Type": "text/plain"}, b"previous terminated container not found\n")
    if request.path == "/page":
        return Response(200, {"Content-Type": "text/html"}, b'<a href="/other">x</a>')
    if request.path == "/moved":
        return Response(302, {"Location": "/elsewhere"})
    if request.path == "/told":
        told = f"{request.method} {request.headers['x-forwarded-uri']}"
        return Response(200, {"Content-Type": "text/plain"}, told.encode())
    return Response(200, {"Content-Type": "text/plain"}, f"{request.path}?{request.query_string}".encode())


async def _prepare(server: ApiServer, port: int) -> None:
    client = LocalClient(server.handler, ADMIN)
    node = await client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
    addresses = [{"type": "InternalIP", "address": "127.0.0.1"}]
    status = {"addresses": addresses, "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}
    await client.update(NODES, {**node, "status": status}, subresource="status")
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "default"}}
    await client.create(ACCOUNTS, account)
    spec = {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}
    metadata = {"name": "p", "namespace": "default"}
    await client.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


def play(scenario: Any) -> None:
    """Run against a fake kubelet and a real server, over sockets."""

    async def main() -> None:
        authority, clock = Authority.create("test"), SystemClock()
        names = ("127.0.0.1", "localhost")
        pairs = [authority.issue(name, names=names, server=True, client=True) for name in ("node", "apiserver")]
        config = ApiServerConfig(kubelet_tls=client_context(authority.certificate, pairs[1]))
        node_tls = server_context(pairs[0], authority.certificate)

        async def as_admin(request: Request) -> Response:
            request.user = ADMIN
            return await server.handler(request)

        async with (
            serve(kubelet, "127.0.0.1", 0, tls=node_tls) as node,
            ApiServer(config, MemoryStore(), clock) as server,
            serve(as_admin, "127.0.0.1", 0) as front,
            HttpClient(f"http://127.0.0.1:{front.port}") as client,
        ):
            await _prepare(server, node.port)
            await scenario(client)

    asyncio.run(main())


def test_logs_come_from_the_pods_kubelet() -> None:
    async def scenario(client: HttpClient) -> None:
        answer = await client.request("GET", "/api/v1/namespaces/default/pods/p/log?tailLines=3&follow=true")
        assert answer.body == b"/containerLogs/default/p/c?follow=true&tailLines=3"

    play(scenario)


def test_logs_come_over_a_websocket_too() -> None:
    async def scenario(client: HttpClient) -> None:
        path = "/api/v1/namespaces/default/pods/p/log?tailLines=3"
        socket = await connect(client, path, ["binary.k8s.io"])
        assert socket.protocol == "binary.k8s.io"
        assert await socket.recv() == b"/containerLogs/default/p/c?tailLines=3"
        assert await socket.recv() is None

    play(scenario)


def test_a_kubelets_refusal_is_told_in_its_own_words() -> None:
    async def scenario(client: HttpClient) -> None:
        answer = await client.request("GET", "/api/v1/namespaces/default/pods/p/log?previous=true")
        told = orjson.loads(answer.body)
        assert (answer.status, told["kind"], told["reason"]) == (400, "Status", "BadRequest")
        assert told["message"] == "previous terminated container not found"

    play(scenario)


def test_exec_is_passed_through_as_raw_bytes() -> None:
    async def scenario(client: HttpClient) -> None:
        path = "/api/v1/namespaces/default/pods/p/exec?stdout=1&command=ls&command=-l"
        answer, duplex = await client.upgrade("POST", path, {"Upgrade": "SPDY/3.1"})
        assert (answer.status, answer.headers["upgrade"]) == (101, "SPDY/3.1")
        assert duplex is not None
        await duplex.write(b"hello")
        assert await duplex.read() == b"HELLO"
        await duplex.close()

    play(scenario)


def test_node_proxies_reach_any_path_of_the_kubelet() -> None:
    async def scenario(client: HttpClient) -> None:
        answer = await client.request("GET", "/api/v1/nodes/n1/proxy/stats/summary?only=cpu")
        assert answer.body == b"/stats/summary?only=cpu"

    play(scenario)


def test_what_is_proxied_leads_back_through_the_proxy() -> None:
    async def scenario(client: HttpClient) -> None:
        prefix = "/api/v1/nodes/n1/proxy"
        page = await client.request("GET", f"{prefix}/page")
        assert page.body == f'<a href="{prefix}/other">x</a>'.encode()
        moved = await client.request("GET", f"{prefix}/moved")
        assert (moved.status, moved.headers["location"]) == (302, f"{prefix}/elsewhere")
        root = await client.request("GET", f"{prefix}?a=b")
        assert (root.status, root.headers["location"]) == (301, f"{prefix}/?a=b")
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            told = await client.request(method, f"{prefix}/told")
            assert told.body == f"{method} {prefix}/told".encode()
        assert (await client.request("HEAD", f"{prefix}/told")).status == 200

    play(scenario)


def test_a_kubelet_that_is_not_there_is_told() -> None:
    async def scenario(client: HttpClient) -> None:
        body = orjson.dumps(
            {"metadata": {"name": "p2"}, "spec": {"nodeName": "n2", "containers": [{"name": "c", "image": "i"}]}}
        )
        head = {"content-type": "application/json"}
        await client.request("POST", "/api/v1/namespaces/default/pods", headers=head, body=body)
        answer = await client.request("GET", "/api/v1/namespaces/default/pods/p2/log")
        assert answer.status == 500
        assert 'nodes "n2" not found' in orjson.loads(answer.body)["message"]

    play(scenario)
