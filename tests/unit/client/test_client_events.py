from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tiphys.base.errors import Forbidden
from tiphys.client.events import NORMAL, WARNING, EventRecorder

POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default", "uid": "u1"}}


def record(
    run: Any, client: Any, clock: Any, server: Any, messages: list[str], pause: float = 1
) -> list[dict[str, Any]]:
    async def scenario() -> None:
        recorder = EventRecorder(client, clock, "kubelet", "node-1")
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(recorder.run())
            for message in messages:
                recorder.event(POD, NORMAL, "Pulled", message)
                await clock.sleep(pause)
            task.cancel()

    run(scenario())
    return [obj for obj in server.objects.values() if obj["kind"] == "Event"]


def test_the_same_event_again_is_counted(run: Any, client: Any, clock: Any, server: Any) -> None:
    (event,) = record(run, client, clock, server, ["pulled nginx"] * 3, pause=60)
    assert event["count"] == 3
    assert event["firstTimestamp"] == "2026-01-01T00:00:00Z"
    assert event["lastTimestamp"] == "2026-01-01T00:02:00Z"
    assert event["source"] == {"component": "kubelet", "host": "node-1"}
    assert event["involvedObject"] == {
        "kind": "Pod", "namespace": "default", "name": "web", "uid": "u1", "apiVersion": "v1",
    }  # fmt: skip


def test_events_alike_but_for_the_message_are_combined_from_the_tenth_on(
    run: Any, client: Any, clock: Any, server: Any
) -> None:
    events = record(run, client, clock, server, [f"message {n}" for n in range(15)])
    assert len(events) == 10
    assert events[-1]["message"] == "(combined from similar events): message 14"
    assert events[-1]["count"] == 6
    assert not events[-1]["reportingComponent"]


def test_a_source_that_floods_is_stopped(run: Any, client: Any, clock: Any, server: Any) -> None:
    (event,) = record(run, client, clock, server, ["again"] * 100, pause=0.01)
    assert event["count"] == 25


def test_good_and_bad_news_are_limited_apart_and_what_is_dropped_counts(
    run: Any, client: Any, clock: Any, server: Any
) -> None:
    async def scenario() -> None:
        recorder = EventRecorder(client, clock, "kubelet")
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(recorder.run())
            for type in (NORMAL, WARNING):
                for _ in range(30):
                    recorder.event(POD, type, "Reason", "again")
            await clock.sleep(301)
            recorder.event(POD, NORMAL, "Reason", "again")
            await clock.sleep(1)
            task.cancel()

    run(scenario())
    assert [(event["type"], event["count"]) for event in server.objects.values()] == [(NORMAL, 31), (WARNING, 25)]


def test_a_failure_to_write_is_not_the_callers(run: Any, client: Any, clock: Any, server: Any) -> None:
    server.fail = [Forbidden("no")]
    (event,) = record(run, client, clock, server, ["one", "two"])
    assert event["message"] == "two"


def test_an_event_that_expired_is_created_anew(run: Any, client: Any, clock: Any, server: Any) -> None:
    async def scenario() -> int:
        recorder = EventRecorder(client, clock, "kubelet")
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(recorder.run())
            recorder.event(POD, NORMAL, "Pulled", "same")
            await clock.sleep(1)
            server.objects.clear()
            recorder.event(POD, NORMAL, "Pulled", "same")
            await clock.sleep(1)
            task.cancel()
        return len(server.objects)

    assert run(scenario()) == 1


@pytest.mark.parametrize(("failures", "written"), [(11, ["one", "two"]), (12, ["two"])])
def test_while_the_server_cannot_be_reached_an_event_is_tried_again(
    run: Any, client: Any, clock: Any, server: Any, monkeypatch: Any, failures: int, written: list[str]
) -> None:
    reach = client.exchange
    left = [OSError("no route to host")] * failures

    async def exchange(call: Any) -> Any:
        if left:
            raise left.pop()
        return await reach(call)

    monkeypatch.setattr(client, "exchange", exchange)
    events = record(run, client, clock, server, ["one", "two"], pause=150)
    assert [each["message"] for each in events] == written
