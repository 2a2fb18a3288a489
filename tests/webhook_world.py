"""An API server in this process with a real HTTPS webhook server beside it, on real time: for tests of admission."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from tiphys.apiserver.app import ApiServer
from tiphys.apiserver.codec import encode
from tiphys.apiserver.config import ApiServerConfig
from tiphys.base.clock import SystemClock
from tiphys.base.http.server import serve
from tiphys.base.http.types import Request, Response
from tiphys.base.identity import User
from tiphys.base.tls import Authority, server_context
from tiphys.store.memory import MemoryStore

ADMIN = User("admin", uid="1", groups=("system:masters", "system:authenticated"), extra={"team": ("a", "b")})
CA = Authority.create("webhooks")
JSON = {"Content-Type": "application/json"}
Decide = Callable[[dict[str, Any]], dict[str, Any]]


def patch(*operations: dict[str, Any]) -> dict[str, Any]:
    """An answer that allows, with a JSON patch."""
    text = base64.b64encode(orjson.dumps(operations)).decode()
    return {"allowed": True, "patchType": "JSONPatch", "patch": text}


def add(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}


def deny(message: str = "no", **status: Any) -> dict[str, Any]:
    return {"allowed": False, "status": {"message": message, **status}}


@dataclass
class World:
    """A running server, and webhooks: each path has its own way to decide."""

    server: ApiServer
    store: MemoryStore
    port: int = 0
    asked: list[dict[str, Any]] = field(default_factory=list)
    """The requests of all reviews, in order."""
    paths: list[str] = field(default_factory=list)
    ports: set[int] = field(default_factory=set)
    """Of the connections that reviews came by."""
    versions: list[str] = field(default_factory=list)
    """The apiVersions of all reviews."""
    decisions: dict[str, Decide] = field(default_factory=dict)
    hang: bool = False
    """Whether webhooks never answer."""

    async def answer(self, request: Request) -> Response:
        question = orjson.loads(request.body)
        self.asked.append(question["request"])
        self.paths.append(request.path)
        self.ports.add(request.peer.port)
        self.versions.append(question["apiVersion"])
        if self.hang:
            await asyncio.get_running_loop().create_future()
        response = self.decisions[request.path](question["request"])
        body = {**question}
        if response is not None:
            body["response"] = {"uid": question["request"]["uid"], **response}
        del body["request"]
        return Response(200, dict(JSON), orjson.dumps(body))

    def client_config(self, path: str) -> dict[str, Any]:
        return {"url": f"https://127.0.0.1:{self.port}{path}", "caBundle": base64.b64encode(CA.certificate).decode()}

    async def hook(
        self, path: str, decide: Decide, *, mutating: bool = False, name: str = "", **fields: Any
    ) -> dict[str, Any]:
        """Configure a webhook; by default it is asked about the creation of ConfigMaps."""
        self.decisions[path] = decide
        kind = "MutatingWebhookConfiguration" if mutating else "ValidatingWebhookConfiguration"
        hook = {
            "name": f"{path.strip('/')}.example.com",
            "clientConfig": self.client_config(path),
            "rules": [rule("CREATE", "", "v1", "configmaps")],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1", "v1beta1"],
            **fields,
        }
        obj = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": name or path.strip("/")},
            "webhooks": [hook],
        }
        made = await self.json("POST", f"/apis/admissionregistration.k8s.io/v1/{kind.lower()}s", obj)
        assert made["kind"] == kind, made
        return dict(made)

    async def store_hook(self, configuration: dict[str, Any], **fields: Any) -> None:
        """Change the webhook of a stored configuration in ways that old servers took and today's validation refuses."""
        group, plural = "admissionregistration.k8s.io", "validatingwebhookconfigurations"
        resource = self.server.serving.resources[group, "v1", plural]
        entry = resource.cache.get("", configuration["metadata"]["name"])
        assert entry is not None, "it was created just before"
        obj = orjson.loads(orjson.dumps(resource.cache.obj(entry)))
        obj["webhooks"][0].update(fields)
        revision = self.server.reader.revision(group, plural)
        await self.store.put(entry.key, encode(obj, resource.kind_name, f"{group}/v1"), expect=None)
        while self.server.reader.revision(group, plural) == revision:
            await SystemClock().sleep(0)

    async def http(
        self, method: str, url: str, body: Any = None, *, user: User | None = ADMIN, **headers: str
    ) -> Response:
        """A request as it comes from a socket; headers with _ for -."""
        path, _, query = url.partition("?")
        head = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            head.setdefault("content-type", "application/json")
        raw = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        request = Request(method, path, query, headers=head, body=raw, user=user, raw_path=path)
        return await self.server.handler(request)

    async def json(self, method: str, url: str, body: Any = None, *, user: User | None = ADMIN, **headers: str) -> Any:
        """The decoded answer of a request."""
        return orjson.loads((await self.http(method, url, body, user=user, **headers)).body)

    async def create(self, plural: str, obj: dict[str, Any], query: str = "") -> Any:
        """Create a core object in the namespace default."""
        return await self.json("POST", f"/api/v1/namespaces/default/{plural}{query}", obj)


def rule(operations: str, group: str, version: str, resources: str, **fields: Any) -> dict[str, Any]:
    """A rule; several of a sort with commas between them."""
    return {
        "operations": operations.split(","),
        "apiGroups": group.split(","),
        "apiVersions": version.split(","),
        "resources": resources.split(","),
        **fields,
    }


def config_map(name: str = "one", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


Scenario = Callable[[World], Awaitable[None]]


def run(scenario: Scenario, **config: Any) -> None:
    """Run a scenario against a new server; keyword arguments are its configuration."""

    async def main() -> None:
        tls = server_context(CA.issue("hook", names=("127.0.0.1",), server=True))
        store = MemoryStore()
        async with ApiServer(ApiServerConfig(**config), store, SystemClock()) as server:
            world = World(server, store)
            async with serve(world.answer, "127.0.0.1", 0, tls=tls) as listening:
                world.port = listening.port
                account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
                await world.create("serviceaccounts", account)
                await scenario(world)

    asyncio.run(main())
