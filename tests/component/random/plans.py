"""The worlds of the tests: each has its own mixture, so that rules which excuse controllers for what others did are
put to the test in worlds where nobody meddles."""

from __future__ import annotations

from component.random.weather import CALM, FOG, GALE
from component.random.world import Plan

STEPS = 1000

_CALLS = ("faults", "wellness")

PLANS = {
    each.name: each
    for each in (
        Plan(seed=0, steps=STEPS, name="all"),
        Plan(seed=0, steps=STEPS, name="gentle", kinds=("workloads", *_CALLS), skies=(CALM, FOG, GALE)),
        Plan(seed=0, steps=STEPS, name="jobs", kinds=("jobs", "pods", "nodes", *_CALLS), nodes=3),
        Plan(seed=0, steps=STEPS, name="managers", managers=2, nodes=3),
        Plan(seed=0, steps=STEPS, name="scheduler", scheduler=True),
    )
}
"""By name."""

TESTED = tuple((name, seed) for seed in (1, 2) for name in PLANS)
"""Worlds and seeds of the default run of the tests: ten thousand steps in all."""
