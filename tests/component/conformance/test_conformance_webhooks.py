"""Configurations of admission webhooks as objects: listed, changed, deleted together; conditions are checked."""

from __future__ import annotations

from typing import Any

import pytest

from webhook_world import World, add, deny, patch, run

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
MAPS = "/api/v1/namespaces/default/configmaps"
KINDS = [("validatingwebhookconfigurations", False), ("mutatingwebhookconfigurations", True)]
JSON_PATCH = "application/json-patch+json"


def config_map(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"start": "yes"}}


def decide(request: dict[str, Any]) -> dict[str, Any]:
    """Each webhook adds a key of its own, or refuses where it only validates."""
    return patch(add(f"/data/{len(request['object']['data'])}", "yes"))


def refuse(request: dict[str, Any]) -> dict[str, Any]:
    return deny("this is not wanted")


async def concerned(world: World, name: str, *, mutating: bool) -> bool:
    """Whether the creation of a ConfigMap is changed or refused."""
    made = await world.json("POST", MAPS, config_map(name))
    return len(made["data"]) > 1 if mutating else made.get("code") == 400


@pytest.mark.parametrize(("plural", "mutating"), KINDS)
def test_a_collection_of_configurations_is_listed_in_force_and_deleted(plural: str, mutating: bool) -> None:
    async def scenario(world: World) -> None:
        for number in range(5):
            made = await world.hook(f"/hook{number}", decide if mutating else refuse, mutating=mutating)
            labels = {"metadata": {"labels": {"purpose": "listing"}}}
            merge: dict[str, Any] = {"content_type": "application/merge-patch+json"}
            await world.json("PATCH", f"{ADMISSION}/{plural}/{made['metadata']['name']}", labels, **merge)
        listed = await world.json("GET", f"{ADMISSION}/{plural}?labelSelector=purpose=listing")
        assert len(listed["items"]) == 5
        assert await concerned(world, "one", mutating=mutating)
        await world.json("DELETE", f"{ADMISSION}/{plural}?labelSelector=purpose=listing")
        assert not await concerned(world, "two", mutating=mutating)

    run(scenario)


@pytest.mark.parametrize(("plural", "mutating"), KINDS)
def test_a_configuration_that_is_updated_or_patched_counts_at_once(plural: str, mutating: bool) -> None:
    async def scenario(world: World) -> None:
        made = await world.hook("/hook", decide if mutating else refuse, mutating=mutating)
        path = f"{ADMISSION}/{plural}/hook"
        assert await concerned(world, "one", mutating=mutating)
        made["webhooks"][0]["rules"][0]["operations"] = ["UPDATE"]
        await world.json("PUT", path, made)
        assert not await concerned(world, "two", mutating=mutating)
        operation = {"op": "replace", "path": "/webhooks/0/rules/0/operations", "value": ["CREATE"]}
        await world.json("PATCH", path, [operation], content_type=JSON_PATCH)
        assert await concerned(world, "three", mutating=mutating)

    run(scenario)


@pytest.mark.parametrize(("plural", "mutating"), KINDS)
def test_match_conditions_are_kept_and_checked(plural: str, mutating: bool) -> None:
    async def scenario(world: World) -> None:
        conditions = [{"name": "skip", "expression": "object.metadata.name != 'skip-me'"}]
        hook = decide if mutating else refuse
        made = await world.hook("/hook", hook, mutating=mutating, matchConditions=conditions)
        assert made["webhooks"][0]["matchConditions"] == conditions
        assert await concerned(world, "one", mutating=mutating)
        assert not await concerned(world, "skip-me", mutating=mutating)
        more = {"op": "add", "path": "/webhooks/0/matchConditions/-", "value": {"name": "n", "expression": "false"}}
        await world.json("PATCH", f"{ADMISSION}/{plural}/hook", [more], content_type=JSON_PATCH)
        assert not await concerned(world, "two", mutating=mutating)
        wrong = {**made, "metadata": {"name": "wrong"}}
        wrong["webhooks"][0]["matchConditions"] = [{"name": "w", "expression": "object.spec ["}]
        refused = await world.json("POST", f"{ADMISSION}/{plural}", wrong)
        assert refused["code"] == 422
        assert "compilation failed" in refused["message"]

    run(scenario)
