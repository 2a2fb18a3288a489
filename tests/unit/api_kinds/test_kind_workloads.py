"""Workloads, jobs, services and autoscalers: defaults and rules of their own."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tiphys.api.kinds import printing
from tiphys.api.kinds.apps.deployment import Deployment
from tiphys.api.kinds.autoscaling.horizontalpodautoscaler import HorizontalPodAutoscaler
from tiphys.api.kinds.base import Context, Kind
from tiphys.api.kinds.batch.cronjob import CronJob
from tiphys.api.kinds.batch.job import Job
from tiphys.api.kinds.core.event import Event, NewEvent
from tiphys.api.kinds.core.service import Service

_CONTEXT = Context(now=1_700_000_000.0, namespace="default")
_TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "a"}},
    "spec": {"containers": [{"name": "c", "image": "i:1"}]},
}


def _made(kind: Kind, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": "x", "namespace": "default", "uid": "u", "resourceVersion": "1"}
    obj: dict[str, Any] = {"metadata": metadata, "spec": copy.deepcopy(spec)}
    kind.default(obj, "v1")
    obj = kind.convert(obj, "v1", kind.stored_version)
    kind.prepare_create(obj, _CONTEXT)
    return obj


def _fields(kind: Kind, obj: dict[str, Any]) -> list[str]:
    return [error.field for error in kind.validate(obj, _CONTEXT)]


def test_a_deployment_rolls_a_quarter_at_a_time() -> None:
    spec = {"selector": {"matchLabels": {"app": "a"}}, "template": _TEMPLATE}
    obj = _made(Deployment(), spec)
    assert obj["spec"]["replicas"] == 1
    assert obj["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
    }
    assert _fields(Deployment(), obj) == []


def test_a_selector_has_to_select_the_template() -> None:
    obj = _made(Deployment(), {"selector": {"matchLabels": {"app": "b"}}, "template": _TEMPLATE})
    assert _fields(Deployment(), obj) == ["spec.template.metadata.labels"]


def test_a_job_makes_up_its_selector() -> None:
    template = copy.deepcopy(_TEMPLATE)
    template["spec"]["restartPolicy"] = "Never"
    obj = _made(Job(), {"template": template})
    labels = obj["spec"]["template"]["metadata"]["labels"]
    assert labels["batch.kubernetes.io/controller-uid"] == "u"
    assert obj["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}}
    assert (obj["spec"]["completions"], obj["spec"]["parallelism"], obj["spec"]["backoffLimit"]) == (1, 1, 6)
    assert _fields(Job(), obj) == []


@pytest.mark.parametrize(("schedule", "is_well"), [("*/5 * * * *", True), ("@daily", True), ("61 * * * *", False)])
def test_schedules_of_cron_jobs(schedule: str, is_well: bool) -> None:
    template = copy.deepcopy(_TEMPLATE)
    template["spec"]["restartPolicy"] = "Never"
    obj = _made(CronJob(), {"schedule": schedule, "jobTemplate": {"spec": {"template": template}}})
    assert _fields(CronJob(), obj) == ([] if is_well else ["spec.schedule"])


def test_ports_of_a_service_go_to_the_same_port() -> None:
    obj = _made(Service(), {"ports": [{"port": 80}]})
    assert obj["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    assert obj["spec"]["type"] == "ClusterIP"


def test_several_ports_of_a_service_need_names() -> None:
    obj = _made(Service(), {"ports": [{"port": 80}, {"port": 81}]})
    assert _fields(Service(), obj) == ["spec.ports[0].name", "spec.ports[1].name"]


def test_an_autoscaler_of_the_first_version_is_one_of_cpu() -> None:
    kind = HorizontalPodAutoscaler()
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
    spec = {"scaleTargetRef": target, "maxReplicas": 3, "targetCPUUtilizationPercentage": 50}
    obj = _made(kind, spec)
    (metric,) = obj["spec"]["metrics"]
    assert metric["resource"]["target"] == {"type": "Utilization", "averageUtilization": 50}
    assert kind.convert(obj, "v2", "v1")["spec"] == {**spec, "minReplicas": 1}


def test_metrics_that_the_first_version_does_not_know_survive_it() -> None:
    kind = HorizontalPodAutoscaler()
    metrics = [
        {"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "5"}}},
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 9}}},
    ]
    obj = {"metadata": {"name": "x"}, "spec": {"maxReplicas": 3, "metrics": metrics}}
    old = kind.convert(obj, "v2", "v1")
    noted = json.loads(old["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"])
    assert noted == [{"type": "Pods", "pods": {"metricName": "m", "targetAverageValue": "5"}}]
    assert kind.convert(old, "v1", "v2")["spec"] == obj["spec"]


def test_both_groups_of_events_share_one_shape() -> None:
    kind = NewEvent()
    event = {"apiVersion": "events.k8s.io/v1", "regarding": {"kind": "Pod"}, "note": "n", "metadata": {"name": "e"}}
    core = kind.convert(copy.deepcopy(event), "v1", "core/v1")
    assert (core["involvedObject"], core["message"]) == ({"kind": "Pod"}, "n")
    assert kind.convert(core, "core/v1", "v1") == event


def test_each_group_of_events_is_selected_by_its_own_field_names() -> None:
    stored = {"involvedObject": {"kind": "Pod"}, "reportingComponent": "c", "reason": "r", "metadata": {"name": "e"}}
    new, old = NewEvent().fields(stored), Event().fields(stored)
    assert (new["regarding.kind"], new["reportingController"], new["reason"]) == ("Pod", "c", "r")
    assert not {"source", "reportingComponent", "involvedObject.kind"} & set(new)
    assert (old["involvedObject.kind"], old["reportingComponent"], old["source"]) == ("Pod", "c", "c")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (119, "119s"), (125, "2m5s"), (600, "10m"), (10800, "3h"), (180000, "2d2h"), (63072000, "2y")],
)
def test_ages_get_coarser_as_they_grow(seconds: int, text: str) -> None:
    assert printing.human_duration(seconds) == text
