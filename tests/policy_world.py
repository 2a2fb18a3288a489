"""An API server in this process for tests of admission policies, and short ways to write policies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from tiphys.apiserver.app import ApiServer
from tiphys.apiserver.config import ApiServerConfig
from tiphys.base.http.types import Request, Response
from tiphys.base.identity import User
from tiphys.store.memory import MemoryStore
from tiphys.testing.clock import VirtualClock

GROUP = "admissionregistration.k8s.io"
POLICIES = f"/apis/{GROUP}/v1"
ADMIN = User("admin", groups=("system:masters", "system:authenticated"))
DEPLOYMENTS = "/apis/apps/v1/namespaces/{}/deployments"
CONFIG_MAPS = "/api/v1/namespaces/{}/configmaps"


@dataclass
class World:
    """A running server."""

    server: ApiServer

    async def http(self, method: str, url: str, body: Any = None, *, user: User = ADMIN, media: str = "") -> Response:
        response, _ = await self.traced(method, url, body, user=user, media=media)
        return response

    async def traced(
        self, method: str, url: str, body: Any = None, *, user: User = ADMIN, media: str = ""
    ) -> tuple[Response, Request]:
        """The answer, and the request with what handling it left."""
        path, _, query = url.partition("?")
        headers = {"content-type": media or "application/json"} if body is not None else {}
        raw = b"" if body is None else orjson.dumps(body)
        request = Request(method, path, query, headers=headers, body=raw, user=user, raw_path=path)
        return await self.server.handler(request), request

    async def json(self, method: str, url: str, body: Any = None, *, user: User = ADMIN, media: str = "") -> Any:
        return orjson.loads((await self.http(method, url, body, user=user, media=media)).body)

    async def validating(
        self, spec: Mapping[str, Any], name: str = "policy", binding: Mapping[str, Any] | None = None
    ) -> None:
        """Create a ValidatingAdmissionPolicy and a binding."""
        bound = {"policyName": name, "validationActions": ["Deny"], **(binding or {})}
        await self._policy("Validating", name, spec, bound)

    async def mutating(
        self, spec: Mapping[str, Any], name: str = "policy", binding: Mapping[str, Any] | None = None
    ) -> None:
        """Create a MutatingAdmissionPolicy and a binding."""
        spec = {"reinvocationPolicy": "Never", **spec}
        await self._policy("Mutating", name, spec, {"policyName": name, **(binding or {})})

    async def _policy(self, kind: str, name: str, spec: Mapping[str, Any], bound: Mapping[str, Any]) -> None:
        url = f"{POLICIES}/{kind.lower()}admission"
        for plural, suffix, content in (("policies", "Policy", spec), ("policybindings", "PolicyBinding", bound)):
            obj = {
                "apiVersion": f"{GROUP}/v1",
                "kind": f"{kind}Admission{suffix}",
                "metadata": {"name": name if suffix == "Policy" else f"{name}-binding"},
                "spec": content,
            }
            answer = await self.json("POST", url + plural, obj)
            assert answer["kind"] != "Status", answer["message"]

    async def deploy(self, name: str, replicas: int, namespace: str = "default", **metadata: Any) -> Any:
        return await self.json("POST", DEPLOYMENTS.format(namespace), deployment(name, replicas, **metadata))

    async def config(self, name: str, data: Mapping[str, str], namespace: str = "default", **metadata: Any) -> Any:
        obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}, "data": dict(data)}
        return await self.json("POST", CONFIG_MAPS.format(namespace), obj)

    async def namespace(self, name: str, **labels: str) -> Any:
        obj = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        return await self.json("POST", "/api/v1/namespaces", obj)


def run(scenario: Callable[[World], Awaitable[None]], **config: Any) -> None:
    """Play a scenario against a new server."""
    clock = VirtualClock()

    async def main() -> None:
        async with ApiServer(ApiServerConfig(**config), MemoryStore(), clock) as server:
            await scenario(World(server))

    clock.run(main())


def deployment(name: str, replicas: int, **metadata: Any) -> dict[str, Any]:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, **metadata},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def matching(
    group: str = "apps",
    version: str = "v1",
    plural: str = "deployments",
    operations: str = "CREATE,UPDATE",
    **more: Any,
) -> dict[str, Any]:
    """matchConstraints with one rule."""
    rule = {
        "apiGroups": [group],
        "apiVersions": [version],
        "resources": plural.split(","),
        "operations": operations.split(","),
    }
    return {"resourceRules": [rule], **more}


def holds(*expressions: str, constraints: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """The spec of a validating policy."""
    validations = [{"expression": one} for one in expressions]
    return {"matchConstraints": constraints or matching(), "validations": validations, **more}


def applies(expression: str, constraints: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """The spec of a mutating policy with one apply configuration."""
    mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}
    return {"matchConstraints": constraints or matching(), "mutations": [mutation], **more}


def patches(expression: str, constraints: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """The spec of a mutating policy with one JSON patch."""
    mutation = {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}
    return {"matchConstraints": constraints or matching(), "mutations": [mutation], **more}
