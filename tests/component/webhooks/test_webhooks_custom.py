"""Webhooks and custom resources: their definitions, their objects, their versions."""

from __future__ import annotations

from typing import Any

from tiphys.base.clock import SystemClock
from webhook_world import World, add, deny, patch, rule, run

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
OBJECTS = "/apis/example.com/{}/namespaces/default/things"
OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def definition(schema: dict[str, Any] = OPEN, *versions: str) -> dict[str, Any]:
    """A CustomResourceDefinition; the first version is the stored one."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing", "singular": "thing", "listKind": "ThingList"},
            "versions": [
                {"name": name, "served": True, "storage": not number, "schema": {"openAPIV3Schema": schema}}
                for number, name in enumerate(versions or ("v1",))
            ],
        },
    }


def thing(version: str = "v1", **data: str) -> dict[str, Any]:
    return {"apiVersion": f"example.com/{version}", "kind": "Thing", "metadata": {"name": "one"}, "data": data}


async def define(world: World, obj: dict[str, Any]) -> None:
    """Create a definition and wait until it is served."""
    await world.json("POST", CRDS, obj)
    for version in obj["spec"]["versions"]:
        while (await world.http("GET", OBJECTS.format(version["name"]))).status != 200:
            await SystemClock().sleep(0)


def stage(name: str) -> Any:
    return lambda request: patch(add(f"/data/{name}", "yes"))


def test_custom_objects_can_be_denied() -> None:
    async def scenario(world: World) -> None:
        await define(world, definition())
        decide = lambda request: deny("no " + request["operation"])  # noqa: E731 - short
        await world.json("POST", OBJECTS.format("v1"), thing())
        await world.hook("/deny", decide, rules=[rule("CREATE,UPDATE,DELETE", "example.com", "v1", "things")])
        other = {**thing(), "metadata": {"name": "two"}}
        made = await world.json("POST", OBJECTS.format("v1"), other)
        assert made["message"] == 'admission webhook "deny.example.com" denied the request: no CREATE'
        merge: dict[str, Any] = {"content_type": "application/merge-patch+json"}
        changed = await world.json("PATCH", OBJECTS.format("v1") + "/one", {"data": {"a": "b"}}, **merge)
        assert changed["message"].endswith("no UPDATE")
        assert (await world.json("DELETE", OBJECTS.format("v1") + "/one"))["message"].endswith("no DELETE")
        assert world.asked[-1]["oldObject"]["data"] == {}

    run(scenario)


def test_what_is_patched_into_custom_objects_is_pruned_and_defaulted() -> None:
    async def scenario(world: World) -> None:
        text = {"type": "string"}
        data = {
            "type": "object",
            "properties": {"start": text, "stage-1": text, "filled": {"type": "string", "default": "by default"}},
        }
        await define(world, definition({"type": "object", "properties": {"data": data}}))
        rules = [rule("CREATE", "example.com", "v1", "things")]
        await world.hook("/a", stage("stage-1"), mutating=True, rules=rules)
        await world.hook("/b", stage("stage-2"), mutating=True, rules=rules)
        made = await world.json("POST", OBJECTS.format("v1"), thing(start="yes"))
        assert made["data"] == {"start": "yes", "stage-1": "yes", "filled": "by default"}
        wrong = lambda _: patch(add("/data/start", 5))  # noqa: E731 - short
        await world.hook("/c", wrong, mutating=True, rules=rules)
        refused = await world.json("POST", OBJECTS.format("v1"), {**thing(), "metadata": {"name": "two"}})
        assert refused["code"] == 422
        assert "data.start: Invalid value" in refused["message"]

    run(scenario)


def test_custom_objects_of_another_version_are_converted_for_the_webhook() -> None:
    async def scenario(world: World) -> None:
        await define(world, definition(OPEN, "v1", "v2"))
        rules = [rule("CREATE,UPDATE", "example.com", "v1", "things")]
        await world.hook("/first", stage("stage-1"), mutating=True, rules=rules)
        made = await world.json("POST", OBJECTS.format("v2"), thing("v2", start="yes"))
        assert (made["apiVersion"], made["data"]) == ("example.com/v2", {"start": "yes", "stage-1": "yes"})
        [asked] = world.asked
        assert asked["object"]["apiVersion"] == "example.com/v1"
        assert (asked["resource"]["version"], asked["requestResource"]["version"]) == ("v1", "v2")
        moved = definition(OPEN, "v2", "v1")
        found = await world.json("GET", f"{CRDS}/things.example.com")
        found["spec"]["versions"] = moved["spec"]["versions"]
        await world.json("PUT", f"{CRDS}/things.example.com", found)
        merge: dict[str, Any] = {"content_type": "application/merge-patch+json"}
        changed = await world.json("PATCH", OBJECTS.format("v1") + "/one", {"data": {"a": "b"}}, **merge)
        assert changed["data"] == {"start": "yes", "stage-1": "yes", "a": "b"}

    run(scenario)


def test_definitions_can_be_denied() -> None:
    async def scenario(world: World) -> None:
        rules = [rule("CREATE", "apiextensions.k8s.io", "*", "customresourcedefinitions")]
        await world.hook(
            "/crd", lambda _: deny("the crd contains unwanted label"), rules=rules,
            objectSelector={"matchLabels": {"webhook-e2e-test": "webhook-disallow"}},
        )  # fmt: skip
        labelled = definition()
        labelled["metadata"]["labels"] = {"webhook-e2e-test": "webhook-disallow"}
        answer = await world.json("POST", CRDS, labelled)
        assert answer["message"].endswith("denied the request: the crd contains unwanted label")
        assert (await world.json("POST", CRDS, definition()))["kind"] == "CustomResourceDefinition"

    run(scenario)
