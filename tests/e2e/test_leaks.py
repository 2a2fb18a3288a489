"""A short churn of pods of all kinds leaves nothing on the machine; `e2e.leaks` by hand has the long one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from e2e import leaks
from e2e.commands import Commands

pytestmark = pytest.mark.e2e


@pytest.fixture
def machine(tmp_path: Path) -> Commands:
    """A home of its own: what the pods of another cluster there do meanwhile is not counted."""
    return Commands(tmp_path, Path("/run", f"tiphys-leaks-{os.getpid()}"))


def test_pods_that_came_and_went_leave_nothing(machine: Commands, images: list[Path]) -> None:
    own = leaks.up(machine, "--image", str(images[0]))
    try:
        churn = leaks.Leaks(own, seed=3)
        churn.churn(14)
        before = churn.quiet()
        churn.churn(28)
        assert churn.left(before) == {}
    finally:
        machine.tiphys("delete", leaks.NAME, "--kubeconfig", str(machine.home / leaks.NAME))
