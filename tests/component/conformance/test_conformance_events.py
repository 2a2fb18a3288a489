"""Events through both of their APIs, as the suite asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Play = Callable[..., None]
CORE = "/api/v1/namespaces/default/events"
NEW = "/apis/events.k8s.io/v1/namespaces/default/events"


def core(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "labels": {"set": "test"}},
        "involvedObject": {"namespace": "default", "kind": "Pod", "name": "p"},
        "type": "Normal",
        "reason": "Test",
        "message": "This is a test event",
        "source": {"component": "test"},
    }


def new(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "labels": {"set": "test"}},
        "regarding": {"namespace": "default", "kind": "Pod", "name": "p"},
        "eventTime": "2026-01-01T00:00:00.000001Z",
        "note": "This is a test event",
        "reason": "Test",
        "action": "Do",
        "type": "Normal",
        "reportingController": "test-controller",
        "reportingInstance": "test-node",
    }


def names(listed: Any) -> list[str]:
    return [item["metadata"]["name"] for item in listed["items"]]


def test_a_core_event_lives_through_every_verb(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", CORE, core("one"))
        assert "one" in names(await world.ok("GET", "/api/v1/events?labelSelector=set=test"))
        await world.patch(f"{CORE}/one", {"message": "Patched"}, "strategic")
        got = await world.ok("GET", f"{CORE}/one")
        assert got["message"] == "Patched"
        got["series"] = {"count": 100, "lastObservedTime": "2026-01-01T00:00:00.000002Z"}
        updated = await world.ok("PUT", f"{CORE}/one", got)
        assert updated["series"] == got["series"]
        await world.ok("DELETE", f"{CORE}/one")
        assert names(await world.ok("GET", "/api/v1/events?labelSelector=set=test")) == []

    play(scenario, controllers="", nodes=0)


def test_an_event_of_the_new_api_lives_through_every_verb_and_both_apis_select_it(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", NEW, new("one"))
        assert names(await world.ok("GET", "/apis/events.k8s.io/v1/events?labelSelector=set=test")) == ["one"]
        assert names(await world.ok("GET", f"{CORE}?fieldSelector=source%3Dtest-controller")) == ["one"]
        assert names(await world.ok("GET", f"{CORE}?fieldSelector=reportingComponent%3Dtest-controller")) == ["one"]
        assert names(await world.ok("GET", f"{NEW}?fieldSelector=reportingController%3Dtest-controller")) == ["one"]
        assert names(await world.ok("GET", f"{NEW}?fieldSelector=regarding.name%3Dnone")) == []
        other = await world.ask("GET", f"{NEW}?fieldSelector=source%3Dtest-controller")
        assert (other["code"], other["message"]) == (400, "field label not supported: source")
        series = {"count": 2, "lastObservedTime": "2017-09-19T13:49:11.000000Z"}
        patched = await world.patch(f"{NEW}/one", {"series": series}, "strategic")
        assert patched["series"]["count"] == 2
        patched["series"]["count"] = 100
        updated = await world.ok("PUT", f"{NEW}/one", patched)
        assert updated["series"]["count"] == 100
        assert int(updated["metadata"]["resourceVersion"]) > int(patched["metadata"]["resourceVersion"])
        await world.ok("DELETE", f"{NEW}/one")
        assert names(await world.ok("GET", f"{NEW}?labelSelector=set=test")) == []

    play(scenario, controllers="", nodes=0)


def test_collections_of_events_are_deleted_by_their_label(play: Play) -> None:
    async def scenario(world: Any) -> None:
        for path, make in ((CORE, core), (NEW, new)):
            for name in ("one", "two", "three"):
                await world.ok("POST", path, make(name))
            await world.ok("POST", path, {**make("kept"), "metadata": {"name": "kept"}})
            await world.ok("DELETE", f"{path}?labelSelector=set=test")
            assert names(await world.ok("GET", path)) == ["kept"]
            await world.ok("DELETE", f"{path}/kept")

    play(scenario, controllers="", nodes=0)
