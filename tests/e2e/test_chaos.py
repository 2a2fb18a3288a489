"""A short storm of kill -9; `e2e.chaos` by hand has the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e import chaos
from e2e.commands import Commands

pytestmark = pytest.mark.e2e


def test_nothing_is_lost_in_a_storm_of_kills(machine: Commands, images: list[Path]) -> None:
    chaos.up(machine, "--image", str(images[0]))
    storm = chaos.storm(machine, seed=7, kills=12)
    assert storm.problems == []
    assert storm.killed.total() == 12
    assert storm.checked > 20
