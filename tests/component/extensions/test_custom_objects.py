"""Requests for custom objects: every verb, subresource and form."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from custom_world import (
    APPLY,
    GROUP,
    MERGE,
    NAME,
    SCALE,
    SCHEMA,
    World,
    crontab,
    crontabs,
    definition,
    play,
    settle,
    version,
)

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
PARTIAL = "application/json;as=PartialObjectMetadata{};v=v1;g=meta.k8s.io"


def whole(**fields: Any) -> Any:
    """A definition with both subresources."""
    return definition(version(subresources={"status": {}, "scale": SCALE}, **fields))


def test_unknown_fields_are_pruned_and_defaults_set() -> None:
    async def scenario(world: World) -> None:
        await world.define(whole())
        made = await world.http("POST", crontabs(), crontab(cronSpec="x", bad=1))
        assert orjson.loads(made.body)["spec"] == {"cronSpec": "x", "replicas": 3}
        assert made.headers["Warning"] == '299 - "unknown field \\"spec.bad\\""'
        assert (await world.http("GET", f"{crontabs()}/a")).body == made.body

    play(scenario)


@pytest.mark.parametrize(("validation", "warned"), [("Ignore", False), ("Warn", True), ("Strict", None)])
def test_field_validation_ignores_warns_or_refuses(validation: str, warned: bool | None) -> None:
    async def scenario(world: World) -> None:
        await world.define(whole())
        head = f'{{"apiVersion":"{GROUP}/v1","kind":"CronTab","metadata":{{"name":"a","unknownMeta":1}},'
        body = (head + '"spec":{"image":"a","image":"b","bad":1}}').encode()
        answer = await world.http("POST", f"{crontabs()}?fieldValidation={validation}", body)
        problems = ['duplicate field "spec.image"', 'unknown field "metadata.unknownMeta"', 'unknown field "spec.bad"']
        if warned is None:
            message = orjson.loads(answer.body)["message"]
            head = 'CronTab in version "v1" cannot be handled as a CronTab: strict decoding error: '
            assert (answer.status, message.startswith(head)) == (400, True)
            assert all(problem in message for problem in problems)
        else:
            warnings = answer.headers.get("Warning", "").replace("\\", "")
            assert answer.status == 201
            assert all((problem in warnings) is warned for problem in problems)

    play(scenario)


def test_strict_patches_are_refused_too() -> None:
    async def scenario(world: World) -> None:
        await world.define(whole())
        await world.json("POST", crontabs(), crontab())
        for media in (MERGE, APPLY):
            change = {"apiVersion": f"{GROUP}/v1", "kind": "CronTab", "metadata": {"name": "a"}, "spec": {"bad": 1}}
            query = "fieldValidation=Strict&fieldManager=me"
            answer = await world.http("PATCH", f"{crontabs()}/a?{query}", change, content_type=media)
            message = orjson.loads(answer.body)["message"]
            if media == MERGE:
                assert (answer.status, 'strict decoding error: unknown field "spec.bad"' in message) == (422, True)
            else:
                assert answer.status >= 400
                assert message.endswith(".spec.bad: field not declared in schema")

    play(scenario)


def test_patches_of_three_kinds_are_taken_and_strategic_ones_refused() -> None:
    async def scenario(world: World) -> None:
        await world.define(whole())
        await world.json("POST", crontabs(), crontab(image="a"))
        path = f"{crontabs()}/a"
        assert (await world.merge(path, {"spec": {"image": "b"}}))["spec"]["image"] == "b"
        operations = [{"op": "replace", "path": "/spec/image", "value": "c"}]
        found = await world.json("PATCH", path, operations, content_type="application/json-patch+json")
        assert found["spec"]["image"] == "c"
        config = crontab(image="d")
        applied = await world.json("PATCH", f"{path}?fieldManager=me&force=true", config, content_type=APPLY)
        assert applied["spec"]["image"] == "d"
        refused = await world.http("PATCH", path, {}, content_type="application/strategic-merge-patch+json")
        assert refused.status == 415
        accepted = f"application/json-patch+json, {MERGE}, {APPLY}"
        text = "the body of the request was in an unknown format - accepted media types include: "
        assert orjson.loads(refused.body)["message"] == text + accepted

    play(scenario)


def test_apply_creates_and_conflicts() -> None:
    async def scenario(world: World) -> None:
        await world.define(whole())
        path = f"{crontabs()}/a"
        made = await world.http("PATCH", f"{path}?fieldManager=one", crontab(image="x"), content_type=APPLY)
        assert made.status == 201
        other = await world.json("PATCH", f"{path}?fieldManager=two", crontab(image="y"), content_type=APPLY)
        assert (other["code"], other["reason"]) == (409, "Conflict")
        assert other["message"] == 'Apply failed with 1 conflict: conflict with "one": .spec.image'
        entries = orjson.loads(made.body)["metadata"]["managedFields"]
        assert entries[0]["fieldsV1"] == {"f:spec": {"f:image": {}}}

    play(scenario)


def test_the_generation_counts_changes_of_the_spec_only() -> None:
    async def scenario(world: World) -> None:
        await world.define(whole())
        made = await world.json("POST", crontabs(), crontab() | {"status": {"replicas": 9}})
        assert made["metadata"]["generation"] == 1
        assert "status" not in made
        path = f"{crontabs()}/a"
        labelled = await world.merge(path, {"metadata": {"labels": {"a": "b"}}, "status": {"replicas": 4}})
        assert (labelled["metadata"]["generation"], "status" in labelled) == (1, False)
        assert (await world.merge(path, {"spec": {"image": "x"}}))["metadata"]["generation"] == 2
        status = await world.merge(f"{path}/status", {"status": {"replicas": 4}, "spec": {"image": "no"}})
        assert status["metadata"]["generation"] == 2
        assert (status["status"], status["spec"]["image"]) == ({"replicas": 4}, "x")

    play(scenario)


def test_scale_reads_and_writes_the_paths_of_the_definition() -> None:
    async def scenario(world: World) -> None:
        await world.define(whole())
        await world.json("POST", crontabs(), crontab(replicas=2))
        await world.merge(f"{crontabs()}/a/status", {"status": {"replicas": 1, "selector": "app=x"}})
        scale = await world.json("GET", f"{crontabs()}/a/scale")
        assert (scale["kind"], scale["spec"]) == ("Scale", {"replicas": 2})
        assert scale["status"] == {"replicas": 1, "selector": "app=x"}
        scale["spec"]["replicas"] = 5
        assert (await world.json("PUT", f"{crontabs()}/a/scale", scale))["spec"] == {"replicas": 5}
        refused = await world.merge(f"{crontabs()}/a/scale", {"spec": {"replicas": -1}})
        assert refused["code"] == 422
        found = await world.json("GET", f"{crontabs()}/a")
        assert (found["spec"]["replicas"], found["metadata"]["generation"]) == (5, 2)

    play(scenario)


def test_subresources_that_are_not_defined_are_not_found() -> None:
    async def scenario(world: World) -> None:
        await world.define(definition())
        await world.json("POST", crontabs(), crontab())
        for name in ("status", "scale", "other"):
            answer = await world.json("GET", f"{crontabs()}/a/{name}")
            assert (answer["code"], answer["message"]) == (404, f'{NAME} "a" not found')

    play(scenario)


def test_a_dry_run_changes_nothing() -> None:
    async def scenario(world: World) -> None:
        await world.define(whole())
        made = await world.json("POST", f"{crontabs()}?dryRun=All", crontab())
        assert made["spec"] == {"replicas": 3}
        assert (await world.http("GET", f"{crontabs()}/a")).status == 404
        await world.json("POST", crontabs(), crontab())
        changed = await world.merge(f"{crontabs()}/a?dryRun=All", {"spec": {"image": "x"}})
        assert changed["spec"]["image"] == "x"
        assert (await world.http("DELETE", f"{crontabs()}/a?dryRun=All")).status == 200
        assert "image" not in (await world.json("GET", f"{crontabs()}/a"))["spec"]

    play(scenario)


def test_lists_come_in_pages_whose_items_say_what_they_are() -> None:
    async def scenario(world: World) -> None:
        await world.define(whole())
        for name in "abcde":
            await world.json("POST", crontabs(), crontab(name))
        page = await world.json("GET", f"{crontabs()}?limit=2")
        assert (page["kind"], page["apiVersion"]) == ("CronTabList", f"{GROUP}/v1")
        assert page["metadata"]["remainingItemCount"] == 3
        assert {(item["kind"], item["apiVersion"]) for item in page["items"]} == {("CronTab", f"{GROUP}/v1")}
        await world.json("DELETE", f"{crontabs()}/c")
        token = page["metadata"]["continue"]
        page = await world.json("GET", f"{crontabs()}?limit=2&continue={token}")
        assert [item["metadata"]["name"] for item in page["items"]] == ["c", "d"]
        deleted = await world.json("DELETE", crontabs())
        assert len(deleted["items"]) == 4
        assert (await world.json("GET", f"/apis/{GROUP}/v1/crontabs"))["items"] == []

    play(scenario)


def test_selectors_of_labels_and_selectable_fields() -> None:
    async def scenario(world: World) -> None:
        await world.define(whole(selectableFields=[{"jsonPath": ".spec.image"}, {"jsonPath": ".spec.replicas"}]))
        for name, image in (("a", "x"), ("b", "y")):
            await world.json("POST", crontabs(), crontab(name, image=image) | {})
        await world.merge(f"{crontabs()}/b", {"metadata": {"labels": {"l": "1"}}})

        async def names(query: str) -> list[str]:
            listed = await world.json("GET", f"{crontabs()}?{query}")
            return [item["metadata"]["name"] for item in listed["items"]]

        assert await names("fieldSelector=spec.image%3Dx") == ["a"]
        assert await names("fieldSelector=spec.image!%3Dx") == ["b"]
        assert await names("fieldSelector=spec.replicas%3D3,spec.image%3Dy") == ["b"]
        assert await names("fieldSelector=metadata.name%3Da") == ["a"]
        assert await names("labelSelector=l%3D1") == ["b"]
        refused = await world.json("GET", f"{crontabs()}?fieldSelector=spec.cronSpec%3Dx")
        assert (refused["code"], refused["message"]) == (400, "field label not supported: spec.cronSpec")
        watch = await world.http("GET", f"{crontabs()}?watch=true&fieldSelector=spec.image%3Dx")
        await world.merge(f"{crontabs()}/b", {"spec": {"image": "x"}})
        await world.merge(f"{crontabs()}/a", {"spec": {"image": "y"}})
        await world.server.reader.wait_exists("", "namespaces", "", "default", 1.0)
        events = await read(watch, 3)
        assert [(event["type"], event["object"]["metadata"]["name"]) for event in events] == [
            ("ADDED", "a"),
            ("ADDED", "b"),
            ("DELETED", "a"),
        ]

    play(scenario)


async def read(watch: Any, count: int) -> list[Any]:
    """The first events of a stream."""
    events: list[Any] = []
    async for chunk in watch.stream:
        events += [orjson.loads(line) for line in chunk.splitlines()]
        if len(events) >= count:
            break
    return events


def test_tables_have_the_columns_of_the_definition() -> None:
    async def scenario(world: World) -> None:
        columns = [
            {"name": "Spec", "type": "string", "jsonPath": ".spec.cronSpec", "description": "when"},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ]
        await world.define(whole(additionalPrinterColumns=columns))
        await world.json("POST", crontabs(), crontab(cronSpec="* *"))
        for path in (crontabs(), f"{crontabs()}/a"):
            table = await world.json("GET", path, accept=TABLE)
            assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Spec", "Age"]
            assert table["rows"][0]["cells"] == ["a", "* *", "0s"]
            assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"

    play(scenario)


def test_partial_metadata_of_one_and_of_all() -> None:
    async def scenario(world: World) -> None:
        await world.define(whole())
        await world.json("POST", crontabs(), crontab())
        one = await world.json("GET", f"{crontabs()}/a", accept=PARTIAL.format(""))
        assert (one["kind"], "spec" in one, one["metadata"]["name"]) == ("PartialObjectMetadata", False, "a")
        listed = await world.json("GET", crontabs(), accept=PARTIAL.format("List"))
        assert listed["kind"] == "PartialObjectMetadataList"
        binary = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
        answer = await world.http("GET", crontabs(), accept=binary)
        assert (answer.status, answer.body[:4]) == (200, b"k8s\0")

    play(scenario)


def test_custom_objects_are_json_or_yaml_but_not_protobuf() -> None:
    async def scenario(world: World) -> None:
        await world.define(whole())
        text = f"apiVersion: {GROUP}/v1\nkind: CronTab\nmetadata: {{name: a}}\nspec: {{image: x}}\n"
        made = await world.http("POST", crontabs(), text.encode(), content_type="application/yaml")
        assert made.status == 201
        shown = await world.http("GET", f"{crontabs()}/a", accept="application/yaml")
        assert b"image: x" in shown.body
        binary = "application/vnd.kubernetes.protobuf"
        assert (await world.http("GET", f"{crontabs()}/a", accept=binary)).status == 406
        both = await world.http("GET", f"{crontabs()}/a", accept=f"{binary},application/json")
        assert both.headers["Content-Type"] == "application/json"
        body = base64.b64decode("azhzAAoA")
        assert (await world.http("POST", crontabs(), body, content_type=binary)).status in (400, 415)

    play(scenario)


def test_what_custom_resources_do_not_have_is_refused() -> None:
    async def scenario(world: World) -> None:
        await world.define(whole())
        assert (await world.http("POST", f"/apis/{GROUP}/v1/crontabs", crontab())).status == 404
        assert (await world.http("GET", f"/apis/{GROUP}/v9/crontabs")).status == 404
        assert (await world.http("GET", f"/apis/{GROUP}/v1/others")).status == 404
        wrong = await world.json("POST", crontabs(), crontab() | {"kind": "Other"})
        assert (wrong["code"], wrong["details"]["causes"][0]["message"]) == (
            422,
            'Invalid value: "Other": must be CronTab',
        )
        nothing = await world.json("POST", crontabs(), {"metadata": {"name": "a"}})
        assert "Object 'Kind' is missing in" in nothing["message"]

    play(scenario)


def test_cluster_wide_objects() -> None:
    async def scenario(world: World) -> None:
        await world.define(definition(scope="Cluster"))
        path = f"/apis/{GROUP}/v1/crontabs"
        made = await world.json("POST", path, crontab())
        assert "namespace" not in made["metadata"]
        assert (await world.http("GET", f"{path}/a")).status == 200
        assert (await world.http("GET", crontabs())).status == 404

    play(scenario)


def test_a_schema_that_changes_shows_what_was_stored_in_its_light() -> None:
    async def scenario(world: World) -> None:
        await world.define(definition())
        await world.json("POST", crontabs(), crontab(cronSpec="x", image="i"))
        watch = await world.http("GET", f"{crontabs()}?watch=true")
        properties = {"cronSpec": {"type": "string"}, "zone": {"type": "string", "default": "here"}}
        schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}
        await world.redefine(definition(version(schema=schema)))
        assert (await world.json("GET", f"{crontabs()}/a"))["spec"] == {"cronSpec": "x", "zone": "here"}
        assert watch.stream is not None
        assert len([chunk async for chunk in watch.stream]) == 1, "watches end with the definition that they began with"
        await world.redefine(definition(version(schema=SCHEMA)))
        again = await world.json("GET", f"{crontabs()}/a")
        assert again["spec"] == {"cronSpec": "x", "image": "i", "replicas": 3}, "nothing is lost that was not written"

    play(scenario)


def test_without_a_schema_everything_is_kept() -> None:
    async def scenario(world: World) -> None:
        open_schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        await world.define(definition(version(schema=open_schema)))
        obj = crontab(any=[1, {"thing": None}], empty={}, none=[]) | {"more": "x"}
        made = await world.json("POST", crontabs(), obj)
        assert (made["spec"], made["more"]) == (obj["spec"], "x")

    play(scenario)


def test_owners_finalizers_and_preconditions() -> None:
    async def scenario(world: World) -> None:
        await world.define(whole())
        held = crontab()
        held["metadata"]["finalizers"] = ["example.com/hold"]
        made = await world.json("POST", crontabs(), held)
        gone = await world.json("DELETE", f"{crontabs()}/a", {"preconditions": {"uid": "other"}})
        assert gone["code"] == 409
        marked = await world.json("DELETE", f"{crontabs()}/a")
        assert marked["metadata"]["uid"] == made["metadata"]["uid"]
        assert "deletionTimestamp" in marked["metadata"]
        await world.merge(f"{crontabs()}/a", {"metadata": {"finalizers": []}})
        assert (await world.http("GET", f"{crontabs()}/a")).status == 404
        owned = crontab("b")
        owner = {"apiVersion": f"{GROUP}/v1", "kind": "CronTab", "name": "a", "uid": made["metadata"]["uid"]}
        owned["metadata"]["ownerReferences"] = [owner]
        assert (await world.http("POST", crontabs(), owned)).status == 201
        await settle()

    play(scenario)


def test_writers_that_saw_an_old_object_conflict() -> None:
    async def scenario(world: World) -> None:
        await world.define(whole())
        made = await world.json("POST", crontabs(), crontab())
        await world.merge(f"{crontabs()}/a", {"spec": {"image": "x"}})
        assert (await world.json("PUT", f"{crontabs()}/a", made))["code"] == 409
        del made["metadata"]["resourceVersion"]
        refused = await world.json("PUT", f"{crontabs()}/a", made)
        assert (refused["code"], "metadata.resourceVersion" in refused["message"]) == (422, True)

    play(scenario)
