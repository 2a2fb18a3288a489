"""The status of admission policies: what their expressions get wrong about what they match."""

from __future__ import annotations

from typing import Any

from tiphys.client.resources import VALIDATING_ADMISSION_POLICIES
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

CONTROLLER = "validatingadmissionpolicy-status-controller"


def status_of(policy: dict[str, Any]) -> dict[str, Any]:
    """The status that a policy gets."""
    clock = VirtualClock()

    async def scenario() -> Any:
        async with Cluster(clock, nodes=0, controllers=CONTROLLER) as cluster:
            await cluster.client.create(VALIDATING_ADMISSION_POLICIES, policy)
            checked = await cluster.wait(
                VALIDATING_ADMISSION_POLICIES, "", "policy", lambda it: bool(it.get("status") or {})
            )
            await clock.sleep(3600)
            later = await cluster.client.get(VALIDATING_ADMISSION_POLICIES, "policy")
            assert later["metadata"]["resourceVersion"] == checked["metadata"]["resourceVersion"]
            return checked["status"]

    return dict(clock.run(scenario()))


def policy(*expressions: str, groups: list[str], resources: list[str], **spec: Any) -> dict[str, Any]:
    rule = {"apiGroups": groups, "apiVersions": ["v1"], "operations": ["*"], "resources": resources}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "policy"},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": each} for each in expressions],
            **spec,
        },
    }


def kinds_in(warning: str) -> list[str]:
    return [line.partition(": ERROR")[0] for line in warning.splitlines() if ": ERROR" in line]


def test_what_fits_has_no_warnings() -> None:
    found = status_of(policy("object.spec.replicas < 5", groups=["apps"], resources=["deployments"]))
    assert found == {"observedGeneration": 1, "typeChecking": {}}


def test_each_wrong_expression_has_a_warning_by_its_field() -> None:
    found = status_of(
        policy("object.spec.replicas == 'x'", "object.spec.typo == 1", groups=["apps"], resources=["deployments"])
    )
    assert found["typeChecking"]["expressionWarnings"] == [
        {
            "fieldRef": "spec.validations[0].expression",
            "warning": "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_==_' "
            "applied to '(int, string)'\n | object.spec.replicas == 'x'\n | .....................^\n",
        },
        {
            "fieldRef": "spec.validations[1].expression",
            "warning": "apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'typo'\n"
            " | object.spec.typo == 1\n | ...........^\n",
        },
    ]


def test_the_core_group_stands_for_any_group_as_upstreams_mapper_has_it() -> None:
    found = status_of(policy("object.typo == 1", groups=[""], resources=["jobs", "pods"]))
    (warning,) = found["typeChecking"]["expressionWarnings"]
    assert kinds_in(warning["warning"]) == ["/v1, Kind=Pod", "batch/v1, Kind=Job"]


def test_of_one_rule_ten_kinds_are_looked_at() -> None:
    resources = ["pods", "configmaps", "deployments", "jobs", "daemonsets", "statefulsets", "services", "secrets"]
    resources += ["cronjobs", "replicasets", "nodes", "namespaces"]
    found = status_of(policy("object.spec.foo == 1", groups=["", "apps", "batch"], resources=resources))
    (warning,) = found["typeChecking"]["expressionWarnings"]
    assert kinds_in(warning["warning"]) == [
        *(f"/v1, Kind={each}" for each in ("ConfigMap", "Namespace", "Node", "Pod", "Secret")),
        *(f"apps/v1, Kind={each}" for each in ("DaemonSet", "Deployment", "ReplicaSet")),
        *(f"batch/v1, Kind={each}" for each in ("CronJob", "Job")),
    ]


def test_what_nobody_serves_is_not_checked() -> None:
    found = status_of(policy("object.typo == 1", groups=["nope.io"], resources=["foos"]))
    assert found == {"observedGeneration": 1, "typeChecking": {}}
