"""The gateway against a real API server in this process: with its own account's rights, real sockets, real backends."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from functools import cache
from typing import Any

import pytest

from gateway_objects import GROUP, NGINX, backend, gateway, http_route, ingress, listener, service
from gateway_world import answering, run
from gateway_world import backend as serving
from tiphys.apiserver.config import ApiServerConfig
from tiphys.base.clock import SystemClock
from tiphys.base.identity import User
from tiphys.base.tls import Authority
from tiphys.client.resources import ENDPOINT_SLICES, EVENTS, SECRETS, SERVICES
from tiphys.client.types import MERGE_PATCH, Object
from tiphys.cluster import gateway as supervising
from tiphys.cluster import gateway_objects
from tiphys.gateway import app
from tiphys.gateway.resources import GATEWAY_CLASSES, GATEWAYS, HTTP_ROUTES, INGRESSES
from tiphys.testing.cluster import Cluster

POOL = "10.89.0.202-10.89.0.210"


def stripped(obj: dict[str, Any]) -> dict[str, Any]:
    """As a user would write it."""
    metadata = {name: obj["metadata"][name] for name in ("name", "namespace", "annotations") if name in obj["metadata"]}
    return {**obj, "metadata": metadata}


class World:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.client = cluster.client

    async def backend(self, name: str, port: int) -> None:
        """A Service with one endpoint; its address is not loopback to the API server, but leads there."""
        made = stripped(service(name, ("http", 80)))
        await self.client.create(SERVICES, {**made, "apiVersion": "v1"}, "default")
        labels = {"kubernetes.io/service-name": name}
        each = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": f"{name}-1", "labels": labels},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [own_address()], "conditions": {"ready": True}}],
            "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        }
        await self.client.create(ENDPOINT_SLICES, each, "default")

    async def bound(self, namespace: str, name: str, port: str = "http") -> int:
        """Where a port of one of the gateway's Services is listened on."""

        def named(obj: Object) -> bool:
            return any(one["name"] == port and one.get("port") for one in obj.get("ports") or ())

        found = await self.cluster.wait(ENDPOINT_SLICES, namespace, f"{name}-ipv4", named, timeout=10)
        return next(int(one["port"]) for one in found["ports"] if one["name"] == port)

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(10):
            while not await condition():
                await self.cluster.clock.sleep(0.02)


@cache
def own_address() -> str:
    """An address of this machine that is not a loopback one, which endpoints may not have."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has only loopback addresses")
        return str(probe.getsockname()[0])


@contextlib.asynccontextmanager
async def world() -> AsyncIterator[World]:
    clock = SystemClock()
    config = ApiServerConfig(objects=gateway_objects.desired())
    controllers = ["service-lb-controller"]
    settings: dict[str, object] = {"load-balancer-addresses": POOL}
    async with Cluster(clock, nodes=0, controllers=controllers, settings=settings, config=config) as cluster:
        await supervising.prepare(supervising.connect(cluster.server.handler), clock, nodes=0.0)
        account = cluster.connect(User(gateway_objects.USER, groups=("system:authenticated",)))
        ready = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(app.run(account, clock, [own_address()], ready.set))
            await ready.wait()
            yield World(cluster)
            running.cancel()


def test_an_ingress_from_its_creation_to_its_end() -> None:
    async def scenario() -> None:
        async with serving_everywhere(b"one") as port, world() as made:
            await made.backend("web", port)
            mine = ingress("mine", ("a.example", "/", "web:80"), annotations={"server-snippet": "x"}, class_name=None)
            await made.client.create(INGRESSES, stripped(mine), "default")
            front = await made.bound("kube-system", "ingress")

            told = await made.cluster.wait(
                INGRESSES,
                "default",
                "mine",
                lambda one: bool((one["status"].get("loadBalancer") or {}).get("ingress")),
                10,
            )
            assert told["status"]["loadBalancer"]["ingress"] == [{"ip": "10.89.0.202"}]
            own = await made.client.get(SERVICES, "ingress", "kube-system")
            assert [(one["name"], one["port"], one.get("nodePort")) for one in own["spec"]["ports"]] == [
                ("http", 80, None),
                ("https", 443, None),
            ]
            answer = await asyncio.wait_for(raw(front, "a.example"), 5)
            assert answer.endswith(b"one")
            events = (await made.client.list(EVENTS, "default")).items
            assert any(NGINX + "server-snippet" in one["message"] for one in events)
            await made.client.delete(INGRESSES, "mine", "default")

            async def gone() -> bool:
                return b" 404 " in await raw(front, "a.example")

            async def gone_or_closed() -> bool:
                try:
                    return await gone()
                except OSError:
                    return True

            await made.until(gone_or_closed)

    run(scenario())


async def raw(port: int, host: str, path: str = "/") -> bytes:
    reader, writer = await asyncio.open_connection(own_address(), port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    try:
        return await reader.read()
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def serving_everywhere(body: bytes) -> AsyncIterator[int]:
    """A backend on all of this machine's addresses."""
    async with serving(answering(body), "0.0.0.0") as port:
        yield port


def test_a_gateway_with_routes_and_what_their_statuses_say() -> None:
    async def scenario() -> None:
        async with serving_everywhere(b"routed") as port, world() as made:
            await made.backend("web", port)
            found = await made.client.get(GATEWAY_CLASSES, "tiphys")
            assert found["status"]["conditions"][0]["status"] == "True"
            await made.client.create(GATEWAYS, stripped(gateway("edge", listener("http", 8081))), "default")
            route = stripped(http_route("route", {"name": "edge"}, rules=[{"backendRefs": [backend("web")]}]))
            await made.client.create(HTTP_ROUTES, route, "default")

            def programmed(obj: Object) -> bool:
                conditions = (obj.get("status") or {}).get("conditions") or ()
                attached = [one["attachedRoutes"] for one in (obj.get("status") or {}).get("listeners") or ()]
                return attached == [1] and all(one["status"] == "True" for one in conditions)

            edge = await made.cluster.wait(GATEWAYS, "default", "edge", programmed, 10)
            assert edge["status"]["addresses"][0]["value"].startswith("10.89.0.2")
            front = await made.bound("default", "edge-tiphys", "port-8081")
            assert (await raw(front, "any.example")).endswith(b"routed")
            settled = (await made.client.get(HTTP_ROUTES, "route", "default"))["status"]["parents"]
            assert [one["status"] for one in settled[0]["conditions"]] == ["True", "True"]
            gone = {"spec": {"rules": [{"backendRefs": [{"name": "gone", "port": 80}]}]}}
            await made.client.patch(HTTP_ROUTES, "route", gone, "default", type=MERGE_PATCH)

            async def refused() -> bool:
                return b" 500 " in await raw(front, "any.example")

            await made.until(refused)
            await made.client.delete(GATEWAYS, "edge", "default")
            await made.cluster.wait_gone(SERVICES, "default", "edge-tiphys", 10)

    run(scenario())


def test_statuses_are_not_written_again_and_again() -> None:
    async def scenario() -> None:
        async with serving_everywhere(b"x") as port, world() as made:
            await made.backend("web", port)
            await made.client.create(GATEWAYS, stripped(gateway("edge", listener("http", 8081))), "default")
            await made.client.create(HTTP_ROUTES, stripped(http_route("route", {"name": "edge"})), "default")
            await made.bound("default", "edge-tiphys", "port-8081")
            await made.cluster.wait(HTTP_ROUTES, "default", "route", lambda one: bool(one.get("status")), 10)
            await made.cluster.clock.sleep(0.5)
            versions = [
                (await made.client.get(kind, name, "default"))["metadata"]["resourceVersion"] for kind, name in OBJECTS
            ]
            await made.client.create(INGRESSES, stripped(ingress("other", ("b", "/", "web:80"))), "default")
            await made.bound("kube-system", "ingress")
            await made.cluster.clock.sleep(0.5)
            after = [
                (await made.client.get(kind, name, "default"))["metadata"]["resourceVersion"] for kind, name in OBJECTS
            ]
            assert after == versions

    run(scenario())


OBJECTS = ((GATEWAYS, "edge"), (HTTP_ROUTES, "route"), (SERVICES, "edge-tiphys"), (ENDPOINT_SLICES, "edge-tiphys-ipv4"))


def test_certificates_follow_their_secrets() -> None:
    authority = Authority.create("component test")

    def secret(name: str) -> dict[str, Any]:
        pair = authority.issue(name, names=("tls.example",), server=True)
        data = {"tls.crt": base64.b64encode(pair.certificate).decode(), "tls.key": base64.b64encode(pair.key).decode()}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cert"}, "type": "Opaque", "data": data}

    async def presented(port: int) -> str:
        context = ssl.create_default_context(cadata=authority.certificate.decode())
        try:
            _, writer = await asyncio.open_connection(own_address(), port, ssl=context, server_hostname="tls.example")
        except OSError:
            return ""
        subject: Any = writer.get_extra_info("peercert")["subject"]
        writer.close()
        return next(str(value) for parts in subject for key, value in parts if key == "commonName")

    async def scenario() -> None:
        async with world() as made:
            tls = [{"hosts": ["tls.example"], "secretName": "cert"}]
            await made.client.create(
                INGRESSES, stripped(ingress("tls", ("tls.example", "/", "web:80"), tls=tls)), "default"
            )
            port = await made.bound("kube-system", "ingress", "https")
            assert await presented(port) == ""
            for name in ("first", "second"):
                if name == "first":
                    await made.client.create(SECRETS, secret(name), "default")
                else:
                    patch = {"data": secret(name)["data"]}
                    await made.client.patch(SECRETS, "cert", patch, "default", type=MERGE_PATCH)

                async def changed(name: str = name) -> bool:
                    return await presented(port) == name

                await made.until(changed)

    run(scenario())


def test_the_definitions_are_for_what_is_served() -> None:
    names = {
        one.obj["metadata"]["name"] for one in gateway_objects.desired() if one.plural == "customresourcedefinitions"
    }
    assert names == {f"{one}.{GROUP}" for one in ("gatewayclasses", "gateways", "httproutes", "referencegrants")}
