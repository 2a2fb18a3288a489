"""Conversion webhooks: real HTTPS, versions whose fields differ."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from custom_world import CRDS, GROUP, NAME, condition, crontab, crontabs, definition, version
from tiphys.base.clock import SystemClock
from webhook_world import World, run

PATH = "/convert"
V1 = {"type": "object", "properties": {"hostPort": {"type": "string"}, "extra": {"type": "string"}}}
V2 = {"type": "object", "properties": {"host": {"type": "string"}, "port": {"type": "string"}}}
Object = dict[str, Any]
Convert = Callable[[Object, str], Object]


def split(obj: Object, desired: str) -> Object:
    """hostPort of v1 is host and port in v2."""
    out = {name: value for name, value in obj.items() if name in ("kind", "metadata")}
    out["apiVersion"] = desired
    if desired.endswith("v2"):
        host, _, port = obj.get("hostPort", "").partition(":")
        return out | {"host": host, "port": port}
    return out | {"hostPort": f"{obj.get('host', '')}:{obj.get('port', '')}"}


def answering(convert: Convert = split, **result: Any) -> Callable[[Object], Object]:
    def decide(request: Object) -> Object:
        desired = request["desiredAPIVersion"]
        objects = [convert(obj, desired) for obj in request["objects"]]
        return {"convertedObjects": objects, "result": {"status": "Success"}, **result}

    return decide


async def define(
    world: World, decide: Callable[[Object], Object], *reviews: str, stored: str = "v1", fields: bool = False
) -> None:
    world.decisions[PATH] = decide
    webhook = {
        "clientConfig": world.client_config(PATH),
        "conversionReviewVersions": list(reviews or ("v1", "v1beta1")),
    }
    versions = [version("v1", V1, storage=stored == "v1"), version("v2", V2, storage=stored == "v2")]
    if fields:
        versions[0]["selectableFields"] = [{"jsonPath": ".hostPort"}]
        versions[1]["selectableFields"] = [{"jsonPath": ".host"}, {"jsonPath": ".port"}]
    made = await world.json("POST", CRDS, definition(*versions, conversion={"strategy": "Webhook", "webhook": webhook}))
    assert made["kind"] == "CustomResourceDefinition", made
    while condition(await world.json("GET", f"{CRDS}/{NAME}"), "Established")[0] != "True":
        await SystemClock().sleep(0)


def old(name: str = "a") -> Object:
    return {**crontab(name), "hostPort": "localhost:80"} | {"spec": None}


def test_objects_are_converted_when_read_and_when_written() -> None:
    async def scenario(world: World) -> None:
        await define(world, answering())
        made = await world.json("POST", crontabs("v1"), old())
        assert made["hostPort"] == "localhost:80"
        assert world.asked == []
        shown = await world.json("GET", f"{crontabs('v2')}/a")
        assert (shown["apiVersion"], shown["host"], shown["port"]) == (f"{GROUP}/v2", "localhost", "80")
        assert shown["metadata"] == made["metadata"]
        changed = await world.json(
            "PATCH", f"{crontabs('v2')}/a", {"port": "81"}, content_type="application/merge-patch+json"
        )
        assert changed["port"] == "81"
        assert (await world.json("GET", f"{crontabs('v1')}/a"))["hostPort"] == "localhost:81"
        new = {"apiVersion": f"{GROUP}/v2", "kind": "CronTab", "metadata": {"name": "b"}, "host": "h", "port": "1"}
        assert (await world.json("POST", crontabs("v2"), new))["host"] == "h"
        assert (await world.json("GET", f"{crontabs('v1')}/b"))["hostPort"] == "h:1"

    run(scenario)


def test_all_objects_of_a_list_are_asked_about_at_once_and_only_once() -> None:
    async def scenario(world: World) -> None:
        await define(world, answering())
        for name in "abc":
            await world.json("POST", crontabs("v1"), old(name))
        for _ in range(2):
            listed = await world.json("GET", crontabs("v2"))
            assert [(item["metadata"]["name"], item["host"]) for item in listed["items"]] == [
                ("a", "localhost"),
                ("b", "localhost"),
                ("c", "localhost"),
            ]
        assert [len(asked["objects"]) for asked in world.asked] == [3]
        assert world.asked[0]["desiredAPIVersion"] == f"{GROUP}/v2"
        assert world.versions == ["apiextensions.k8s.io/v1"]

    run(scenario)


def test_lists_of_objects_that_are_stored_in_several_versions() -> None:
    async def scenario(world: World) -> None:
        await define(world, answering())
        await world.json("POST", crontabs("v1"), old("a"))
        crd = await world.json("GET", f"{CRDS}/{NAME}")
        for one in crd["spec"]["versions"]:
            one["storage"] = one["name"] == "v2"
        await world.json("PUT", f"{CRDS}/{NAME}", crd)
        new = {"apiVersion": f"{GROUP}/v2", "kind": "CronTab", "metadata": {"name": "b"}, "host": "h", "port": "1"}
        await world.json("POST", crontabs("v2"), new)
        listed = await world.json("GET", crontabs("v1"))
        assert [item["hostPort"] for item in listed["items"]] == ["localhost:80", "h:1"]
        listed = await world.json("GET", crontabs("v2"))
        assert [item["host"] for item in listed["items"]] == ["localhost", "h"]

    run(scenario)


def test_watches_are_of_the_version_of_the_request() -> None:
    async def scenario(world: World) -> None:
        await define(world, answering())
        await world.json("POST", crontabs("v1"), old())
        watch = await world.http("GET", f"{crontabs('v2')}?watch=true")
        await world.json("POST", crontabs("v1"), old("b"))
        await world.json("DELETE", f"{crontabs('v1')}/b")
        assert watch.stream is not None
        events: list[Any] = []
        async for chunk in watch.stream:
            events += [orjson.loads(line) for line in chunk.splitlines()]
            if len(events) == 3:
                break
        assert [event["type"] for event in events] == ["ADDED", "ADDED", "DELETED"]
        assert {event["object"]["host"] for event in events} == {"localhost"}

    run(scenario)


def test_watches_select_by_the_fields_of_their_own_version() -> None:
    async def scenario(world: World) -> None:
        await define(world, answering(), fields=True)
        await world.json("POST", crontabs("v1"), old())
        first = await world.http("GET", f"{crontabs('v2')}?watch=true&fieldSelector=host%3Dlocalhost")
        since = (await world.json("GET", crontabs("v2")))["metadata"]["resourceVersion"]
        later = await world.http(
            "GET", f"{crontabs('v2')}?watch=true&fieldSelector=host%3Dlocalhost&resourceVersion={since}"
        )
        await world.json("POST", crontabs("v1"), {**old("other"), "hostPort": "elsewhere:80"})
        await world.json("POST", crontabs("v1"), old("b"))
        merge = "application/merge-patch+json"
        await world.json("PATCH", f"{crontabs('v1')}/b", {"hostPort": "elsewhere:80"}, content_type=merge)
        seen = [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "b")]
        assert await read(first, 3) == seen
        assert await read(later, 2) == seen[1:]

    run(scenario)


async def read(watch: Any, count: int) -> list[tuple[str, str]]:
    """The first events of a watch, as (type, name)."""
    events: list[tuple[str, str]] = []
    async for chunk in watch.stream:
        for line in chunk.splitlines():
            event = orjson.loads(line)
            events.append((event["type"], event["object"]["metadata"]["name"]))
        if len(events) >= count:
            break
    return events


def test_reviews_of_v1beta1() -> None:
    async def scenario(world: World) -> None:
        await define(world, answering(), "v1beta1")
        await world.json("POST", crontabs("v1"), old())
        assert (await world.json("GET", f"{crontabs('v2')}/a"))["host"] == "localhost"
        assert world.versions == ["apiextensions.k8s.io/v1beta1"]

    run(scenario)


def without_metadata(obj: Object, desired: str) -> Object:
    return {**split(obj, desired), "metadata": {"name": "other"}}


def relabelled(obj: Object, desired: str) -> Object:
    out = split(obj, desired)
    changed = {"labels": {"converted": "yes"}, "finalizers": ["example.com/ignored"], "generation": 99}
    return {**out, "metadata": {**out["metadata"], **changed}}


ABOUT = f"conversion webhook for {GROUP}/v1, Kind=CronTab"


@pytest.mark.parametrize(
    ("decide", "message"),
    [
        (
            answering(result={"status": "Failure", "message": "cannot do it"}),
            f"{ABOUT} failed: cannot do it",
        ),
        (answering(result={"status": "?"}), f"{ABOUT} failed: response.result.status was '?', not 'Success'"),
        (answering(convertedObjects=[]), f"{ABOUT} returned 0 objects, expected 1"),
        (answering(uid="x"), f"{ABOUT} failed: expected response.uid="),
        (
            answering(lambda obj, desired: {**split(obj, desired), "apiVersion": f"{GROUP}/v1"}),
            f"{ABOUT} returned invalid object at index 0: invalid groupVersion "
            f"(expected {GROUP}/v2, received {GROUP}/v1)",
        ),
        (
            answering(lambda obj, desired: {**split(obj, desired), "kind": "Other"}),
            f"{ABOUT} returned invalid object at index 0: invalid kind (expected CronTab, received Other)",
        ),
        (answering(without_metadata), f"{ABOUT} returned invalid object: must have the same name: a != other"),
    ],
)
def test_answers_that_cannot_be_used_are_told(decide: Callable[[Object], Object], message: str) -> None:
    async def scenario(world: World) -> None:
        await define(world, decide)
        await world.json("POST", crontabs("v1"), old())
        answer = await world.json("GET", f"{crontabs('v2')}/a")
        assert answer["code"] == 500
        assert answer["message"].startswith(message)
        assert (await world.http("GET", f"{crontabs('v1')}/a")).status == 200

    run(scenario)


def test_only_labels_and_annotations_of_the_metadata_may_change() -> None:
    async def scenario(world: World) -> None:
        await define(world, answering(relabelled))
        made = await world.json("POST", crontabs("v1"), old())
        shown = await world.json("GET", f"{crontabs('v2')}/a")
        assert shown["metadata"] == {**made["metadata"], "labels": {"converted": "yes"}}
        listed = await world.json("GET", f"{crontabs('v2')}?labelSelector=converted%3Dyes")
        assert len(listed["items"]) == 1

    run(scenario)


def test_a_webhook_that_does_not_answer_is_named() -> None:
    async def scenario(world: World) -> None:
        await define(world, answering())
        await world.json("POST", crontabs("v1"), old())
        crd = await world.json("GET", f"{CRDS}/{NAME}")
        crd["spec"]["conversion"]["webhook"]["clientConfig"]["url"] = "https://127.0.0.1:1/convert"
        await world.json("PUT", f"{CRDS}/{NAME}", crd)
        answer = await world.json("GET", f"{crontabs('v2')}/a")
        head = f'{ABOUT} failed: Post "https://127.0.0.1:1/convert?timeout=30s": '
        assert answer["message"].startswith(head)
        crd = await world.json("GET", f"{CRDS}/{NAME}")
        config = crd["spec"]["conversion"]["webhook"]["clientConfig"]
        config.pop("url")
        config["service"] = {"namespace": "default", "name": "missing", "path": "/convert"}
        config["caBundle"] = base64.b64encode(base64.b64decode(config["caBundle"])).decode()
        await world.json("PUT", f"{CRDS}/{NAME}", crd)
        answer = await world.json("GET", f"{crontabs('v2')}/a")
        assert answer["message"].startswith(f"{ABOUT} failed: ")
        assert "missing" in answer["message"]

    run(scenario)
