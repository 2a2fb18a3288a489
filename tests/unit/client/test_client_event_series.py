from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tiphys.base.errors import Forbidden
from tiphys.client.event_series import EventSeriesRecorder
from tiphys.client.events import NORMAL, WARNING

POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default", "uid": "u1"}}
NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "uid": "u2"}}


def record(run: Any, client: Any, clock: Any, server: Any, notes: list[str], pause: float, after: float) -> Any:
    async def scenario() -> None:
        recorder = EventSeriesRecorder(client, clock, "default-scheduler")
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(recorder.run())
            for note in notes:
                recorder.event(POD, WARNING, "FailedScheduling", note, action="Scheduling")
                await clock.sleep(pause)
            await clock.sleep(after)
            task.cancel()

    run(scenario())
    return list(server.objects.values())


def test_the_first_is_written_as_it_is(run: Any, client: Any, clock: Any, server: Any) -> None:
    (event,) = record(run, client, clock, server, ["no room"], 1, 1)
    assert event["apiVersion"] == "events.k8s.io/v1"
    assert event["eventTime"] == "2026-01-01T00:00:00.000000Z"
    assert (event["note"], event["action"], event["type"]) == ("no room", "Scheduling", "Warning")
    assert event["reportingController"] == "default-scheduler"
    assert event["reportingInstance"].startswith("default-scheduler-")
    assert event["regarding"]["name"] == "web"
    assert event["metadata"]["name"].startswith("web.")
    assert "series" not in event


def test_the_second_makes_a_series_whatever_its_note_says(run: Any, client: Any, clock: Any, server: Any) -> None:
    (event,) = record(run, client, clock, server, ["one", "two", "three"], 10, 10)
    assert event["note"] == "one"
    assert event["series"] == {"count": 2, "lastObservedTime": "2026-01-01T00:00:10.000000Z"}


def test_a_series_that_is_over_is_told_in_full_and_forgotten(run: Any, client: Any, clock: Any, server: Any) -> None:
    (event,) = record(run, client, clock, server, ["one", "two", "three"], 10, 1000)
    assert event["series"] == {"count": 3, "lastObservedTime": "2026-01-01T00:00:20.000000Z"}
    assert len(server.requests) == 3
    assert len(record(run, client, clock, server, ["one"], 1, 1)) == 2


def test_a_series_that_goes_on_is_told_by_the_half_hour(run: Any, client: Any, clock: Any, server: Any) -> None:
    (event,) = record(run, client, clock, server, ["again"] * 40, 60, 0)
    assert event["series"]["count"] == 30
    assert len(server.requests) == 3


def test_events_about_others_or_on_account_of_others_are_others(run: Any, client: Any, clock: Any, server: Any) -> None:
    async def scenario() -> None:
        recorder = EventSeriesRecorder(client, clock, "default-scheduler")
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(recorder.run())
            recorder.event(POD, NORMAL, "Preempted", "go", action="Preempting")
            recorder.event(POD, NORMAL, "Preempted", "go", action="Preempting", related=NODE)
            recorder.event(NODE, NORMAL, "Preempted", "go", action="Preempting")
            recorder.event(NODE, NORMAL, "Preempted", "x" * 2000, action="Binding")
            await clock.sleep(1)
            task.cancel()

    run(scenario())
    events = list(server.objects.values())
    assert [each["metadata"]["namespace"] for each in events] == ["default"] * 4
    assert events[1]["related"]["name"] == "n1"
    assert (len(events[3]["note"]), events[3]["note"][-5:]) == (1024, "x ...")


def test_what_is_refused_is_dropped_and_what_expired_is_created_anew(
    run: Any, client: Any, clock: Any, server: Any
) -> None:
    server.fail = [Forbidden("no")]
    (event,) = record(run, client, clock, server, ["one", "two"], 1, 1)
    assert (event["note"], event["series"]["count"]) == ("one", 2)


@pytest.mark.parametrize(("failures", "written"), [(11, 1), (12, 0)])
def test_while_the_server_cannot_be_reached_an_event_is_tried_again(
    run: Any, client: Any, clock: Any, server: Any, monkeypatch: Any, failures: int, written: int
) -> None:
    reach = client.exchange
    left = [OSError("no route to host")] * failures

    async def exchange(call: Any) -> Any:
        if left:
            raise left.pop()
        return await reach(call)

    monkeypatch.setattr(client, "exchange", exchange)
    assert len(record(run, client, clock, server, ["one"], 1, 300)) == written
