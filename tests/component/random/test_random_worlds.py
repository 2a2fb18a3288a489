"""Random sequences of everything that may happen to a cluster: the invariants hold after each change, and whenever it
is left alone the cluster comes to rest as it was asked to be.

Ten thousand steps in all, in worlds of different mixtures. More by hand: `python -m component.random --help`, with
PYTHONPATH=src:tests. Each world is a process of its own, whose hashes of text do not change from run to run: what a
failure prints repeats it exactly.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from component.random.plans import PLANS, STEPS, TESTED


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("world", "seed"), TESTED)
def test_whatever_happens_the_invariants_hold(world: str, seed: int) -> None:
    command = [sys.executable, "-m", "component.random", "--world", world, "--seed", str(seed)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_worlds_take_ten_thousand_steps() -> None:
    assert len(TESTED) * STEPS >= 10_000
    assert {world for world, _ in TESTED} == PLANS.keys()
