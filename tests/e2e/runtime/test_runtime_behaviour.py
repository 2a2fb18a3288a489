"""LinuxRuntime passes the scenarios of every runtime, with real containers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tiphys.testing.runtime_behaviour import SCENARIOS, Scenario

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_linux_runtime(scenario: Scenario, machine: Any, tmp_path: Path) -> None:
    async def main() -> None:
        async with machine.runtime() as runtime:
            await scenario(runtime, tmp_path)

    asyncio.run(main())
