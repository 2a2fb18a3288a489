"""What the conformance suite asks of custom resources (CustomResourceDefinition*, FieldValidation), in our words."""

from __future__ import annotations

from typing import Any

import orjson

from custom_world import APPLY, CRDS, GROUP, NAME, World, crontabs, definition, play, version

PORT = {
    "type": "object",
    "properties": {
        "containerPort": {"type": "integer", "format": "int32"},
        "name": {"type": "string"},
        "protocol": {"type": "string"},
    },
    "required": ["containerPort", "protocol"],
}
EMBEDDED = {
    "type": "object",
    "x-kubernetes-embedded-resource": True,
    "properties": {
        "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
        "spec": {"type": "object"},
    },
}
PROPERTIES = {
    "foo": {"type": "string"},
    "cronSpec": {"type": "string"},
    "template": EMBEDDED,
    "ports": {
        "type": "array",
        "x-kubernetes-list-map-keys": ["containerPort", "protocol"],
        "x-kubernetes-list-type": "map",
        "items": PORT,
    },
}


def schema(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"spec": {"type": "object", "properties": PROPERTIES, **fields}}}


HEAD = f"apiVersion: {GROUP}/v1\nkind: CronTab\n"
REST = "  foo: foo1\n  cronSpec: x\n  ports:\n  - name: x\n    containerPort: 80\n    protocol: TCP\n"


async def applied(world: World, text: str) -> Any:
    query = "fieldManager=me&fieldValidation=Strict"
    return await world.json("PATCH", f"{crontabs()}/mytest?{query}", (HEAD + text).encode(), content_type=APPLY)


def test_a_valid_object_can_be_applied_strictly() -> None:
    async def scenario(world: World) -> None:
        await world.define(definition(version(schema=schema())))
        found = await applied(world, f"metadata:\n  name: mytest\nspec:\n{REST}")
        assert found["spec"]["ports"] == [{"name": "x", "containerPort": 80, "protocol": "TCP"}]

    play(scenario)


def test_unknown_fields_are_fine_where_the_schema_keeps_them() -> None:
    async def scenario(world: World) -> None:
        kept = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        await world.define(definition(version(schema=kept)))
        found = await applied(world, f"metadata:\n  name: mytest\nunknown: x\nspec:\n{REST}")
        assert found["unknown"] == "x"

    play(scenario)


def test_unknown_fields_outside_of_the_schema_are_refused() -> None:
    async def scenario(world: World) -> None:
        await world.define(definition(version(schema=schema(**{"x-kubernetes-preserve-unknown-fields": True}))))
        found = await applied(world, f"metadata:\n  name: mytest\nunknownField: x\nspec:\n{REST}")
        assert ".unknownField: field not declared in schema" in found["message"]

    play(scenario)


def test_unknown_metadata_of_the_object_and_of_those_inside_is_refused() -> None:
    async def scenario(world: World) -> None:
        await world.define(definition(version(schema=schema())))
        inner = "  template:\n    apiVersion: foo/v1\n    kind: Sub\n    metadata: {unknownSubMeta: x, name: sub}\n"
        found = await applied(world, f"metadata:\n  name: mytest\n  unknownMeta: x\nspec:\n{inner}{REST}")
        message = found["message"]
        assert (
            ".spec.template.metadata.unknownSubMeta: field not declared in schema" in message
            or ".metadata.unknownMeta: field not declared in schema" in message
        )

    play(scenario)


def test_duplicates_are_found_even_where_unknown_fields_are_kept() -> None:
    async def scenario(world: World) -> None:
        await world.define(definition(version(schema=schema(**{"x-kubernetes-preserve-unknown-fields": True}))))
        found = await applied(world, f"metadata:\n  name: mytest\nspec:\n  unknown: uk1\n  foo: foo1\n{REST}")
        assert 'key "foo" already set in map' in found["message"]

    play(scenario)


def test_defaults_are_set_in_requests_and_in_what_was_stored_before() -> None:
    async def scenario(world: World) -> None:
        def with_default(**fields: Any) -> Any:
            properties = {"a": {"type": "string", **fields}, "b": {"type": "string"}}
            return definition(version(schema={"type": "object", "properties": properties}))

        await world.define(with_default())
        head = {"apiVersion": f"{GROUP}/v1", "kind": "CronTab"}
        await world.json("POST", crontabs(), {**head, "metadata": {"name": "one"}})
        await world.redefine(with_default(default="A"))
        assert (await world.json("GET", f"{crontabs()}/one"))["a"] == "A"
        assert (await world.json("POST", crontabs(), {**head, "metadata": {"name": "two"}}))["a"] == "A"
        changed = with_default(default="changed")
        changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["b"]["default"] = "B"
        await world.redefine(changed)
        one, two = [await world.json("GET", f"{crontabs()}/{name}") for name in ("one", "two")]
        assert (one["a"], one["b"]) == ("changed", "B"), "a default that was only shown was never stored"
        assert (two["a"], two["b"]) == ("A", "B"), "what was stored stays"

    play(scenario)


def test_objects_are_watched_through_their_life() -> None:
    async def scenario(world: World) -> None:
        await world.define(definition(scope="Cluster"))
        path = f"/apis/{GROUP}/v1/crontabs"
        start = (await world.json("GET", path))["metadata"]["resourceVersion"]
        watch = await world.http("GET", f"{path}?watch=true&resourceVersion={start}")
        obj = {"apiVersion": f"{GROUP}/v1", "kind": "CronTab", "metadata": {"name": "name1"}}
        await world.json("POST", path, obj)
        await world.merge(f"{path}/name1", {"metadata": {"labels": {"a": "b"}}})
        await world.json("DELETE", f"{path}/name1")
        assert watch.stream is not None
        events: list[Any] = []
        async for chunk in watch.stream:
            events += [orjson.loads(line) for line in chunk.splitlines()]
            if len(events) == 3:
                break
        assert [event["type"] for event in events] == ["ADDED", "MODIFIED", "DELETED"]
        late = await world.http("GET", f"{path}?watch=true&resourceVersion={start}&timeoutSeconds=1")
        assert late.stream is not None
        again = b"".join([chunk async for chunk in late.stream])
        assert again.count(b'"type"') == 3

    play(scenario)


def test_definitions_are_listed_watched_and_in_discovery() -> None:
    async def scenario(world: World) -> None:
        groups = await world.json("GET", "/apis")
        assert "apiextensions.k8s.io" in [group["name"] for group in groups["groups"]]
        listing = await world.json("GET", "/apis/apiextensions.k8s.io/v1")
        assert {"customresourcedefinitions", "customresourcedefinitions/status"} <= {
            one["name"] for one in listing["resources"]
        }
        await world.define(definition())
        listed = await world.json("GET", f"{CRDS}?limit=1")
        assert [one["metadata"]["name"] for one in listed["items"]] == [NAME]

    play(scenario)


def test_collections_can_be_deleted_by_selectable_fields() -> None:
    async def scenario(world: World) -> None:
        fields = [{"jsonPath": ".host"}]
        text = {"type": "object", "properties": {"host": {"type": "string"}}}
        other = {"type": "object", "properties": {"host": {"type": "string"}, "port": {"type": "string"}}}
        await world.define(definition(version("v1", text, selectableFields=fields), version("v2", other)))
        for name, host in (("a", "one"), ("b", "two"), ("c", "two")):
            obj = {"apiVersion": f"{GROUP}/v1", "kind": "CronTab", "metadata": {"name": name}, "host": host}
            await world.json("POST", crontabs(), obj)
        await world.json("DELETE", f"{crontabs()}?fieldSelector=host%3Dtwo")
        left = await world.json("GET", crontabs())
        assert [one["metadata"]["name"] for one in left["items"]] == ["a"]
        refused = await world.http("GET", f"{crontabs('v2')}?fieldSelector=host%3Done")
        assert refused.status == 400

    play(scenario)
