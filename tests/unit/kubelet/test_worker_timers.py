"""A pod's timers on a clock that wakes a little early, as those of event loops do."""

from __future__ import annotations

import asyncio
from typing import Any

from tiphys.kubelet import instructions as do
from tiphys.kubelet.state import PodState
from tiphys.kubelet.worker import Hands, PodWorker


class EarlyClock:
    """Each sleep ends a millisecond too soon."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += max(seconds - 0.001, 0.0005)


def test_a_timer_never_fires_before_its_time() -> None:
    async def main() -> None:
        clock = EarlyClock()
        pod: dict[str, Any] = {"metadata": {"name": "p", "namespace": "d", "uid": "u"}, "spec": {"containers": []}}
        fired = asyncio.Event()
        moments: list[float] = []
        async with asyncio.TaskGroup() as group:
            worker = PodWorker(PodState(pod), Hands(), clock, group, lambda worker: None)

            def note() -> None:
                moments.append(clock.now)
                fired.set()

            worker.listeners.add(note)
            worker._carry_out(do.SetTimer("sandbox", 1010.0))
            await fired.wait()
        assert moments[0] >= 1010.0

    asyncio.run(asyncio.wait_for(main(), 10))
