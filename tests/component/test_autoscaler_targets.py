"""What can be autoscaled, and how fast: targets of any kind, and the behaviors that upstream's e2e suite looks at."""

from __future__ import annotations

from typing import Any

import pytest

from autoscaler_world import NS, Measured, autoscaler, conditions, cpu, deployment, listing, play, settled, start, told
from tiphys.base.errors import Conflict
from tiphys.client.resources import CUSTOM_RESOURCE_DEFINITIONS, DEPLOYMENTS, PODS
from tiphys.client.types import Object, Resource
from tiphys.controllers.autoscaler import HORIZONTAL_POD_AUTOSCALERS

GADGETS = Resource("example.com", "v1", "gadgets")
OLD = Resource("autoscaling", "v1", "horizontalpodautoscalers")


async def define_gadgets(cluster: Measured) -> None:
    number = {"type": "integer", "maximum": 6}
    status = {"type": "object", "properties": {"replicas": number, "selector": {"type": "string"}}}
    spec = {"type": "object", "properties": {"replicas": number}}
    scale = {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": status}}},
        "subresources": {"scale": scale, "status": {}},
    }
    names = {"plural": "gadgets", "singular": "gadget", "kind": "Gadget", "listKind": "GadgetList"}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "gadgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]},
    }
    await cluster.client.create(CUSTOM_RESOURCE_DEFINITIONS, definition)
    await cluster.clock.sleep(5)


async def gadget(cluster: Measured, replicas: int, selector: str = "") -> None:
    kind = {"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "web", "namespace": NS}}
    made = await cluster.client.create(GADGETS, {**kind, "spec": {"replicas": replicas}})
    status = {"replicas": replicas, **({"selector": selector} if selector else {})}
    await cluster.client.update(GADGETS, {**made, "status": status}, subresource="status")


def for_gadget(*metrics: Any, **spec: Any) -> dict[str, Any]:
    wanted = autoscaler(*metrics, **spec)
    wanted["spec"]["scaleTargetRef"] = {"apiVersion": "example.com/v1", "kind": "Gadget", "name": "web"}
    return wanted


async def web_pods(cluster: Measured, count: int) -> None:
    template = deployment(1)["spec"]["template"]
    for number in range(count):
        meta = {**template["metadata"], "name": f"web-{number}", "namespace": NS}
        await cluster.client.create(
            PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}
        )


async def looked_at(cluster: Measured) -> Object:
    await cluster.clock.sleep(16)
    return await cluster.client.get(HORIZONTAL_POD_AUTOSCALERS, "web", NS)


async def size(cluster: Measured) -> int:
    return int((await cluster.client.get(DEPLOYMENTS, "web", NS))["spec"]["replicas"])


def test_custom_resources_scale_by_their_subresource() -> None:
    async def scenario(cluster: Measured) -> None:
        await define_gadgets(cluster)
        await gadget(cluster, 2, "app=web")
        await web_pods(cluster, 2)
        cluster.usage(1000, listing(cluster))
        await cluster.client.create(HORIZONTAL_POD_AUTOSCALERS, for_gadget(most=4))
        found = await looked_at(cluster)
        assert (found["status"]["currentReplicas"], found["status"]["desiredReplicas"]) == (2, 4)
        assert (await cluster.client.get(GADGETS, "web", NS))["spec"]["replicas"] == 4

    play(scenario)


def test_a_scale_without_a_selector_is_refused() -> None:
    async def scenario(cluster: Measured) -> None:
        await define_gadgets(cluster)
        await gadget(cluster, 2)
        await cluster.client.create(HORIZONTAL_POD_AUTOSCALERS, for_gadget())
        found = await looked_at(cluster)
        assert conditions(found)["ScalingActive"] == ("False", "InvalidSelector")
        assert found["status"]["conditions"][1]["message"] == "the HPA target's scale is missing a selector"
        events = await told(cluster)
        assert events["SelectorRequired"] == events["FailedComputeMetricsReplicas"] == "selector is required"

    play(scenario)


def test_a_scale_with_an_unreadable_selector_cannot_be_had() -> None:
    async def scenario(cluster: Measured) -> None:
        await define_gadgets(cluster)
        await gadget(cluster, 2, "a in (")
        await cluster.client.create(HORIZONTAL_POD_AUTOSCALERS, for_gadget())
        found = await looked_at(cluster)
        why = (
            "received an object from a /scale endpoint which was not convertible to autoscaling Scale: failed to parse "
            "target selector: couldn't parse the selector string \"a in (\": unable to parse requirement: found '', "
            "expected: ',', ')' or identifier"
        )
        assert conditions(found) == {"AbleToScale": ("False", "FailedGetScale")}
        assert (await told(cluster))["FailedGetScale"] == why

    play(scenario)


def test_a_size_that_the_target_refuses_is_told_of() -> None:
    async def scenario(cluster: Measured) -> None:
        await define_gadgets(cluster)
        await gadget(cluster, 4, "app=web")
        await web_pods(cluster, 4)
        cluster.usage(5000, listing(cluster))
        await cluster.client.create(HORIZONTAL_POD_AUTOSCALERS, for_gadget(most=20))
        found = await looked_at(cluster)
        assert conditions(found)["AbleToScale"] == ("False", "FailedUpdateScale")
        assert (found["status"]["currentReplicas"], found["status"]["desiredReplicas"]) == (4, 0)
        event = (await told(cluster))["FailedRescale"]
        assert event.startswith(
            "New size: 8; reason: cpu resource utilization (percentage of request) above target; error"
        )

    play(scenario)


@pytest.mark.parametrize("failures", [4, 5])
def test_a_target_that_changes_meanwhile_is_tried_again(failures: int) -> None:
    async def scenario(cluster: Measured) -> None:
        left = [failures]

        def flaky() -> Any:
            left[0] -= 1
            if left[0] >= 0:
                raise Conflict("somebody was faster")
            del cluster.answers[path, "PUT"]
            return None

        cluster.usage(1000, listing(cluster))
        await start(cluster, 2, autoscaler())
        path = f"/apis/apps/v1/namespaces/{NS}/deployments/web/scale"
        cluster.answers[path, "PUT"] = flaky
        await cluster.clock.sleep(16)
        found = await cluster.client.get(HORIZONTAL_POD_AUTOSCALERS, "web", NS)
        reason = "SucceededRescale" if failures < 5 else "FailedUpdateScale"
        assert conditions(found)["AbleToScale"][1] == reason
        assert (await size(cluster) == 4) is (failures < 5)

    play(scenario)


def test_a_tolerance_of_its_own_overrules_the_general_one() -> None:
    async def scenario(cluster: Measured) -> None:
        cluster.usage(540, listing(cluster))
        await start(cluster, 2, autoscaler(behavior={"scaleUp": {"tolerance": "0.05"}}))
        await settled(cluster, 3)
        cluster.usage(420, listing(cluster))
        await cluster.clock.sleep(900)
        assert await size(cluster) == 3

    play(scenario)


@pytest.mark.parametrize(("direction", "usage", "expected"), [("scaleUp", 1000, 3), ("scaleDown", 100, 3)])
def test_a_disabled_direction_never_changes_the_size(direction: str, usage: int, expected: int) -> None:
    async def scenario(cluster: Measured) -> None:
        cluster.usage(usage, listing(cluster))
        await start(cluster, 3, autoscaler(behavior={direction: {"selectPolicy": "Disabled"}}))
        await cluster.clock.sleep(900)
        assert await size(cluster) == expected

    play(scenario)


def test_growing_waits_for_its_window() -> None:
    async def scenario(cluster: Measured) -> None:
        cluster.usage(500, listing(cluster))
        await start(cluster, 2, autoscaler(behavior={"scaleUp": {"stabilizationWindowSeconds": 180}}))
        await cluster.clock.sleep(60)
        cluster.usage(1000, listing(cluster))
        await cluster.clock.sleep(155)
        assert await size(cluster) == 2
        held = await cluster.client.get(HORIZONTAL_POD_AUTOSCALERS, "web", NS)
        assert conditions(held)["AbleToScale"] == ("True", "ScaleUpStabilized")
        await settled(cluster, 4)

    play(scenario)


@pytest.mark.parametrize(
    ("policy", "sizes"),
    [
        ({"type": "Pods", "value": 2, "periodSeconds": 60}, [10, 8, 6]),
        ({"type": "Percent", "value": 30, "periodSeconds": 60}, [10, 7, 4]),
    ],
)
def test_shrinking_goes_by_steps(policy: dict[str, Any], sizes: list[int]) -> None:
    async def scenario(cluster: Measured) -> None:
        cluster.usage(10, listing(cluster))
        down = {"policies": [policy], "stabilizationWindowSeconds": 0}
        await start(cluster, sizes[0], autoscaler(behavior={"scaleDown": down}))
        await settled(cluster, sizes[1])
        begun = cluster.clock.monotonic()
        await settled(cluster, sizes[2])
        assert 55 <= cluster.clock.monotonic() - begun <= 80

    play(scenario)


def test_growing_by_the_stricter_of_two_policies() -> None:
    async def scenario(cluster: Measured) -> None:
        cluster.usage(2000, listing(cluster))
        policies = [
            {"type": kind, "value": value, "periodSeconds": 60} for kind, value in (("Pods", 1), ("Percent", 100))
        ]
        await start(
            cluster, 2, autoscaler(cpu(20), behavior={"scaleUp": {"policies": policies, "selectPolicy": "Min"}})
        )
        await settled(cluster, 3)
        begun = cluster.clock.monotonic()
        await settled(cluster, 4)
        assert 55 <= cluster.clock.monotonic() - begun <= 80

    play(scenario)


def test_the_first_version_shows_everything_else_in_annotations() -> None:
    async def scenario(cluster: Measured) -> None:
        cluster.usage(1000, listing(cluster))
        await start(cluster, 2, autoscaler())
        await settled(cluster, 4)
        old = await cluster.client.get(OLD, "web", NS)
        assert old["spec"]["targetCPUUtilizationPercentage"] == 50
        assert old["status"]["currentCPUUtilizationPercentage"] == 100
        assert (
            '"reason":"SucceededRescale"'
            in old["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/conditions"]
        )

    play(scenario)


def test_a_manager_that_starts_again_does_not_shrink_at_once() -> None:
    async def scenario(cluster: Measured) -> None:
        cluster.usage(1000, listing(cluster))
        await start(cluster, 2, autoscaler(most=4))
        await settled(cluster, 4)
        cluster.usage(10, listing(cluster))
        await cluster.clock.sleep(60)
        async with cluster.managing("horizontalpodautoscaling"):
            await cluster.clock.sleep(200)
            assert await size(cluster) == 4

    play(scenario)
