"""Pods: defaults, what is refused, what may change, how they are shown."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tiphys.api.kinds.base import Context
from tiphys.api.kinds.core.pod import Pod

_CONTEXT = Context(now=1_700_000_000.0, namespace="default")


def _pod(**spec: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "c", "image": "nginx"}], **spec}
    pod = {"metadata": {"name": "p", "namespace": "default", "resourceVersion": "1"}, "spec": copy.deepcopy(spec)}
    Pod().default(pod, "v1")
    Pod().prepare_create(pod, _CONTEXT)
    return pod


def _problems(pod: dict[str, Any]) -> list[str]:
    return [str(error) for error in Pod().validate(pod, _CONTEXT)]


def test_a_minimal_pod_gets_its_defaults() -> None:
    pod = _pod()
    (container,) = pod["spec"]["containers"]
    assert container["imagePullPolicy"] == "Always"
    assert container["terminationMessagePath"] == "/dev/termination-log"
    assert pod["spec"]["restartPolicy"] == "Always"
    assert pod["spec"]["terminationGracePeriodSeconds"] == 30
    assert pod["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    assert _problems(pod) == []


@pytest.mark.parametrize(("image", "policy"), [("nginx:1.25", "IfNotPresent"), ("nginx:latest", "Always")])
def test_only_images_called_latest_are_always_pulled(image: str, policy: str) -> None:
    pod = _pod(containers=[{"name": "c", "image": image}])
    assert pod["spec"]["containers"][0]["imagePullPolicy"] == policy


def test_requests_default_to_limits_and_make_a_pod_guaranteed() -> None:
    limits = {"cpu": "1", "memory": "64Mi"}
    pod = _pod(containers=[{"name": "c", "image": "i:1", "resources": {"limits": limits}}])
    assert pod["spec"]["containers"][0]["resources"]["requests"] == limits
    assert pod["status"]["qosClass"] == "Guaranteed"


def test_a_pod_needs_containers_with_names_of_their_own() -> None:
    assert _problems(_pod(containers=[])) == ["spec.containers: Required value"]
    twice = [{"name": "c", "image": "i:1"}] * 2
    assert _problems(_pod(containers=twice)) == ['spec.containers[1].name: Duplicate value: "c"']


def test_mounts_name_volumes_of_the_pod() -> None:
    container = {"name": "c", "image": "i:1", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    assert _problems(_pod(containers=[container])) == ['spec.containers[0].volumeMounts[0].name: Not found: "v"']
    assert _problems(_pod(containers=[container], volumes=[{"name": "v"}])) == []


def test_requests_may_not_exceed_limits() -> None:
    resources = {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}
    (problem,) = _problems(_pod(containers=[{"name": "c", "image": "i:1", "resources": resources}]))
    assert problem.endswith('Invalid value: "2": must be less than or equal to cpu limit of 1')


def _changed(**spec: Any) -> list[str]:
    old, new = _pod(), _pod()
    new["spec"].update(spec)
    return [error.field for error in Pod().validate_update(new, old, _CONTEXT)]


def test_the_image_may_change_and_little_else() -> None:
    assert _changed(containers=[{**_pod()["spec"]["containers"][0], "image": "nginx:2"}]) == []
    assert _changed(activeDeadlineSeconds=30) == []
    assert _changed(restartPolicy="Never") == ["spec"]


def test_tolerations_may_be_added_and_not_taken_away() -> None:
    toleration = {"key": "a", "operator": "Exists"}
    assert _changed(tolerations=[toleration]) == []
    old, new = _pod(tolerations=[toleration]), _pod()
    assert [error.field for error in Pod().validate_update(new, old, _CONTEXT)] == ["spec.tolerations"]


def test_a_running_pod_is_shown_with_its_restarts() -> None:
    pod = _pod()
    pod["status"] = {
        "phase": "Running",
        "podIP": "10.0.0.1",
        "podIPs": [{"ip": "10.0.0.1"}],
        "containerStatuses": [{"name": "c", "ready": True, "restartCount": 2, "state": {"running": {}}}],
    }
    cells = Pod().cells(pod, 1_700_000_060.0)
    assert cells[:4] == ["p", "1/1", "Running", "2"]
    assert cells[5] == "10.0.0.1"


def test_deletion_is_put_off_for_the_grace_of_the_pod_once_it_runs_on_a_node() -> None:
    pod = _pod()
    assert Pod().delete_grace(pod, None) == 0
    pod["spec"]["nodeName"] = "n"
    pod["status"]["phase"] = "Running"
    assert Pod().delete_grace(pod, None) == 30
    assert Pod().delete_grace(pod, 5) == 5
