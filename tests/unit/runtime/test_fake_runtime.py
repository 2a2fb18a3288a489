"""FakeRuntime passes the scenarios of every runtime, in no time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiphys.testing.clock import VirtualClock
from tiphys.testing.runtime import FakeRuntime
from tiphys.testing.runtime_behaviour import SCENARIOS, Scenario


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_fake_runtime(scenario: Scenario, tmp_path: Path) -> None:
    clock = VirtualClock()

    async def main() -> None:
        async with FakeRuntime(clock) as runtime:
            await scenario(runtime, tmp_path)

    clock.run(main())
