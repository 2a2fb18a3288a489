"""Namespaces: their metadata, status and finalizers, and what goes with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiphys.client.resources import NAMESPACES, PODS, SERVICE_ACCOUNTS

Play = Callable[..., None]
PATH = "/api/v1/namespaces"
APPS = f"{PATH}/apps"


async def create(world: Any) -> Any:
    made = await world.ok("POST", PATH, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "apps"}})
    await world.cluster.wait(SERVICE_ACCOUNTS, "apps", "default", timeout=10)
    return made


def pod(name: str, **meta: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "c", "image": "nginx"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **meta}, "spec": spec}


def test_a_namespace_is_patched_updated_and_its_status_changed(play: Play) -> None:
    async def scenario(world: Any) -> None:
        made = await create(world)
        assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "apps"}
        assert made["spec"]["finalizers"] == ["kubernetes"]
        patched = await world.patch(APPS, {"metadata": {"labels": {"testLabel": "testValue"}}}, "strategic")
        assert patched["metadata"]["labels"]["testLabel"] == "testValue"
        patched["metadata"]["labels"]["updated"] = "yes"
        updated = await world.ok("PUT", APPS, patched)
        assert updated["metadata"]["labels"]["updated"] == "yes"
        condition = {"type": "StatusPatch", "status": "True", "reason": "E2E", "message": "Patched by a test"}
        shown = await world.patch(f"{APPS}/status", {"status": {"conditions": [condition]}})
        assert [one["type"] for one in shown["status"]["conditions"]] == ["StatusPatch"]
        shown["status"]["conditions"].append({**condition, "type": "StatusUpdate"})
        again = await world.ok("PUT", f"{APPS}/status", shown)
        assert [one["type"] for one in again["status"]["conditions"]] == ["StatusPatch", "StatusUpdate"]
        assert again["status"]["phase"] == "Active"

    play(scenario)


def test_a_finalizer_of_the_spec_is_added_and_taken_away_by_finalizing(play: Play) -> None:
    async def scenario(world: Any) -> None:
        made = await create(world)
        own = {**made, "spec": {"finalizers": ["kubernetes", "e2e.example.com/fake"]}}
        updated = await world.ok("PUT", f"{APPS}/finalize", {**own, "metadata": {"name": "apps"}})
        assert updated["spec"]["finalizers"] == ["kubernetes", "e2e.example.com/fake"]
        await world.ok("DELETE", APPS)
        await world.clock.sleep(30)
        held = await world.ok("GET", APPS)
        assert (held["status"]["phase"], held["spec"]["finalizers"]) == ("Terminating", ["e2e.example.com/fake"])
        await world.ok("PUT", f"{APPS}/finalize", {**held, "spec": {"finalizers": []}})
        await world.cluster.wait_gone(NAMESPACES, "", "apps", timeout=30)

    play(scenario)


def test_pods_and_services_go_with_their_namespace_and_do_not_come_back_with_its_name(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await create(world)
        await world.ok("POST", f"{APPS}/pods", pod("p"))
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}
        await world.ok("POST", f"{APPS}/services", {**service, "spec": {"ports": [{"port": 80}]}})
        await world.cluster.wait(PODS, "apps", "p", lambda obj: obj["status"]["phase"] == "Running")
        await world.ok("DELETE", APPS)
        refused = await world.ask("POST", f"{APPS}/services", {**service, "spec": {"ports": [{"port": 80}]}})
        assert (refused["code"], refused["details"]["causes"][0]["reason"]) == (403, "NamespaceTerminating")
        await world.cluster.wait_gone(NAMESPACES, "", "apps", timeout=120)
        await create(world)
        for plural in ("pods", "services"):
            assert (await world.ok("GET", f"{APPS}/{plural}"))["items"] == []

    play(scenario)


def test_everything_else_waits_until_the_pods_of_a_namespace_have_gone(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await create(world)
        await world.ok("POST", f"{APPS}/pods", pod("p", finalizers=["e2e.example.com/held"]))
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept"}}
        await world.ok("POST", f"{APPS}/configmaps", body)
        await world.ok("DELETE", APPS)
        await world.clock.sleep(60)
        assert (await world.ok("GET", f"{APPS}/configmaps/kept"))["metadata"]["name"] == "kept"
        assert (await world.ok("GET", f"{APPS}/pods/p"))["metadata"]["deletionTimestamp"]
        await world.patch(f"{APPS}/pods/p", {"metadata": {"finalizers": None}})
        await world.cluster.wait_gone(NAMESPACES, "", "apps", timeout=120)

    play(scenario)
