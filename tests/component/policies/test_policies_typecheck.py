"""The status of ValidatingAdmissionPolicies: which expressions do not fit the schemas of what they match."""

from __future__ import annotations

from typing import Any

from policy_world import holds, matching
from tiphys.client.resources import CUSTOM_RESOURCE_DEFINITIONS, VALIDATING_ADMISSION_POLICIES
from tiphys.client.types import Object
from tiphys.testing.clock import VirtualClock
from tiphys.testing.cluster import Cluster

DEFINITION: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "crontabs.stable.example.com"},
    "spec": {
        "group": "stable.example.com",
        "scope": "Namespaced",
        "names": {"plural": "crontabs", "kind": "CronTab", "singular": "crontab", "listKind": "CronTabList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {"spec": {"type": "object", "properties": {"replicas": {"type": "integer"}}}},
                    }
                },
            }
        ],
    },
}


async def checked(cluster: Cluster, name: str, spec: dict[str, Any]) -> list[dict[str, str]]:
    """The warnings of a policy, when the check is done."""
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": spec,
    }
    await cluster.client.create(VALIDATING_ADMISSION_POLICIES, policy)

    def done(obj: Object) -> bool:
        status = obj.get("status") or {}
        return status.get("observedGeneration") == obj["metadata"]["generation"] and "typeChecking" in status

    found = await cluster.wait(VALIDATING_ADMISSION_POLICIES, "", name, done)
    warnings: list[dict[str, str]] = found["status"]["typeChecking"].get("expressionWarnings") or []
    return warnings


def test_expressions_are_held_against_schemas() -> None:
    clock = VirtualClock()

    async def scenario() -> None:
        async with Cluster(clock) as cluster:
            surge = "object.spec.strategy.rollingUpdate.maxSurge == '25%'"
            ports = "object.spec.template.spec.containers.all(c, c.ports.all(p, p.containerPort > 1024))"
            assert await checked(cluster, "correct", holds("object.spec.replicas > 1", surge, ports)) == []
            spec = holds("object.spec.replicas > '1'")
            spec["validations"][0]["messageExpression"] = "'wants replicas > 1, got ' + object.spec.replicas"
            first, second = await checked(cluster, "confused", spec)
            assert first["fieldRef"] == "spec.validations[0].expression"
            assert first["warning"] == (
                "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to "
                "'(int, string)'\n | object.spec.replicas > '1'\n | .....................^\n"
            )
            assert second["fieldRef"] == "spec.validations[0].messageExpression"
            assert "found no matching overload for '_+_' applied to '(string, int)'" in second["warning"]

    clock.run(scenario())


def test_several_kinds_variables_and_parameters_are_checked() -> None:
    clock = VirtualClock()

    async def scenario() -> None:
        async with Cluster(clock) as cluster:
            spec = holds(
                "variables.n > 1 && params.data.max == 3",
                "object.metadata.labels.x == 1",
                "object.metadata.creationTimestamp.getFullYear() > 1970",
                constraints=matching("apps", "v1", "deployments,replicasets,daemonsets"),
                variables=[{"name": "n", "expression": "object.spec.replicas"}],
                paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
            )
            first, second = await checked(cluster, "p", spec)
            assert "apps/v1, Kind=DaemonSet: ERROR" in first["warning"]
            assert "found no matching overload for '_==_' applied to '(string, int)'" in first["warning"]
            assert second["warning"].count("apps/v1, Kind=") == 3

    clock.run(scenario())


def test_custom_resources_are_checked_too() -> None:
    clock = VirtualClock()

    async def scenario() -> None:
        async with Cluster(clock) as cluster:
            await cluster.client.create(CUSTOM_RESOURCE_DEFINITIONS, DEFINITION)

            def served(obj: Object) -> bool:
                conditions = (obj.get("status") or {}).get("conditions") or ()
                return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)

            await cluster.wait(CUSTOM_RESOURCE_DEFINITIONS, "", "crontabs.stable.example.com", served)
            constraints = matching("stable.example.com", "v1", "crontabs")
            assert await checked(cluster, "good", holds("object.spec.replicas > 1", constraints=constraints)) == []
            spec = holds("object.spec.replicas > '1'", "object.spec.maxRetries < 10", constraints=constraints)
            first, second = await checked(cluster, "bad", spec)
            assert "found no matching overload for '_>_' applied to '(int, string)'" in first["warning"]
            assert second["fieldRef"] == "spec.validations[1].expression"
            assert "undefined field 'maxRetries'" in second["warning"]

    clock.run(scenario())
