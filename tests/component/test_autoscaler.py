"""HorizontalPodAutoscalers on the real API server, on virtual time; the metrics APIs are answered by the test."""

from __future__ import annotations

import pytest

from autoscaler_world import (
    CUSTOM,
    EXTERNAL,
    NS,
    Measured,
    autoscaler,
    conditions,
    cpu,
    listing,
    play,
    settled,
    start,
    told,
)
from tiphys.client.resources import DEPLOYMENTS
from tiphys.client.types import MERGE_PATCH
from tiphys.controllers.autoscaler import HORIZONTAL_POD_AUTOSCALERS


def test_load_scales_up_at_once_and_down_after_five_minutes() -> None:
    async def scenario(cluster: Measured) -> None:
        cluster.usage(1000, listing(cluster))
        await start(cluster, 2, autoscaler())
        created = cluster.clock.monotonic()
        grown = await settled(cluster, 4)
        assert 14 <= cluster.clock.monotonic() - created <= 16
        assert conditions(grown) == {
            "AbleToScale": ("True", "SucceededRescale"),
            "ScalingActive": ("True", "ValidMetricFound"),
            "ScalingLimited": ("False", "DesiredWithinRange"),
        }
        metric = grown["status"]["currentMetrics"][0]["resource"]
        assert metric == {"name": "cpu", "current": {"averageValue": "1", "averageUtilization": 100}}
        events = await told(cluster)
        reason = "cpu resource utilization (percentage of request) above target"
        assert events["SuccessfulRescale"] == f"New size: 4; reason: {reason}"
        cluster.usage(50, listing(cluster))
        before = cluster.clock.monotonic()
        shrunk = await settled(cluster, 1)
        assert cluster.clock.monotonic() - before >= 280
        assert shrunk["status"]["lastScaleTime"]

    play(scenario)


def test_without_a_metrics_server_conditions_and_events_say_so_and_the_size_stays() -> None:
    async def scenario(cluster: Measured) -> None:
        await start(cluster, 2, autoscaler())
        await cluster.clock.sleep(20)
        found = await cluster.client.get(HORIZONTAL_POD_AUTOSCALERS, "web", NS)
        assert conditions(found)["ScalingActive"] == ("False", "FailedGetResourceMetric")
        assert conditions(found)["AbleToScale"] == ("True", "SucceededGetScale")
        why = (
            "failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from "
            "resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)"
        )
        events = await told(cluster)
        assert events["FailedGetResourceMetric"] == why
        assert events["FailedComputeMetricsReplicas"] == (
            "invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: " + why
        )
        held = await cluster.client.get(DEPLOYMENTS, "web", NS)
        assert held["spec"]["replicas"] == 2
        await cluster.clock.sleep(600)
        assert await cluster.client.get(HORIZONTAL_POD_AUTOSCALERS, "web", NS) == found

    play(scenario)


@pytest.mark.parametrize(
    ("replicas", "least", "reason"), [(9, 1, "above Spec.MaxReplicas"), (1, 3, "below Spec.MinReplicas")]
)
def test_bounds_hold_without_any_metric(replicas: int, least: int, reason: str) -> None:
    async def scenario(cluster: Measured) -> None:
        await start(cluster, replicas, autoscaler(least=least, most=5))
        await settled(cluster, max(least, min(5, replicas)))
        assert (await told(cluster))["SuccessfulRescale"].endswith(reason)

    play(scenario)


def test_a_target_of_no_replicas_is_left_alone() -> None:
    async def scenario(cluster: Measured) -> None:
        await start(cluster, 0, autoscaler())
        await cluster.clock.sleep(20)
        found = await cluster.client.get(HORIZONTAL_POD_AUTOSCALERS, "web", NS)
        assert conditions(found)["ScalingActive"] == ("False", "ScalingDisabled")
        assert (await cluster.client.get(DEPLOYMENTS, "web", NS))["spec"]["replicas"] == 0

    play(scenario)


def test_a_target_that_is_not_there_is_told_of() -> None:
    async def scenario(cluster: Measured) -> None:
        await cluster.client.create(HORIZONTAL_POD_AUTOSCALERS, autoscaler())
        odd = autoscaler()
        odd["metadata"]["name"] = "odd"
        odd["spec"]["scaleTargetRef"] = {"apiVersion": "example.com/v1", "kind": "Gadget", "name": "g"}
        await cluster.client.create(HORIZONTAL_POD_AUTOSCALERS, odd)
        await cluster.clock.sleep(20)
        for name, text in (("web", "not found"), ("odd", 'no matches for kind "Gadget" in group "example.com"')):
            found = await cluster.client.get(HORIZONTAL_POD_AUTOSCALERS, name, NS)
            assert conditions(found) == {"AbleToScale": ("False", "FailedGetScale")}
            assert text in found["status"]["conditions"][0]["message"]

    play(scenario)


def test_behavior_limits_the_rate_of_change() -> None:
    async def scenario(cluster: Measured) -> None:
        cluster.usage(1000, listing(cluster))
        slow = {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}
        await start(cluster, 2, autoscaler(cpu(20), behavior={"scaleUp": slow}))
        begun = cluster.clock.monotonic()
        found = await settled(cluster, 5)
        assert 130 <= cluster.clock.monotonic() - begun <= 150
        assert conditions(found)["ScalingLimited"] == ("True", "ScaleUpLimit")

    play(scenario)


def test_custom_object_and_external_metrics_take_the_largest_proposal() -> None:
    async def scenario(cluster: Measured) -> None:
        names = listing(cluster)
        cluster.answers[CUSTOM] = lambda: {"versions": [{"version": "v1beta2"}]}
        base = f"{CUSTOM}/v1beta2/namespaces/{NS}"
        cluster.answers[f"{base}/pods/*/qps"] = lambda: {
            "items": [{"describedObject": {"name": name}, "value": "20"} for name in names()]
        }
        cluster.answers[f"{base}/services/front/hits"] = lambda: {"items": [{"value": "3k"}]}
        cluster.answers[EXTERNAL] = lambda: {"items": [{"value": "30"}, {"value": "40"}]}
        qps = {"metric": {"name": "qps"}, "target": {"type": "AverageValue", "averageValue": "10"}}
        front = {"apiVersion": "v1", "kind": "Service", "name": "front"}
        hits = {"metric": {"name": "hits"}, "describedObject": front, "target": {"type": "Value", "value": "1k"}}
        queue = {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "10"}}
        sources = [
            {"type": "Pods", "pods": qps},
            {"type": "Object", "object": hits},
            {"type": "External", "external": queue},
        ]
        behavior = {"scaleUp": {"policies": [{"type": "Pods", "value": 20, "periodSeconds": 15}]}}
        await start(cluster, 2, autoscaler(*sources, behavior=behavior))
        found = await settled(cluster, 7)
        shown = found["status"]["currentMetrics"]
        assert [each["type"] for each in shown] == ["Pods", "Object", "External"]
        assert shown[0]["pods"]["current"] == {"averageValue": "20"}
        assert shown[1]["object"]["current"] == {"value": "3k"}
        assert shown[2]["external"]["current"] == {"averageValue": "35"}
        assert (await told(cluster))[
            "SuccessfulRescale"
        ] == "New size: 7; reason: external metric queue(nil) above target"

    play(scenario)


def test_a_metric_that_is_missing_forbids_scaling_down_but_not_up() -> None:
    async def scenario(cluster: Measured) -> None:
        queue = {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "10"}}
        wanted = autoscaler(cpu(50), {"type": "External", "external": queue})
        cluster.usage(10, listing(cluster))
        await start(cluster, 4, wanted)
        await cluster.clock.sleep(600)
        held = await cluster.client.get(HORIZONTAL_POD_AUTOSCALERS, "web", NS)
        assert conditions(held)["ScalingActive"] == ("False", "FailedGetExternalMetric")
        assert (await cluster.client.get(DEPLOYMENTS, "web", NS))["spec"]["replicas"] == 4
        cluster.usage(1000, listing(cluster))
        await settled(cluster, 8)

    play(scenario)


def test_two_autoscalers_of_the_same_pods_stand_back() -> None:
    async def scenario(cluster: Measured) -> None:
        cluster.usage(1000, listing(cluster))
        await start(cluster, 2, autoscaler(most=2))
        other = autoscaler(most=2)
        other["metadata"]["name"] = "other"
        await cluster.client.create(HORIZONTAL_POD_AUTOSCALERS, other)
        await cluster.clock.sleep(60)
        found = await cluster.client.get(HORIZONTAL_POD_AUTOSCALERS, "web", NS)
        assert conditions(found)["ScalingActive"] == ("False", "AmbiguousSelector")
        await cluster.client.delete(HORIZONTAL_POD_AUTOSCALERS, "other", NS)
        await cluster.clock.sleep(30)
        found = await cluster.client.get(HORIZONTAL_POD_AUTOSCALERS, "web", NS)
        assert conditions(found)["ScalingActive"] == ("True", "ValidMetricFound")

    play(scenario)


def test_container_metrics_and_average_values_of_resources() -> None:
    async def scenario(cluster: Measured) -> None:
        cluster.usage(900, listing(cluster))
        target = {"type": "AverageValue", "averageValue": "50Mi"}
        memory = {"type": "Resource", "resource": {"name": "memory", "target": target}}
        share = {"type": "Utilization", "averageUtilization": 60}
        container = {
            "type": "ContainerResource",
            "containerResource": {"name": "cpu", "container": "c", "target": share},
        }
        await start(cluster, 2, autoscaler(memory, container))
        found = await settled(cluster, 4)
        shown = found["status"]["currentMetrics"]
        assert shown[0]["resource"]["current"] == {"averageValue": "100Mi"}
        current = {"averageValue": "900m", "averageUtilization": 90}
        assert shown[1]["containerResource"] == {"name": "cpu", "container": "c", "current": current}

    play(scenario)


def test_a_change_by_hand_is_looked_at_within_a_period() -> None:
    async def scenario(cluster: Measured) -> None:
        await start(cluster, 2, autoscaler())
        await cluster.clock.sleep(60)
        await cluster.client.patch(
            HORIZONTAL_POD_AUTOSCALERS, "web", {"spec": {"minReplicas": 3}}, NS, type=MERGE_PATCH
        )
        await cluster.clock.sleep(16)
        assert (await cluster.client.get(DEPLOYMENTS, "web", NS))["spec"]["replicas"] == 3

    play(scenario)
