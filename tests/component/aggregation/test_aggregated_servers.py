"""API servers behind ours: what they serve is reached, shown and watched; what goes wrong is said."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pytest

from tiphys.apiserver.watcher import Watcher
from tiphys.base.http.server import serve
from tiphys.base.http.types import Request, Response
from tiphys.base.identity import User
from tiphys.base.tls import Authority, server_context
from webhook_world import ADMIN, World, run

PROXIES = Authority.create("front proxies")
PAIR = PROXIES.issue("front-proxy-client", client=True)
CA = Authority.create("flunders")
FLUNDERS = "/apis/wardle.example.com/v1alpha1/namespaces/default/flunders"
SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
RESOURCES = {
    "kind": "APIResourceList",
    "groupVersion": "wardle.example.com/v1alpha1",
    "resources": [
        {
            "name": "flunders",
            "singularName": "flunder",
            "namespaced": True,
            "kind": "Flunder",
            "verbs": ["get", "list"],
        },
        {"name": "flunders/status", "singularName": "", "namespaced": True, "kind": "Flunder", "verbs": ["get"]},
    ],
}


@dataclass
class Sample:
    """A small API server of its own, which believes in front proxies."""

    asked: list[Request] = field(default_factory=list)
    healthy: bool = True
    odd: dict[str, bytes] = field(default_factory=dict)
    """Path -> what is answered instead."""

    async def answer(self, request: Request) -> Response:
        self.asked.append(request)
        if not self.healthy:
            return Response(500, {}, b"broken")
        if request.path in self.odd:
            kind = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            return Response(200, {"Content-Type": kind}, self.odd[request.path])
        if request.path == "/apis/wardle.example.com/v1alpha1":
            return Response(200, {"Content-Type": "application/json"}, orjson.dumps(RESOURCES))
        if "watch" in request.query_string:
            return Response(200, {"Content-Type": "application/json"}, stream=self._events())
        if request.path.startswith(FLUNDERS):
            body = {"kind": "FlunderList", "items": [], "method": request.method, "body": request.body.decode()}
            return Response(
                201 if request.method == "POST" else 200, {"Content-Type": "application/json"}, orjson.dumps(body)
            )
        return Response(404, {}, b"not here")

    async def _events(self) -> AsyncIterator[bytes]:
        yield b'{"type":"ADDED","object":{"metadata":{"name":"one"}}}\n{"type":"DEL'
        yield b'ETED","object":{"metadata":{"name":"one"}}}\n'


@asynccontextmanager
async def behind(world: World, sample: Sample) -> AsyncIterator[None]:
    """The sample behind a Service that leads to it; the resolver refuses loopback, so it is led there by hand."""
    tls = server_context(CA.issue("sample", names=("sample.default.svc",), server=True), PROXIES.certificate)
    async with serve(sample.answer, "127.0.0.1", 0, tls=tls) as listening:
        resolver = world.server._aggregation.remotes._resolver
        resolver.resolve = lambda *_: ("127.0.0.1", listening.port)  # type: ignore[method-assign]
        await make_service(world)
        yield


async def make_service(world: World) -> None:
    meta = {"name": "sample", "namespace": "default"}
    ports = [{"port": 443, "protocol": "TCP"}]
    await world.json("POST", "/api/v1/namespaces/default/services", {"metadata": meta, "spec": {"ports": ports}})
    labels = {"kubernetes.io/service-name": "sample"}
    piece = {
        "metadata": {"name": "sample-1", "labels": labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"]}],
        "ports": [{"name": "", "port": 443}],
    }
    await world.json("POST", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", piece)


async def register(world: World, status: str = "True") -> dict[str, Any]:
    """Create the APIService and wait for its condition."""
    spec = {
        "group": "wardle.example.com",
        "version": "v1alpha1",
        "service": {"namespace": "default", "name": "sample"},
        "groupPriorityMinimum": 2000,
        "versionPriority": 200,
        "caBundle": base64.b64encode(CA.certificate).decode(),
    }
    name = "v1alpha1.wardle.example.com"
    made = await world.json("POST", SERVICES, {"metadata": {"name": name}, "spec": spec})
    assert made["kind"] == "APIService", made
    return await condition(world, name, status)


async def condition(world: World, name: str, status: str) -> dict[str, Any]:
    cache = world.server.reader.of("apiregistration.k8s.io", "apiservices")  # type: ignore[attr-defined]
    watcher = Watcher(0, name=name)
    cache.subscribe(watcher)
    async with asyncio.timeout(10):
        while True:
            found = (await world.json("GET", f"{SERVICES}/{name}")).get("status", {}).get("conditions") or [{}]
            if found[0].get("status") == status:
                return dict(found[0])
            await watcher.next()


async def body(response: Response) -> bytes:
    """All of an answer that is passed on piece by piece."""
    assert response.stream is not None
    return b"".join([chunk async for chunk in response.stream])


def play(scenario: Callable[[World, Sample], Awaitable[None]]) -> None:
    async def within(world: World) -> None:
        sample = Sample()
        async with behind(world, sample):
            await scenario(world, sample)

    run(within, front_proxy=PAIR, front_proxy_ca=PROXIES.certificate)


def test_requests_reach_the_other_server_with_the_name_of_who_asks() -> None:
    async def scenario(world: World, sample: Sample) -> None:
        found = await register(world)
        assert (found["reason"], found["message"]) == ("Passed", "all checks passed")
        sample.asked.clear()
        headers: dict[str, Any] = {
            "authorization": "Bearer secret",
            "x_remote_user": "system:admin",
            "x_remote_group": "system:masters",
        }
        made = await world.http("POST", f"{FLUNDERS}?dryRun=All", {"spec": 1}, **headers)
        answer = orjson.loads(await body(made))
        assert made.status == 201
        assert (answer["method"], answer["body"]) == ("POST", '{"spec":1}')
        request = sample.asked[0]
        assert (request.path, request.query_string) == (FLUNDERS, "dryRun=All")
        assert request.headers["x-remote-user"] == "admin"
        assert request.values("x-remote-group") == ["system:masters", "system:authenticated"]
        assert request.values("x-remote-extra-team") == ["a", "b"]
        assert "authorization" not in request.headers
        assert request.peer.certificate or request.peer.presented

    play(scenario)


def test_names_and_paths_of_any_letters_get_there() -> None:
    async def scenario(world: World, sample: Sample) -> None:
        await register(world)
        sample.asked.clear()
        user = User("jörg 田中\nX-Remote-Group: evil", groups=("system:masters", "größe"))
        path = f"{FLUNDERS}/é?fieldManager=ü".encode().decode("latin-1")  # as it comes from a socket
        answer = await world.http("GET", path, user=user)
        assert answer.status == 200
        await body(answer)
        request = sample.asked[0]
        assert request.headers["x-remote-user"].encode("latin-1").decode() == "jörg 田中 X-Remote-Group: evil"
        assert request.values("x-remote-group")[1].encode("latin-1").decode() == "größe"
        assert (request.path, request.param("fieldManager")) == (f"{FLUNDERS}/é", "ü")

    play(scenario)


def test_who_may_not_is_refused_before_anybody_else_is_asked() -> None:
    async def scenario(world: World, sample: Sample) -> None:
        await register(world)
        sample.asked.clear()
        refused = await world.http("GET", FLUNDERS, user=User("jane", groups=("system:authenticated",)))
        assert refused.status == 403
        assert sample.asked == []

    play(scenario)


def test_discovery_shows_what_the_other_server_serves() -> None:
    async def scenario(world: World, sample: Sample) -> None:
        await register(world)
        groups = await world.json("GET", "/apis")
        found = next(group for group in groups["groups"] if group["name"] == "wardle.example.com")
        assert found["preferredVersion"] == {"groupVersion": "wardle.example.com/v1alpha1", "version": "v1alpha1"}
        assert (await world.json("GET", "/apis/wardle.example.com"))["kind"] == "APIGroup"
        accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        everything = await world.json("GET", "/apis", accept=accept)
        names = [item["metadata"]["name"] for item in everything["items"]]
        item = everything["items"][names.index("wardle.example.com")]
        resource = item["versions"][0]["resources"][0]
        assert (resource["resource"], resource["scope"]) == ("flunders", "Namespaced")
        assert resource["subresources"][0]["subresource"] == "status"

    play(scenario)


def test_watches_and_local_callers_get_what_is_sent() -> None:
    async def scenario(world: World, sample: Sample) -> None:
        await register(world)
        response = await world.http("GET", f"{FLUNDERS}?watch=1")
        lines = (await body(response)).splitlines()
        assert [orjson.loads(line)["type"] for line in lines] == ["ADDED", "DELETED"]
        request = Request("GET", FLUNDERS, "watch=1", user=ADMIN, local=True, raw_path=FLUNDERS)
        local = await world.server.handler(request)
        assert local.events is not None
        assert [event["type"] async for event in local.events] == ["ADDED", "DELETED"]
        listed = await world.server.handler(replace(request, query_string="", _query=None, attributes={}))
        assert listed.obj["kind"] == "FlunderList"

    play(scenario)


def test_a_server_that_fails_is_unavailable_until_it_is_well() -> None:
    async def scenario(world: World, sample: Sample) -> None:
        sample.healthy = False
        found = await register(world, "False")
        assert found["reason"] == "FailedDiscoveryCheck"
        assert found["message"].startswith(
            "failing or missing response from https://sample.default.svc:443/apis/wardle"
        )
        refused = await world.http("GET", FLUNDERS)
        assert (refused.status, refused.body) == (503, b"service unavailable\n")
        sample.healthy = True
        await world.http(
            "PATCH",
            "/api/v1/namespaces/default/services/sample",
            {"metadata": {"labels": {"a": "b"}}},
            content_type="application/merge-patch+json",
        )
        await condition(world, "v1alpha1.wardle.example.com", "True")
        assert (await world.http("GET", FLUNDERS)).status == 200

    play(scenario)


def test_conditions_say_what_is_missing() -> None:
    async def scenario(world: World) -> None:
        found = await register(world, "False")
        assert (found["reason"], found["message"]) == ("ServiceNotFound", 'service/sample in "default" is not present')

    run(scenario)


def test_built_in_groups_stay_ours() -> None:
    async def scenario(world: World, sample: Sample) -> None:
        await register(world)
        sample.asked.clear()
        assert (await world.json("GET", "/apis/apps/v1/deployments"))["kind"] == "DeploymentList"
        assert sample.asked == []

    play(scenario)


def test_published_headers_tell_other_servers_whom_to_believe() -> None:
    async def scenario(world: World) -> None:
        where = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
        data = (await world.json("GET", where))["data"]
        assert data["requestheader-client-ca-file"] == PROXIES.certificate.decode()
        assert orjson.loads(data["requestheader-username-headers"]) == ["X-Remote-User"]

    run(scenario, front_proxy=PAIR, front_proxy_ca=PROXIES.certificate, client_ca=CA.certificate)


NAMELESS = b'{"resources":[{"kind":"X"},{"name":7,"verbs":3},{"name":"a/b"}]}'


@pytest.mark.parametrize(
    ("path", "answer", "good"),
    [
        ("/apis/wardle.example.com/v1alpha1", b"[]", False),
        ("/apis/wardle.example.com/v1alpha1", b'{"resources":5}', False),
        ("/apis/wardle.example.com/v1alpha1", b'{"resources":[5]}', False),
        ("/apis/wardle.example.com/v1alpha1", NAMELESS, True),
        ("/apis/wardle.example.com/v1alpha1", b" " * (9 << 20), False),
        ("/apis", b"[]", False),
        ("/apis", b'{"items":[1]}', False),
        ("/apis", b'{"items":[{"metadata":3}]}', False),
        (
            "/apis",
            b'{"items":[{"metadata":{"name":"wardle.example.com"},"versions":[{"version":"v1alpha1","resources":1}]}]}',
            False,
        ),
        ("/openapi/v3", b"5", False),
        ("/openapi/v3", b"\xff", False),
        ("/openapi/v3", b'{"paths":[1]}', False),
    ],
)
def test_an_odd_answer_of_the_other_server_hurts_nobody_else(path: str, answer: bytes, good: bool) -> None:
    async def scenario(world: World, sample: Sample) -> None:
        sample.odd[path] = answer
        found = await register(world, "True" if good else "False")
        assert found["reason"] == ("Passed" if good else "FailedDiscoveryCheck")
        accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        assert (await world.http("GET", "/apis", accept=accept)).status == 200
        assert (await world.http("GET", "/openapi/v3")).status == 200

    play(scenario)
