from __future__ import annotations

from typing import Any

import pytest

from tiphys.base.clock import rfc3339
from tiphys.controllers import autoscaler_replicas as replicas
from tiphys.controllers.autoscaler_replicas import Conditions, Proposal, Sample, Tolerances, Unmeasurable

NOW = 1_767_225_600.0
GIVEN = Conditions(NOW)


def pod(name: str, *, ready: bool = True, phase: str = "Running", started: float = 3600, **meta: Any) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": str(ready), "lastTransitionTime": rfc3339(NOW - started + 10)}]
    container = {"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}
    return {
        "metadata": {"name": name, **meta},
        "spec": {"containers": [container]},
        "status": {"phase": phase, "startTime": rfc3339(NOW - started), "conditions": conditions},
    }


def fleet(count: int) -> list[dict[str, Any]]:
    return [pod(f"p{number}") for number in range(count)]


def samples(*values: int) -> dict[str, Sample]:
    return {f"p{number}": Sample(value, NOW) for number, value in enumerate(values)}


def by_cpu(pods: list[dict[str, Any]], measured: dict[str, Sample], current: int, target: int) -> Proposal:
    return replicas.by_utilization(pods, measured, current, target, "cpu", "", GIVEN)


@pytest.mark.parametrize(
    ("measured", "target", "wanted"),
    [
        ((300, 500, 700), 30, 5),
        ((300, 500, 700), 50, 3),
        ((300, 500, 700), 46, 3),
        ((100, 300, 500), 50, 2),
        ((1000, 1000, 1000), 10, 30),
    ],
)
def test_utilization_over_target_times_pods(measured: tuple[int, ...], target: int, wanted: int) -> None:
    assert by_cpu(fleet(3), samples(*measured), 3, target).replicas == wanted


def test_pods_without_a_metric_are_at_the_target_when_scaling_down_and_idle_when_scaling_up() -> None:
    assert by_cpu(fleet(4), samples(100, 100, 100), 4, 50).replicas == 3
    assert by_cpu(fleet(4), samples(1000, 1000, 1000), 4, 50).replicas == 6
    assert by_cpu(fleet(4), samples(550, 550), 4, 50).replicas == 4


def test_pods_that_are_starting_are_idle_when_scaling_up_and_left_out_when_scaling_down() -> None:
    pods = [pod("p0"), pod("p1"), pod("p2", ready=False, started=20)]
    assert by_cpu(pods, samples(900, 900, 5000), 3, 50).replicas == 4
    assert by_cpu(pods, samples(100, 100, 100), 3, 50).replicas == 1


def test_the_first_cpu_of_a_pod_is_not_trusted_until_a_window_after_it_became_ready() -> None:
    fresh = pod("p0", started=60)
    assert replicas.group([fresh], {"p0": Sample(1, NOW - 30)}, "cpu", GIVEN).unready == {"p0"}
    assert replicas.group([fresh], {"p0": Sample(1, NOW + 20)}, "cpu", GIVEN).ready == 1
    assert replicas.group([fresh], {"p0": Sample(1, NOW - 30)}, "memory", GIVEN).ready == 1


def test_failed_and_deleted_pods_do_not_count_and_pending_ones_are_unready() -> None:
    pods = [pod("p0"), pod("p1", phase="Failed"), pod("p2", deletionTimestamp="x"), pod("p3", phase="Pending")]
    groups = replicas.group(pods, samples(1, 1, 1), "cpu", GIVEN)
    assert groups.ready == 1
    assert groups.ignored == {"p1", "p2"}
    assert groups.unready == {"p3"}


def test_changes_within_the_tolerance_are_none() -> None:
    wide = Conditions(NOW, tolerances=Tolerances(down=0.6, up=0.0))
    assert replicas.by_average(fleet(2), samples(109, 109), 2, 100, "", GIVEN).replicas == 2
    assert replicas.by_average(fleet(2), samples(111, 111), 2, 100, "", GIVEN).replicas == 3
    assert replicas.by_average(fleet(2), samples(50, 50), 2, 100, "", wide).replicas == 2
    assert replicas.by_average(fleet(2), samples(101, 101), 2, 100, "", wide).replicas == 3


def test_what_cannot_be_measured_is_said() -> None:
    with pytest.raises(Unmeasurable, match="no pods returned by selector"):
        by_cpu([], samples(1), 1, 50)
    with pytest.raises(Unmeasurable, match="did not receive metrics for targeted pods"):
        by_cpu([pod("p0", phase="Pending")], samples(1), 1, 50)
    poor = pod("p0")
    poor["spec"]["containers"][0]["resources"] = {}
    with pytest.raises(Unmeasurable, match="missing request for cpu in container c of Pod p0"):
        by_cpu([poor], samples(1), 1, 50)
    with pytest.raises(Unmeasurable, match="container x not found in Pod p0"):
        replicas.request_of(pod("p0"), "x", "cpu")


def test_requests_are_the_containers_or_the_pods() -> None:
    wanted = pod("p0")
    sidecar = {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "200m"}}}
    wanted["spec"]["initContainers"] = [sidecar, {"name": "once"}]
    assert replicas.request_of(wanted, "", "cpu") == 1200
    assert replicas.request_of(wanted, "s", "cpu") == 200
    wanted["spec"]["resources"] = {"requests": {"cpu": "3", "memory": "2Gi"}}
    assert replicas.request_of(wanted, "", "cpu") == 3000
    assert replicas.request_of(wanted, "", "memory") == 2 * 2**30 * 1000


def test_one_value_for_all_is_shared_out_or_compared_with_its_target() -> None:
    plain = Tolerances()
    assert replicas.by_total(fleet(3), 3, 20_000, 10_000, plain) == Proposal(6, 20_000)
    assert replicas.by_total(fleet(3), 3, 10_500, 10_000, plain) == Proposal(3, 10_500)
    assert replicas.by_total([], 0, 15_000, 10_000, plain) == Proposal(2, 15_000)
    assert replicas.by_share(4, 50_000, 10_000, plain) == Proposal(5, 12_500)
    assert replicas.by_share(4, 42_000, 10_000, plain) == Proposal(4, 10_500)
    assert replicas.by_total(fleet(1), 1, 2**62, 1, plain).replicas == replicas.LARGEST
