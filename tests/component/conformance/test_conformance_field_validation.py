"""Unknown and duplicate fields of a Deployment, and a watch of custom objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from custom_world import CRDS, GROUP, crontab, crontabs, definition
from tiphys.client.streams import closing
from tiphys.client.types import Resource

Play = Callable[..., None]
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
YAML = "application/apply-patch+yaml"


def deployment(**meta: Any) -> dict[str, Any]:
    labels = {"app": "nginx"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "nginx", "image": "nginx"}]}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", **meta}, "spec": spec}


def test_unknown_and_duplicate_fields_are_refused_when_strict(play: Play) -> None:
    async def scenario(world: Any) -> None:
        body = deployment()
        body["spec"]["unknownField"] = "unknown"
        text = orjson.dumps(body).replace(b'"spec":{"selector"', b'"spec":{"replicas":1,"replicas":2,"selector"')
        refused = await world.ask("POST", f"{DEPLOYMENTS}?fieldValidation=Strict", text)
        assert refused["code"] == 400
        assert refused["message"].endswith(
            'strict decoding error: duplicate field "spec.replicas", unknown field "spec.unknownField"'
        )
        warned = await world.http("POST", f"{DEPLOYMENTS}?fieldValidation=Warn", text)
        assert warned.status == 201
        assert 'unknown field \\"spec.unknownField\\"' in warned.headers["Warning"]
        ignored = await world.http("PUT", f"{DEPLOYMENTS}/web?fieldValidation=Ignore", text)
        assert (ignored.status, "Warning" in ignored.headers) == (200, False)

    play(scenario, controllers="", nodes=0)


def test_unknown_metadata_is_refused_by_create_and_apply(play: Play) -> None:
    async def scenario(world: Any) -> None:
        body = deployment(unknownMeta="unknown")
        created = await world.ask("POST", f"{DEPLOYMENTS}?fieldValidation=Strict", body)
        assert 'unknown field "metadata.unknownMeta"' in created["message"]
        applied = await world.ask(
            "PATCH", f"{DEPLOYMENTS}/web?fieldManager=m&fieldValidation=Strict", body, content_type=YAML
        )
        assert applied["code"] in (400, 500)
        assert "metadata.unknownMeta: field not declared in schema" in applied["message"]

    play(scenario, controllers="", nodes=0)


def test_a_watch_of_custom_objects_sees_them_come_change_and_go(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", CRDS, definition())
        await world.clock.sleep(1)
        since = (await world.ok("GET", crontabs()))["metadata"]["resourceVersion"]
        for name in ("a", "b"):
            await world.ok("POST", crontabs(), crontab(name))
        await world.patch(f"{crontabs()}/a", {"spec": {"replicas": 2}})
        for name in ("a", "b"):
            await world.ok("DELETE", f"{crontabs()}/{name}")
        seen: list[tuple[str, str]] = []
        resource = Resource(GROUP, "v1", "crontabs")
        async with closing(world.cluster.client.watch(resource, "default", resource_version=since)) as stream:
            async for event in stream:
                seen.append((event.type, event.object["metadata"]["name"]))
                if len(seen) == 5:
                    break
        assert seen == [("ADDED", "a"), ("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "a"), ("DELETED", "b")]

    play(scenario, controllers="", nodes=0)
