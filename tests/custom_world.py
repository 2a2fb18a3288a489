"""An API server in this process, on virtual time, and definitions of custom resources for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson

from tiphys.apiserver.app import ApiServer
from tiphys.apiserver.config import ApiServerConfig
from tiphys.base.http.types import Request, Response
from tiphys.base.identity import User
from tiphys.store.memory import MemoryStore
from tiphys.testing.clock import VirtualClock

ADMIN = User("admin", groups=("system:masters", "system:authenticated"))
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GROUP = "stable.example.com"
NAME = f"crontabs.{GROUP}"
MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"
SPEC: dict[str, Any] = {
    "type": "object",
    "properties": {
        "cronSpec": {"type": "string"},
        "image": {"type": "string"},
        "replicas": {"type": "integer", "default": 3, "minimum": 1},
    },
}
STATUS = {"type": "object", "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}}}
SCHEMA = {"type": "object", "properties": {"spec": SPEC, "status": STATUS}}
SCALE = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
    "labelSelectorPath": ".status.selector",
}


def version(name: str = "v1", schema: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """An entry of spec.versions; it is stored if it is called v1."""
    schema = SCHEMA if schema is None else schema
    return {"name": name, "served": True, "storage": name == "v1", "schema": {"openAPIV3Schema": schema}, **fields}


def definition(*versions: dict[str, Any], plural: str = "crontabs", scope: str = "Namespaced", **spec: Any) -> Any:
    """A CustomResourceDefinition of CronTabs."""
    kind = "CronTab" if plural == "crontabs" else plural.capitalize().removesuffix("s")
    names = {"plural": plural, "singular": plural.removesuffix("s"), "kind": kind, "listKind": f"{kind}List"}
    full = {"group": GROUP, "scope": scope, "names": names, "versions": list(versions or (version(),)), **spec}
    head = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    return {**head, "metadata": {"name": f"{plural}.{full['group']}"}, "spec": full}


def crontab(name: str = "a", api: str = "v1", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": f"{GROUP}/{api}", "kind": "CronTab", "metadata": {"name": name}, "spec": spec}


def crontabs(api: str = "v1", namespace: str = "default") -> str:
    """The path of a collection."""
    return f"/apis/{GROUP}/{api}/namespaces/{namespace}/crontabs"


def condition(obj: Any, type: str) -> tuple[str, str, str]:
    """(status, reason, message)"""
    found = next((one for one in (obj.get("status") or {}).get("conditions") or () if one["type"] == type), None)
    return (found["status"], found["reason"], found["message"]) if found else ("", "", "")


async def settle() -> None:
    """Let everything happen that is due."""
    for _ in range(200):
        await asyncio.sleep(0)  # noqa: TID251 - yields to the tasks of the server, no time goes by


@dataclass
class World:
    """A running server and ways to speak to it."""

    server: ApiServer
    store: MemoryStore
    clock: VirtualClock

    async def http(self, method: str, url: str, body: Any = None, **headers: str) -> Response:
        """A request as it comes from a socket; headers with _ for -."""
        path, _, query = url.partition("?")
        head = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            head.setdefault("content-type", "application/json")
        raw = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        request = Request(method, path, query, headers=head, body=raw, user=ADMIN, raw_path=path)
        return await self.server.handler(request)

    async def json(self, method: str, url: str, body: Any = None, **headers: str) -> Any:
        """The decoded answer of a request."""
        return orjson.loads((await self.http(method, url, body, **headers)).body)

    async def define(self, obj: Any) -> Any:
        """Create a definition; what it has become when the server is done with it."""
        made = await self.json("POST", CRDS, obj)
        assert made["kind"] == "CustomResourceDefinition", made
        await settle()
        return await self.json("GET", f"{CRDS}/{obj['metadata']['name']}")

    async def redefine(self, obj: Any) -> Any:
        """Replace what a definition says."""
        path = f"{CRDS}/{obj['metadata']['name']}"
        current = await self.json("GET", path)
        changed = {**current, "spec": obj["spec"], "metadata": {**current["metadata"], **obj["metadata"]}}
        answer = await self.json("PUT", path, changed)
        assert answer["kind"] == "CustomResourceDefinition", answer
        await settle()
        return await self.json("GET", path)

    async def merge(self, url: str, change: Any) -> Any:
        """Send a merge patch."""
        return await self.json("PATCH", url, change, content_type=MERGE)


Scenario = Callable[[World], Awaitable[None]]


def play(*scenarios: Scenario) -> None:
    """Run each scenario against a new server, all on the same store: what follows the first one is a restart."""
    clock, store = VirtualClock(), MemoryStore()

    async def main() -> None:
        for scenario in scenarios:
            async with ApiServer(ApiServerConfig(), store, clock) as server:
                await scenario(World(server, store, clock))

    try:
        clock.run(main())
    finally:
        clock.close()
