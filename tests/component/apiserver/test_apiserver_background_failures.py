"""What fails beside the requests (a store that is away, an odd file) ends neither the server nor its other work."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from tiphys.apiserver import configfile
from tiphys.apiserver.app import ApiServer
from tiphys.apiserver.config import ApiServerConfig
from tiphys.apiserver.upheld import upheld
from tiphys.base.clock import SystemClock
from tiphys.base.errors import Permanent
from tiphys.base.http.types import Request, Response
from tiphys.base.identity import User
from tiphys.store.memory import MemoryStore
from tiphys.store.types import Row, Unavailable
from tiphys.testing.clock import VirtualClock

ADMIN = User("admin", groups=("system:masters", "system:authenticated"))
EVENTS = "/api/v1/namespaces/default/events"
SCHEMAS = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas"


class Away(MemoryStore):
    """A store that cannot be written to now and then."""

    away = False

    async def put(self, key: str, value: bytes, **how: Any) -> Row:
        self._check()
        return await super().put(key, value, **how)

    async def delete(self, key: str, **how: Any) -> Row | None:
        self._check()
        return await super().delete(key, **how)

    def _check(self) -> None:
        if self.away:
            raise Unavailable("the store is away")


async def http(server: ApiServer, method: str, url: str, body: Any = None) -> Response:
    raw = b"" if body is None else orjson.dumps(body)
    headers = {"content-type": "application/json"} if raw else {}
    return await server.handler(Request(method, url, headers=headers, body=raw, user=ADMIN, raw_path=url))


def test_events_expire_late_when_the_store_was_away() -> None:
    clock = VirtualClock()

    async def main() -> None:
        store = Away()
        async with ApiServer(ApiServerConfig(event_seconds=60.0), store, clock) as server:
            event = {"metadata": {"name": "e"}, "involvedObject": {"namespace": "default"}}
            assert (await http(server, "POST", EVENTS, event)).status == 201
            store.away = True
            await clock.sleep(100)
            assert (await http(server, "GET", f"{EVENTS}/e")).status == 200
            store.away = False
            await clock.sleep(20)
            assert (await http(server, "GET", f"{EVENTS}/e")).status == 404

    clock.run(main())


def test_flow_control_objects_come_back_when_the_store_does() -> None:
    clock = VirtualClock()

    async def main() -> None:
        store = Away()
        async with ApiServer(ApiServerConfig(), store, clock) as server:
            await clock.sleep(1)
            # The row goes past the server, while it can write nothing itself.
            await store.delete("flowcontrol.apiserver.k8s.io/flowschemas/catch-all")
            store.away = True
            await clock.sleep(10)
            assert (await http(server, "GET", f"{SCHEMAS}/catch-all")).status == 404
            store.away = False
            await clock.sleep(10)
            assert (await http(server, "GET", f"{SCHEMAS}/catch-all")).status == 200

    clock.run(main())


def test_an_event_of_a_strange_time_does_not_keep_the_server_from_starting() -> None:
    clock = VirtualClock()

    async def main() -> None:
        store = MemoryStore()
        value = b'{"metadata":{"name":"e","namespace":"default","uid":"u"},"lastTimestamp":"yesterday"}'
        await store.put("core/events/default/e", value)
        async with ApiServer(ApiServerConfig(), store, clock) as server:
            await clock.sleep(4000)
            assert (await http(server, "GET", f"{EVENTS}/e")).status == 404

    clock.run(main())


def test_a_part_that_fails_is_begun_anew() -> None:
    clock, begun = VirtualClock(), []

    async def part() -> None:
        begun.append(clock.monotonic())
        if len(begun) < 3:
            async with asyncio.TaskGroup() as group:
                group.create_task(_raises(ValueError("odd")))

    clock.run(upheld(part, clock))
    assert len(begun) == 3


def test_a_configuration_that_makes_no_sense_still_ends_the_start() -> None:
    clock = VirtualClock()

    async def part() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(_raises(Permanent("no such file")))

    with pytest.raises(ExceptionGroup):
        clock.run(upheld(part, clock))


async def _raises(error: Exception) -> None:
    raise error


def test_a_file_that_cannot_be_taken_over_leaves_the_old_rules_in_force(tmp_path: Path) -> None:
    path, asked = tmp_path / "rules", []
    path.write_text("a")

    async def main() -> None:
        taken = asyncio.Event()

        async def reload() -> None:
            asked.append(path.read_text())
            if asked[-1] == "b":
                raise Unavailable("the store is away")
            taken.set()

        async with configfile.watched(path, reload), asyncio.timeout(10):
            path.write_text("b")
            while not asked:
                await SystemClock().sleep(0.01)
            path.write_text("c")
            await taken.wait()

    asyncio.run(main())
    assert asked[-1] == "c"
