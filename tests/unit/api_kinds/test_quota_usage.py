"""What objects use of quotas: by the tables of the API's documentation, one rule a case."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.api.quota_usage import concerned, counts, in_scope, usage

NOW = 1_767_225_600.0


def container(name: str = "c", requests: Any = None, limits: Any = None, **fields: Any) -> dict[str, Any]:
    return {"name": name, "resources": {"requests": requests or {}, "limits": limits or {}}, **fields}


def pod(*containers: dict[str, Any], status: Any = None, meta: Any = None, **spec: Any) -> dict[str, Any]:
    full = {"name": "p", "namespace": "default", **(meta or {})}
    return {"metadata": full, "spec": {"containers": list(containers) or [container()], **spec}, "status": status or {}}


def used(group: str, plural: str, obj: dict[str, Any], now: float | None = None) -> dict[str, str]:
    return {name: str(amount) for name, amount in usage(group, plural, obj, now).items()}


POD = {"count/pods": "1", "pods": "1"}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (pod(), POD),
        (
            pod(container(requests={"cpu": "100m", "memory": "1G"}, limits={"memory": "2Gi"})),
            {**POD, "cpu": "100m", "requests.cpu": "100m", "memory": "1G", "requests.memory": "1G",
             "limits.memory": "2Gi"},
        ),
        (
            pod(container(requests={"example.com/gpu": "2", "hugepages-2Mi": "4Mi", "kubernetes.io/x": "1"})),
            {**POD, "requests.example.com/gpu": "2", "hugepages-2Mi": "4Mi", "requests.hugepages-2Mi": "4Mi"},
        ),
        (
            pod(
                container(requests={"cpu": "1"}),
                initContainers=[
                    container("i", {"cpu": "3"}),
                    container("s", {"cpu": "1"}, restartPolicy="Always"),
                    container("j", {"cpu": "500m"}),
                ],
            ),
            {**POD, "cpu": "3", "requests.cpu": "3"},
        ),
        (
            pod(container(requests={"cpu": "1"}), resources={"requests": {"cpu": "2", "example.com/x": "9"}}),
            {**POD, "cpu": "2", "requests.cpu": "2"},
        ),
        (
            pod(container(requests={"cpu": "1"}), overhead={"cpu": "100m", "memory": "1Mi"}),
            {**POD, "cpu": "1100m", "requests.cpu": "1100m", "memory": "1Mi", "requests.memory": "1Mi"},
        ),
        (pod(status={"phase": "Succeeded"}), {"count/pods": "1"}),
        (pod(status={"phase": "Failed"}), {"count/pods": "1"}),
    ],
)  # fmt: skip
def test_pods(given: dict[str, Any], wanted: dict[str, str]) -> None:
    assert used("", "pods", given) == wanted


@pytest.mark.parametrize(("after", "counts_still"), [(29, True), (30, True), (31, False)])
def test_a_pod_that_should_have_ended_counts_no_more(after: float, counts_still: bool) -> None:
    going = pod(meta={"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30})
    assert ("pods" in used("", "pods", going, NOW + after)) is counts_still


@pytest.mark.parametrize(
    ("conditions", "amount"), [([], "3"), ([{"type": "PodResizePending", "reason": "Infeasible"}], "2")]
)
def test_a_pod_that_is_resized_counts_for_the_most_that_it_may_have(conditions: list[Any], amount: str) -> None:
    state = {"name": "c", "resources": {"requests": {"cpu": "1"}}, "allocatedResources": {"cpu": "2"}}
    status = {"containerStatuses": [state], "conditions": conditions}
    assert used("", "pods", pod(container(requests={"cpu": "3"}), status=status))["requests.cpu"] == amount


def claim(size: str = "1Gi", status: Any = None, annotations: Any = None, **spec: Any) -> dict[str, Any]:
    wanted = {"resources": {"requests": {"storage": size}}, **spec}
    return {"metadata": {"name": "c", "annotations": annotations or {}}, "spec": wanted, "status": status or {}}


@pytest.mark.parametrize(
    ("given", "storage", "storage_class"),
    [
        (claim(), "1Gi", ""),
        (claim("1500m"), "2", ""),
        (claim(storageClassName="gold"), "1Gi", "gold"),
        (claim(storageClassName="gold", annotations={"volume.beta.kubernetes.io/storage-class": "old"}), "1Gi", "old"),
        (claim(storageClassName="gold", annotations={"volume.beta.kubernetes.io/storage-class": ""}), "1Gi", ""),
        (claim(status={"allocatedResources": {"storage": "5Gi"}}), "5Gi", ""),
        (claim("7Gi", status={"allocatedResources": {"storage": "5Gi"}}), "7Gi", ""),
    ],
)
def test_claims(given: dict[str, Any], storage: str, storage_class: str) -> None:
    wanted = {"count/persistentvolumeclaims": "1", "persistentvolumeclaims": "1", "requests.storage": storage}
    if storage_class:
        prefix = f"{storage_class}.storageclass.storage.k8s.io/"
        wanted |= {f"{prefix}persistentvolumeclaims": "1", f"{prefix}requests.storage": storage}
    assert used("", "persistentvolumeclaims", given) == wanted


@pytest.mark.parametrize(
    ("requests", "wanted"),
    [
        ([{"exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 3}}], {"gpu": "3"}),
        ([{"exactly": {"deviceClassName": "gpu", "allocationMode": "All"}}], {"gpu": "32"}),
        ([{"exactly": {"deviceClassName": "gpu", "allocationMode": "Later"}}], {"gpu": "0"}),
        (
            [
                {
                    "firstAvailable": [
                        {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2},
                        {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 4},
                        {"deviceClassName": "tpu", "allocationMode": "ExactCount", "count": 1},
                    ]
                },
                {"exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1}},
            ],
            {"gpu": "5", "tpu": "1"},
        ),
        ([{"name": "of the future"}], {}),
    ],
)
def test_claims_of_devices(requests: list[Any], wanted: dict[str, str]) -> None:
    given = {"metadata": {"name": "c"}, "spec": {"devices": {"requests": requests}}}
    devices = {f"{name}.deviceclass.resource.k8s.io/devices": amount for name, amount in wanted.items()}
    assert used("resource.k8s.io", "resourceclaims", given) == {
        "count/resourceclaims.resource.k8s.io": "1", **devices,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "resource"),
    [
        ("pods", ("", "pods")),
        ("limits.ephemeral-storage", ("", "pods")),
        ("requests.hugepages-1Gi", ("", "pods")),
        ("requests.example.com/gpu", ("", "pods")),
        ("requests.kubernetes.io/odd", None),
        ("requests.storage", ("", "persistentvolumeclaims")),
        ("gold.storageclass.storage.k8s.io/requests.storage", ("", "persistentvolumeclaims")),
        ("gold.storageclass.storage.k8s.io/odd", None),
        ("services.nodeports", ("", "services")),
        ("services.odd", None),
        ("count/widgets.example.com", ("example.com", "widgets")),
        ("count/events", None),
        ("count/events.events.k8s.io", None),
        ("gpu.deviceclass.resource.k8s.io/devices", ("resource.k8s.io", "resourceclaims")),
        ("odd", None),
    ],
)
def test_what_counts_for_a_name(name: str, resource: tuple[str, str] | None) -> None:
    assert counts(name) == resource
    if resource == ("", "pods"):
        assert concerned("", "pods", [name, "odd"], {}) == [name]


def selector(scope: str, operator: str, *values: str) -> dict[str, Any]:
    expression = {"scopeName": scope, "operator": operator, "values": list(values)}
    return {"spec": {"scopeSelector": {"matchExpressions": [expression]}}}


BEST = pod()
STORES = pod(container(requests={"ephemeral-storage": "1Gi"}))
ASKS = pod(container(requests={"cpu": "1"}))


@pytest.mark.parametrize(
    ("quota", "given", "included"),
    [
        ({"spec": {}}, BEST, True),
        ({"spec": {"scopes": ["BestEffort"]}}, BEST, True),
        ({"spec": {"scopes": ["BestEffort"]}}, STORES, True),
        ({"spec": {"scopes": ["NotBestEffort"]}}, STORES, False),
        ({"spec": {"scopes": ["NotBestEffort"]}}, ASKS, True),
        ({"spec": {"scopes": ["NotBestEffort", "Terminating"]}}, ASKS, False),
        ({"spec": {"scopes": ["Terminating"]}}, pod(activeDeadlineSeconds=5), True),
        (selector("PriorityClass", "In", "high"), pod(priorityClassName="high"), True),
        (selector("PriorityClass", "In", "high"), BEST, False),
        (selector("PriorityClass", "NotIn", "high"), BEST, True),
        (selector("PriorityClass", "NotIn", "high"), pod(priorityClassName="high"), False),
        (selector("PriorityClass", "Exists"), BEST, False),
        (selector("PriorityClass", "DoesNotExist"), BEST, True),
        (selector("VolumeAttributesClass", "Exists"), BEST, False),
    ],
)
def test_scopes_of_pods(quota: dict[str, Any], given: dict[str, Any], included: bool) -> None:
    assert in_scope("", "pods", quota, given) is included


@pytest.mark.parametrize(
    ("operator", "given", "included"),
    [
        ("In", claim(volumeAttributesClassName="fast"), True),
        ("In", claim(volumeAttributesClassName="slow", status={"currentVolumeAttributesClassName": "fast"}), True),
        ("In", claim(status={"modifyVolumeStatus": {"targetVolumeAttributesClassName": "fast"}}), True),
        ("In", claim(), False),
        ("NotIn", claim(), True),
        ("NotIn", claim(volumeAttributesClassName="fast"), False),
        ("Exists", claim(volumeAttributesClassName="slow"), True),
        ("DoesNotExist", claim(), True),
    ],
)
def test_scopes_of_claims(operator: str, given: dict[str, Any], included: bool) -> None:
    quota = selector("VolumeAttributesClass", operator, *(["fast"] if operator.endswith("In") else []))
    assert in_scope("", "persistentvolumeclaims", quota, given) is included


def test_scopes_leave_out_everything_else() -> None:
    assert not in_scope("", "services", {"spec": {"scopes": ["NotTerminating"]}}, {"metadata": {}})
    assert in_scope("", "services", {"spec": {}}, {"metadata": {}})
