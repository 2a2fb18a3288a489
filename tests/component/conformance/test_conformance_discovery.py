"""Discovery, OpenAPI, tables and the version, as the suite asks for them: built-in and custom resources alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from custom_world import CRDS, GROUP, NAME, crontabs, definition, version

Play = Callable[..., None]
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
ADMISSION = "admissionregistration.k8s.io"
KEEP = {"x-kubernetes-preserve-unknown-fields": True}
FIRST = "com.example.stable.v1.CronTab"
SECOND = "com.example.stable.v2.CronTab"


async def define(world: Any, body: Any) -> None:
    await world.ok("POST", CRDS, body)
    await world.clock.sleep(1)


async def definitions(world: Any) -> dict[str, Any]:
    """What /openapi/v2 defines."""
    found: dict[str, Any] = (await world.ok("GET", "/openapi/v2"))["definitions"]
    return found


def test_every_group_prefers_a_version_that_it_serves_and_lists_its_resources(play: Play) -> None:
    async def scenario(world: Any) -> None:
        groups = (await world.ok("GET", "/apis"))["groups"]
        assert len(groups) > 15
        for group in groups:
            preferred = group["preferredVersion"]
            assert preferred in group["versions"]
            assert preferred["groupVersion"] == f"{group['name']}/{preferred['version']}"
            same = await world.ok("GET", f"/apis/{group['name']}")
            assert same["preferredVersion"] == preferred
            for one in group["versions"]:
                listed = await world.ok("GET", f"/apis/{one['groupVersion']}")
                assert listed["groupVersion"] == one["groupVersion"]
                assert listed["resources"]

    play(scenario, controllers="", nodes=0)


@pytest.mark.parametrize(
    ("group", "plurals"),
    [
        (ADMISSION, ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")),
        ("apiextensions.k8s.io", ("customresourcedefinitions",)),
    ],
)
def test_a_group_is_found_in_every_document(play: Play, group: str, plurals: tuple[str, ...]) -> None:
    async def scenario(world: Any) -> None:
        assert group in {one["name"] for one in (await world.ok("GET", "/apis"))["groups"]}
        described = await world.ok("GET", f"/apis/{group}")
        assert f"{group}/v1" in {one["groupVersion"] for one in described["versions"]}
        listed = {one["name"] for one in (await world.ok("GET", f"/apis/{group}/v1"))["resources"]}
        assert set(plurals) <= listed

    play(scenario, controllers="", nodes=0)


@pytest.mark.parametrize("api", ["v2", "v2beta1"])
def test_the_aggregated_form_says_what_the_plain_one_says(play: Play, api: str) -> None:
    async def scenario(world: Any) -> None:
        accept = f"application/json;g=apidiscovery.k8s.io;v={api};as=APIGroupDiscoveryList,application/json"
        answer = await world.http("GET", "/apis", accept=accept)
        assert answer.headers["Content-Type"] == accept.partition(",")[0]
        items = (await world.ok("GET", "/apis", accept=accept))["items"]
        found = {one["metadata"]["name"]: {each["version"] for each in one["versions"]} for one in items}
        for group in (await world.ok("GET", "/apis"))["groups"]:
            assert {one["version"] for one in group["versions"]} <= found[group["name"]]
        core = (await world.ok("GET", "/api", accept=accept))["items"]
        resources = {one["resource"] for one in core[0]["versions"][0]["resources"]}
        assert {"pods", "nodes", "services"} <= resources
        plain = await world.ok("GET", "/apis", accept="application/json")
        assert plain["kind"] == "APIGroupList"

    play(scenario, controllers="", nodes=0)


def test_a_definition_is_in_the_aggregated_form_as_soon_as_it_is_served(play: Play) -> None:
    async def scenario(world: Any) -> None:
        etag = (await world.http("GET", "/apis", accept=AGGREGATED)).headers["ETag"]
        await define(world, definition(version("v1"), version("v2")))
        answer = await world.http("GET", "/apis", accept=AGGREGATED, if_none_match=etag)
        assert (answer.status, answer.headers["ETag"] != etag) == (200, True)
        items = (await world.ok("GET", "/apis", accept=AGGREGATED))["items"]
        [own] = [one for one in items if one["metadata"]["name"] == GROUP]
        assert [one["version"] for one in own["versions"]] == ["v2", "v1"]
        [crontab] = own["versions"][0]["resources"]
        assert crontab["resource"] == "crontabs"
        assert crontab["responseKind"] == {"group": GROUP, "version": "v2", "kind": "CronTab"}
        await world.ok("DELETE", f"{CRDS}/{NAME}")
        await world.clock.sleep(1)
        items = (await world.ok("GET", "/apis", accept=AGGREGATED))["items"]
        assert GROUP not in {one["metadata"]["name"] for one in items}

    play(scenario, controllers="", nodes=0)


def test_tables_are_refused_where_there_is_no_metadata(play: Play) -> None:
    async def scenario(world: Any) -> None:
        accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
        review: dict[str, Any] = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        review["spec"] = {"nonResourceAttributes": {"path": "/x", "verb": "get"}}
        answer = await world.http(
            "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, accept=accept
        )
        assert answer.status == 406

    play(scenario, controllers="", nodes=0)


def test_the_version_is_one_and_thirty_six(play: Play) -> None:
    async def scenario(world: Any) -> None:
        found = await world.ok("GET", "/version")
        assert (found["major"], found["minor"]) == ("1", "36")
        assert found["gitVersion"].startswith("v1.36.")

    play(scenario, controllers="", nodes=0)


def test_a_schema_is_published_with_its_descriptions(play: Play) -> None:
    spec = {
        "type": "object",
        "description": "What it should be",
        "required": ["bars"],
        "properties": {"bars": {"type": "array", "items": {"type": "string"}, "description": "List of bars"}},
    }
    schema = {"type": "object", "description": "Foo for testing", "properties": {"spec": spec}}

    async def scenario(world: Any) -> None:
        await define(world, definition(version("v1", schema)))
        found = (await definitions(world))[FIRST]
        assert found["description"] == "Foo for testing"
        assert found["x-kubernetes-group-version-kind"] == [{"group": GROUP, "kind": "CronTab", "version": "v1"}]
        assert {"apiVersion", "kind", "metadata", "spec"} == set(found["properties"])
        assert found["properties"]["spec"] == spec

    play(scenario, controllers="", nodes=0)


def test_a_schema_that_keeps_unknown_fields_at_its_root_is_any_object_in_the_second_version_of_openapi(
    play: Play,
) -> None:
    async def scenario(world: Any) -> None:
        await define(world, definition(version("v1", {"type": "object", **KEEP})))
        kinds = [{"group": GROUP, "kind": "CronTab", "version": "v1"}]
        assert (await definitions(world))[FIRST] == {"type": "object", "x-kubernetes-group-version-kind": kinds}
        third = await world.ok("GET", f"/openapi/v3/apis/{GROUP}/v1")
        assert third["components"]["schemas"][FIRST]["x-kubernetes-preserve-unknown-fields"] is True

    play(scenario, controllers="", nodes=0)


def test_an_embedded_object_that_keeps_unknown_fields_says_so(play: Play) -> None:
    schema = {"type": "object", "properties": {"spec": {"type": "object", **KEEP}}}

    async def scenario(world: Any) -> None:
        await define(world, definition(version("v1", schema)))
        assert (await definitions(world))[FIRST]["properties"]["spec"] == KEEP

    play(scenario, controllers="", nodes=0)


def test_several_definitions_of_any_groups_versions_and_kinds_are_published(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await define(world, definition(version("v1"), version("v2")))
        await define(world, definition(plural="waldos"))
        await define(world, definition(plural="widgets", group="other.example.com"))
        found = await definitions(world)
        assert {FIRST, SECOND, "com.example.stable.v1.Waldo", "com.example.other.v1.Widget"} <= set(found)
        paths = (await world.ok("GET", "/openapi/v2"))["paths"]
        assert "/apis/other.example.com/v1/namespaces/{namespace}/widgets/{name}" in paths

    play(scenario, controllers="", nodes=0)


def test_a_version_that_is_renamed_or_not_served_any_more_is_published_so(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await define(world, definition(version("v1"), version("v2")))
        held = await world.ok("GET", f"{CRDS}/{NAME}")
        held["spec"]["versions"][1]["name"] = "v4"
        await world.ok("PUT", f"{CRDS}/{NAME}", held)
        await world.clock.sleep(1)
        found = await definitions(world)
        assert {FIRST, "com.example.stable.v4.CronTab"} <= set(found)
        assert SECOND not in found
        held = await world.ok("GET", f"{CRDS}/{NAME}")
        held["spec"]["versions"][1]["served"] = False
        await world.ok("PUT", f"{CRDS}/{NAME}", held)
        await world.clock.sleep(1)
        found = await definitions(world)
        assert FIRST in found
        assert "com.example.stable.v4.CronTab" not in found
        assert (await world.http("GET", crontabs("v4"))).status == 404

    play(scenario, controllers="", nodes=0)
