"""Batches of audit events: what is on its way when the server ends is not lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from tiphys.apiserver.audit.settings import Batching
from tiphys.apiserver.audit.sinks import BatchSink
from tiphys.testing.clock import VirtualClock


def test_a_batch_that_is_interrupted_is_sent_again() -> None:
    clock = VirtualClock()
    sent: list[list[Any]] = []

    async def send(events: Sequence[Any]) -> None:
        if not sent and events[0]["n"] == 3:
            await clock.sleep(1000)
        sent.append([event["n"] for event in events])

    async def main() -> None:
        sink = BatchSink(send, Batching("batch", 100, 2, 60.0), clock)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(sink.run())
            sink.process({"n": 3})
            sink.process({"n": 4})
            await clock.sleep(1)
            running.cancel()
            sent.append([])  # whoever sends from now on is not held up
        assert sent == [[], [3, 4]]

    clock.run(main())
    clock.close()
