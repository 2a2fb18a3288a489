"""Custom objects in several versions: stored in one, shown in all, converted by name."""

from __future__ import annotations

from typing import Any

import orjson

from custom_world import (
    APPLY,
    CRDS,
    GROUP,
    NAME,
    SCHEMA,
    World,
    crontab,
    crontabs,
    definition,
    play,
    version,
)

NARROW = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"image": {"type": "string"}}}}}


def both(stored: str = "v1", **v2: Any) -> Any:
    """v1 and v2."""
    return definition(
        version("v1", storage=stored == "v1"), version("v2", v2.pop("schema", SCHEMA), storage=stored == "v2", **v2)
    )


async def stored(world: World) -> list[Any]:
    """What the store holds."""
    return [orjson.loads(row.value) for row in (await world.store.list(f"{GROUP}/")).rows]


def test_an_object_is_shown_in_the_version_that_was_asked_for() -> None:
    async def scenario(world: World) -> None:
        await world.define(both())
        made = await world.json("POST", crontabs("v2"), crontab(api="v2", image="x"))
        assert made["apiVersion"] == f"{GROUP}/v2"
        assert [one["apiVersion"] for one in await stored(world)] == [f"{GROUP}/v1"]
        for api in ("v1", "v2"):
            assert (await world.json("GET", f"{crontabs(api)}/a"))["apiVersion"] == f"{GROUP}/{api}"
            listed = await world.json("GET", crontabs(api))
            assert [item["apiVersion"] for item in listed["items"]] == [f"{GROUP}/{api}"]
            watch = await world.http("GET", f"{crontabs(api)}?watch=true")
            assert watch.stream is not None
            async for chunk in watch.stream:
                assert orjson.loads(chunk)["object"]["apiVersion"] == f"{GROUP}/{api}"
                break

    play(scenario)


def test_a_body_of_another_version_is_refused() -> None:
    async def scenario(world: World) -> None:
        await world.define(both())
        answer = await world.json("POST", crontabs("v1"), crontab(api="v2"))
        text = f"the API version in the data ({GROUP}/v2) does not match the expected API version ({GROUP}/v1)"
        assert (answer["code"], answer["message"]) == (400, text)

    play(scenario)


def test_schemas_that_differ_prune_what_they_do_not_know() -> None:
    async def scenario(world: World) -> None:
        await world.define(both(schema=NARROW))
        await world.json("POST", crontabs("v1"), crontab(image="x", cronSpec="y"))
        assert (await world.json("GET", f"{crontabs('v2')}/a"))["spec"] == {"image": "x"}
        listed = await world.json("GET", crontabs("v2"))
        assert listed["items"][0]["spec"] == {"image": "x"}
        changed = await world.merge(f"{crontabs('v2')}/a", {"spec": {"image": "z"}})
        assert changed["spec"] == {"image": "z"}
        assert (await world.json("GET", f"{crontabs('v1')}/a"))["spec"] == {"image": "z", "replicas": 3}

    play(scenario)


def test_another_storage_version_is_taken_by_the_next_write() -> None:
    async def scenario(world: World) -> None:
        await world.define(both("v1"))
        for name in "ab":
            await world.json("POST", crontabs("v1"), crontab(name, image="x"))
        crd = await world.redefine(both("v2"))
        assert crd["status"]["storedVersions"] == ["v1", "v2"]
        await world.json("POST", crontabs("v1"), crontab("c"))
        listed = await world.json("GET", crontabs("v1"))
        assert [item["apiVersion"] for item in listed["items"]] == [f"{GROUP}/v1"] * 3
        touched = await world.merge(f"{crontabs('v1')}/a", {})
        assert touched["spec"] == {"image": "x", "replicas": 3}
        await world.json("DELETE", f"{crontabs('v1')}/b", {"dryRun": ["All"]})
        assert [one["apiVersion"][-2:] for one in await stored(world)] == ["v2", "v1", "v2"]
        assert (await world.json("GET", f"{crontabs('v2')}/b"))["spec"]["image"] == "x"

    async def after(world: World) -> None:
        listed = await world.json("GET", crontabs("v2"))
        assert [item["apiVersion"] for item in listed["items"]] == [f"{GROUP}/v2"] * 3
        assert [item["kind"] for item in listed["items"]] == ["CronTab"] * 3

    play(scenario, after)


def test_objects_of_an_old_version_can_be_marked_and_deleted() -> None:
    async def scenario(world: World) -> None:
        await world.define(both("v1"))
        held = crontab()
        held["metadata"]["finalizers"] = ["example.com/hold"]
        await world.json("POST", crontabs("v1"), held)
        await world.redefine(both("v2"))
        marked = await world.json("DELETE", f"{crontabs('v2')}/a")
        assert (marked["apiVersion"], "deletionTimestamp" in marked["metadata"]) == (f"{GROUP}/v2", True)
        await world.merge(f"{crontabs('v1')}/a", {"metadata": {"finalizers": None}})
        assert (await world.json("GET", crontabs("v1")))["items"] == []

    play(scenario)


def test_a_version_that_is_not_served_any_more() -> None:
    async def scenario(world: World) -> None:
        await world.define(both())
        await world.json("POST", crontabs("v2"), crontab(api="v2", image="x"))
        await world.redefine(both(served=False))
        assert (await world.http("GET", crontabs("v2"))).status == 404
        assert (await world.json("GET", f"{crontabs('v1')}/a"))["spec"]["image"] == "x"

    play(scenario)


def test_a_stored_version_cannot_be_removed() -> None:
    async def scenario(world: World) -> None:
        await world.define(both("v1"))
        await world.redefine(both("v2"))
        current = await world.json("GET", f"{CRDS}/{NAME}")
        current["spec"]["versions"] = current["spec"]["versions"][1:]
        answer = await world.json("PUT", f"{CRDS}/{NAME}", current)
        assert answer["code"] == 422
        assert "status.storedVersions[0]" in answer["message"]

    play(scenario)


def test_deprecated_versions_warn() -> None:
    async def scenario(world: World) -> None:
        old = version("v1beta1", deprecated=True)
        own = version("v1alpha1", deprecated=True, deprecationWarning="gone soon")
        await world.define(definition(version("v1"), old, own))
        answer = await world.http("GET", crontabs("v1beta1"))
        text = f"{GROUP}/v1beta1 CronTab is deprecated; use {GROUP}/v1 CronTab"
        assert answer.headers["Warning"] == f'299 - "{text}"'
        assert (await world.http("GET", crontabs("v1alpha1"))).headers["Warning"] == '299 - "gone soon"'
        assert "Warning" not in (await world.http("GET", crontabs("v1"))).headers

    play(scenario)


def test_managers_are_of_the_version_that_they_wrote_in() -> None:
    async def scenario(world: World) -> None:
        await world.define(both())
        path = f"{crontabs('v1')}/a"
        await world.json("PATCH", f"{path}?fieldManager=one", crontab(image="x"), content_type=APPLY)
        other = crontab(api="v2", cronSpec="y")
        await world.json("PATCH", f"{crontabs('v2')}/a?fieldManager=two", other, content_type=APPLY)
        found = await world.json("GET", path)
        entries = {entry["manager"]: entry["apiVersion"] for entry in found["metadata"]["managedFields"]}
        assert entries == {"one": f"{GROUP}/v1", "two": f"{GROUP}/v2"}
        clash = crontab(api="v2", image="z")
        answer = await world.json("PATCH", f"{crontabs('v2')}/a?fieldManager=two", clash, content_type=APPLY)
        assert answer["code"] == 409
        assert answer["message"] == 'Apply failed with 1 conflict: conflict with "one": .spec.image'

    play(scenario)
