"""Random load, changes by hand, missing metrics and conflicts: the size is always within bounds at the next look."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from autoscaler_world import NS, PODS_PATH, Measured, autoscaler, conditions, listing, play, start
from tiphys.base.errors import Conflict, ServiceUnavailable
from tiphys.client.resources import DEPLOYMENTS
from tiphys.client.types import MERGE_PATCH
from tiphys.controllers.autoscaler import HORIZONTAL_POD_AUTOSCALERS

SCALE = f"/apis/apps/v1/namespaces/{NS}/deployments/web/scale"


def break_metrics() -> Any:
    raise ServiceUnavailable("the server is currently unable to handle the request")


async def step(cluster: Measured, random: Random, bounds: dict[str, int]) -> None:
    """Load changes, somebody changes sizes or bounds, or something breaks for a while."""
    action = random.choice(("load", "load", "load", "size", "bounds", "metrics", "conflict", "zero"))
    if action == "load":
        cluster.usage(random.choice((0, 10, 300, 500, 900, 4000)), listing(cluster))
    elif action == "metrics":
        cluster.answers[PODS_PATH] = break_metrics
    elif action == "conflict":
        left = [random.randint(1, 7)]

        def flaky() -> Any:
            left[0] -= 1
            if left[0] < 0:
                return None
            raise Conflict("somebody was faster")

        cluster.answers[SCALE, "PUT"] = flaky
    elif action == "bounds":
        bounds["minReplicas"] = random.randint(1, 5)
        bounds["maxReplicas"] = bounds["minReplicas"] + random.randint(0, 10)
        await cluster.client.patch(HORIZONTAL_POD_AUTOSCALERS, "web", {"spec": bounds}, NS, type=MERGE_PATCH)
    else:
        size = 0 if action == "zero" else random.randint(1, 20)
        await cluster.client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": size}}, NS, type=MERGE_PATCH)


@pytest.mark.parametrize("seed", range(3))
def test_the_size_is_within_its_bounds_at_the_next_look(seed: int) -> None:
    random = Random(seed)
    behavior: dict[str, Any] = random.choice([{}, {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}}])

    async def scenario(cluster: Measured) -> None:
        bounds = {"minReplicas": 1, "maxReplicas": 10}
        await start(cluster, 2, autoscaler(**behavior))
        for _ in range(25):
            await step(cluster, random, bounds)
            await cluster.clock.sleep(random.choice((32.0, 32.0, 200.0)))
            size = (await cluster.client.get(DEPLOYMENTS, "web", NS))["spec"]["replicas"]
            found = await cluster.client.get(HORIZONTAL_POD_AUTOSCALERS, "web", NS)
            if size == 0:
                assert conditions(found)["ScalingActive"] == ("False", "ScalingDisabled")
                await cluster.client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 1}}, NS, type=MERGE_PATCH)
                continue
            assert bounds["minReplicas"] <= size <= bounds["maxReplicas"]
            assert found["status"]["desiredReplicas"] <= bounds["maxReplicas"] or "Failed" in str(found["status"])

    play(scenario)
