"""Custom resources in discovery and OpenAPI, and on every server that shares the store."""

from __future__ import annotations

from typing import Any

import orjson

from custom_world import (
    CRDS,
    GROUP,
    NAME,
    SCALE,
    World,
    crontab,
    crontabs,
    definition,
    play,
    settle,
    version,
)
from tiphys.apiserver.app import ApiServer
from tiphys.apiserver.config import ApiServerConfig

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"
MODEL = "com.example.stable.v1.CronTab"


def full() -> Any:
    names = {
        "plural": "crontabs",
        "singular": "crontab",
        "kind": "CronTab",
        "listKind": "CronTabList",
        "shortNames": ["ct"],
        "categories": ["all"],
    }
    subresources = {"status": {}, "scale": SCALE}
    return definition(version(subresources=subresources), version("v1beta1"), version("v2"), names=names)


def test_plain_discovery() -> None:
    async def scenario(world: World) -> None:
        await world.define(full())
        group = await world.json("GET", f"/apis/{GROUP}")
        assert [one["version"] for one in group["versions"]] == ["v2", "v1", "v1beta1"]
        assert group["preferredVersion"]["version"] == "v2"
        groups = await world.json("GET", "/apis")
        assert groups["groups"][-1]["name"] == GROUP
        listing = await world.json("GET", f"/apis/{GROUP}/v1")
        whole, status, scale = listing["resources"]
        assert whole["shortNames"] == ["ct"]
        assert whole["categories"] == ["all"]
        assert whole["storageVersionHash"]
        assert status == {
            "name": "crontabs/status",
            "singularName": "",
            "namespaced": True,
            "kind": "CronTab",
            "verbs": ["get", "patch", "update"],
        }
        assert (scale["group"], scale["version"], scale["kind"]) == ("autoscaling", "v1", "Scale")
        paths = await world.json("GET", "/")
        assert f"/apis/{GROUP}/v1beta1" in paths["paths"]

    play(scenario)


def test_aggregated_discovery_and_its_tag() -> None:
    async def scenario(world: World) -> None:
        before = await world.http("GET", "/apis", accept=AGGREGATED.format("v2"))
        await world.define(full())
        for api in ("v2", "v2beta1"):
            answer = await world.http("GET", "/apis", accept=AGGREGATED.format(api))
            document = orjson.loads(answer.body)
            assert document["apiVersion"] == f"apidiscovery.k8s.io/{api}"
            last = document["items"][-1]
            assert last["metadata"]["name"] == GROUP
            assert [one["version"] for one in last["versions"]] == ["v2", "v1", "v1beta1"]
            [resource] = last["versions"][1]["resources"]
            assert resource["responseKind"] == {"group": GROUP, "version": "v1", "kind": "CronTab"}
            assert [one["subresource"] for one in resource["subresources"]] == ["status", "scale"]
            assert resource["scope"] == "Namespaced"
        tag = answer.headers["ETag"]
        assert tag != before.headers["ETag"]
        again = await world.http("GET", "/apis", accept=AGGREGATED.format("v2beta1"), if_none_match=tag)
        assert (again.status, again.body) == (304, b"")
        await world.json("DELETE", f"{CRDS}/{NAME}")
        await settle()
        after = await world.http("GET", "/apis", accept=AGGREGATED.format("v2"))
        assert after.headers["ETag"] == before.headers["ETag"]

    play(scenario)


def test_a_version_can_be_added_renamed_and_taken_away_in_openapi() -> None:
    async def scenario(world: World) -> None:
        await world.define(definition(version(), version("v2")))
        swagger = await world.json("GET", "/openapi/v2", accept="application/json")
        model = swagger["definitions"][MODEL]
        assert model["properties"]["spec"]["properties"]["replicas"]["type"] == "integer"
        assert model["x-kubernetes-group-version-kind"] == [{"group": GROUP, "kind": "CronTab", "version": "v1"}]
        assert f"/apis/{GROUP}/v2/namespaces/{{namespace}}/crontabs/{{name}}" in swagger["paths"]
        assert "io.k8s.api.core.v1.Pod" in swagger["definitions"]
        await world.redefine(definition(version(), version("v2", served=False), version("v3")))
        swagger = await world.json("GET", "/openapi/v2", accept="application/json")
        models = [name for name in swagger["definitions"] if name.startswith("com.example.stable")]
        assert "com.example.stable.v3.CronTab" in models
        assert "com.example.stable.v2.CronTab" not in models

    play(scenario)


def test_openapi_v3_is_found_by_its_hash_and_changes_with_the_definition() -> None:
    async def scenario(world: World) -> None:
        await world.define(full())
        index = await world.json("GET", "/openapi/v3")
        url = index["paths"][f"apis/{GROUP}/v1"]["serverRelativeURL"]
        answer = await world.http("GET", url)
        assert answer.headers["Cache-Control"] == "public, immutable"
        document = orjson.loads(answer.body)
        assert MODEL in document["components"]["schemas"]
        assert "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta" in document["components"]["schemas"]
        assert (await world.json("GET", "/openapi/v3"))["paths"] == index["paths"]
        schema: Any = {"type": "object", "properties": {"other": {"type": "string"}}}
        await world.redefine(definition(version(schema=schema)))
        changed = await world.json("GET", "/openapi/v3")
        assert changed["paths"][f"apis/{GROUP}/v1"]["serverRelativeURL"] != url
        assert f"apis/{GROUP}/v2" not in changed["paths"]
        document = await world.json("GET", f"/openapi/v3/apis/{GROUP}/v1")
        assert "other" in document["components"]["schemas"][MODEL]["properties"]
        assert (await world.http("GET", f"/openapi/v3/apis/{GROUP}/v2")).status == 404

    play(scenario)


def test_two_definitions_share_a_group_version_in_openapi() -> None:
    async def scenario(world: World) -> None:
        await world.define(definition())
        await world.define(definition(plural="foos"))
        document = await world.json("GET", f"/openapi/v3/apis/{GROUP}/v1")
        assert {MODEL, "com.example.stable.v1.Foo"} <= document["components"]["schemas"].keys()

    play(scenario)


def test_servers_that_share_a_store_serve_the_same() -> None:
    async def scenario(world: World) -> None:
        async with ApiServer(ApiServerConfig(), world.store, world.clock) as second:
            other = World(second, world.store, world.clock)
            await world.define(definition())
            assert (await other.http("POST", crontabs(), crontab())).status == 201
            await settle()
            assert (await world.http("GET", f"{crontabs()}/a")).status == 200
            assert (await other.json("GET", f"/apis/{GROUP}"))["name"] == GROUP
            await other.json("DELETE", f"{CRDS}/{NAME}")
            await settle()
            for one in (world, other):
                assert (await one.http("GET", crontabs())).status == 404
                assert (await one.http("GET", f"/apis/{GROUP}")).status == 404

    play(scenario)
