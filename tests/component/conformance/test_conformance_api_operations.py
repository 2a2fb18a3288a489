"""What the suite asks of an API as a whole: found in discovery, every verb, the status, a watch that sees it all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tiphys.client.streams import closing
from tiphys.client.types import Resource

Play = Callable[..., None]
RULE = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}
SUBJECTS = [{"kind": "Group", "group": {"name": "system:none"}}]


@dataclass(frozen=True)
class Api:
    """One API of the suite and what can be done with an object of it."""

    group: str
    plural: str
    kind: str
    spec: dict[str, Any]
    change: dict[str, Any]
    """A merge patch of the spec."""
    status: dict[str, Any] = field(default_factory=dict)
    """A merge patch of the status; empty where there is none."""

    @property
    def path(self) -> str:
        return f"/apis/{self.group}/v1/{self.plural}"

    def object(self, name: str, label: str = "conformance") -> dict[str, Any]:
        meta = {"name": name, "labels": {"purpose": label}}
        return {"apiVersion": f"{self.group}/v1", "kind": self.kind, "metadata": meta, "spec": self.spec}


ADMISSION = "admissionregistration.k8s.io"
CONDITION = {
    "type": "Tested",
    "status": "True",
    "reason": "Test",
    "message": "set by a test",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}
MUTATION = {
    "patchType": "ApplyConfiguration",
    "applyConfiguration": {"expression": 'Object{metadata: Object.metadata{labels: {"a": "b"}}}'},
}
APIS = (
    Api(
        "flowcontrol.apiserver.k8s.io",
        "flowschemas",
        "FlowSchema",
        {
            "matchingPrecedence": 10000,
            "priorityLevelConfiguration": {"name": "global-default"},
            "rules": [
                {
                    "subjects": SUBJECTS,
                    "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/none"]}],
                }
            ],
        },
        {"matchingPrecedence": 9999},
        {"conditions": [CONDITION]},
    ),
    Api(
        "flowcontrol.apiserver.k8s.io",
        "prioritylevelconfigurations",
        "PriorityLevelConfiguration",
        {"type": "Limited", "limited": {"nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}}},
        {"limited": {"nominalConcurrencyShares": 4}},
        {"conditions": [CONDITION]},
    ),
    Api(
        ADMISSION,
        "validatingadmissionpolicies",
        "ValidatingAdmissionPolicy",
        {
            "failurePolicy": "Ignore",
            "matchConstraints": {"resourceRules": [RULE]},
            "validations": [{"expression": "object.spec.replicas <= 100"}],
        },
        {"failurePolicy": "Fail"},
        {"conditions": [CONDITION]},
    ),
    Api(
        ADMISSION,
        "validatingadmissionpolicybindings",
        "ValidatingAdmissionPolicyBinding",
        {"policyName": "none.example.com", "validationActions": ["Deny"]},
        {"validationActions": ["Warn"]},
    ),
    Api(
        ADMISSION,
        "mutatingadmissionpolicies",
        "MutatingAdmissionPolicy",
        {
            "failurePolicy": "Ignore",
            "reinvocationPolicy": "Never",
            "matchConstraints": {"resourceRules": [RULE]},
            "mutations": [MUTATION],
        },
        {"failurePolicy": "Fail"},
    ),
    Api(
        ADMISSION,
        "mutatingadmissionpolicybindings",
        "MutatingAdmissionPolicyBinding",
        {"policyName": "none.example.com"},
        {"policyName": "other.example.com"},
    ),
)


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.plural)
def test_an_api_is_discovered(play: Play, api: Api) -> None:
    async def scenario(world: Any) -> None:
        groups = {one["name"]: one for one in (await world.ok("GET", "/apis"))["groups"]}
        assert "v1" in {one["version"] for one in groups[api.group]["versions"]}
        group = await world.ok("GET", f"/apis/{api.group}")
        assert f"{api.group}/v1" in {one["groupVersion"] for one in group["versions"]}
        listed = {one["name"] for one in (await world.ok("GET", f"/apis/{api.group}/v1"))["resources"]}
        assert api.plural in listed
        assert (f"{api.plural}/status" in listed) or not api.status

    play(scenario, controllers="", nodes=0)


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.plural)
def test_every_verb_of_an_api_works_and_is_seen_by_a_watch(play: Play, api: Api) -> None:
    async def scenario(world: Any) -> None:
        before = await world.ok("GET", f"{api.path}?labelSelector=purpose=conformance")
        assert before["items"] == []
        for name in ("one", "two", "three"):
            made = await world.ok("POST", api.path, api.object(name))
            assert made["metadata"]["generation"] == 1
        await world.clock.sleep(1)
        again = await world.ask("POST", api.path, api.object("one"))
        assert (again["code"], again["reason"]) == (409, "AlreadyExists")
        got = await world.ok("GET", f"{api.path}/one")
        listed = await world.ok("GET", f"{api.path}?labelSelector=purpose=conformance")
        assert [item["metadata"]["name"] for item in listed["items"]] == ["one", "three", "two"]

        patched = await world.patch(f"{api.path}/one", {"metadata": {"annotations": {"patched": "true"}}})
        assert patched["metadata"]["uid"] == got["metadata"]["uid"]
        assert patched["metadata"]["generation"] == 1
        changed = await world.patch(f"{api.path}/one", {"spec": api.change})
        assert changed["metadata"]["generation"] == 2
        changed["metadata"]["annotations"]["updated"] = "true"
        updated = await world.ok("PUT", f"{api.path}/one", changed)
        assert updated["metadata"]["annotations"] == {"patched": "true", "updated": "true"}

        resource = Resource(api.group, "v1", api.plural, namespaced=False)
        since = before["metadata"]["resourceVersion"]
        await world.ok("DELETE", f"{api.path}/one")
        assert (await world.ask("GET", f"{api.path}/one"))["code"] == 404
        await world.ok("DELETE", f"{api.path}?labelSelector=purpose=conformance")
        assert (await world.ok("GET", f"{api.path}?labelSelector=purpose=conformance"))["items"] == []
        seen = await events(world, resource, since)
        assert {name for kind, name in seen if kind == "ADDED"} == {"one", "two", "three"}
        assert [name for kind, name in seen if kind == "DELETED"] == ["one", "three", "two"]
        assert seen.count(("MODIFIED", "one")) >= 3

    play(scenario, controllers="", nodes=0)


async def events(world: Any, resource: Resource, since: str) -> list[tuple[str, str]]:
    """Changes of what the scenario made until the last of it is gone, as (type, name)."""
    seen: list[tuple[str, str]] = []
    watch = world.cluster.client.watch(resource, labels="purpose=conformance", resource_version=since)
    async with closing(watch) as stream:
        async for event in stream:
            if event.type != "BOOKMARK":
                seen.append((event.type, event.object["metadata"]["name"]))
            if seen[-1] == ("DELETED", "two"):
                break
    return seen


@pytest.mark.parametrize("api", [one for one in APIS if one.status], ids=lambda api: api.plural)
def test_the_status_of_an_api_is_read_patched_and_updated(play: Play, api: Api) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", api.path, api.object("one"))
        await world.clock.sleep(1)
        status = f"{api.path}/one/status"
        patched = await world.patch(status, {"metadata": {"annotations": {"p": "1"}}, "status": api.status})
        assert [one["type"] for one in patched["status"]["conditions"]][-1] == "Tested"
        assert (await world.ok("GET", status))["status"] == patched["status"]
        await world.clock.sleep(1)
        shown = await world.ok("GET", status)
        [mine] = [one for one in shown["status"]["conditions"] if one["type"] == "Tested"]
        mine["message"] = "set again"
        shown["spec"] = {**shown["spec"], **api.change}
        updated = await world.ok("PUT", status, shown)
        assert mine in updated["status"]["conditions"]
        assert updated["metadata"]["generation"] == 1

    play(scenario, controllers="", nodes=0)
