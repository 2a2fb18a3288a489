"""Mutating webhooks against a running API server: patches, order, reinvocation, and hostile answers."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from webhook_world import World, add, config_map, deny, patch, rule, run

MAPS = "/api/v1/namespaces/default/configmaps"


def stage(number: int) -> Any:
    """Adds mutation-stage-N, if the stage before is there."""
    before = f"mutation-stage-{number - 1}" if number > 1 else "mutation-start"

    def decide(request: dict[str, Any]) -> dict[str, Any]:
        data = request["object"].get("data") or {}
        if data.get(before) != "yes":
            return {"allowed": True}
        return patch(add(f"/data/mutation-stage-{number}", "yes"))

    return decide


def test_patches_change_what_is_stored_in_the_order_of_configurations() -> None:
    async def scenario(world: World) -> None:
        await world.hook("/second", stage(2), mutating=True, name="b")
        await world.hook("/first", stage(1), mutating=True, name="a")
        made = await world.create("configmaps", config_map("one", **{"mutation-start": "yes"}))
        assert made["data"] == {"mutation-start": "yes", "mutation-stage-1": "yes", "mutation-stage-2": "yes"}
        assert world.paths == ["/first", "/second"]
        assert world.asked[1]["object"]["data"] == {"mutation-start": "yes", "mutation-stage-1": "yes"}
        assert (await world.json("GET", f"{MAPS}/one"))["data"] == made["data"]

    run(scenario)


def test_defaults_apply_to_what_a_patch_adds() -> None:
    async def scenario(world: World) -> None:
        init = {"name": "webhook-added-init-container", "image": "webhook-added-image", "resources": {}}
        await world.hook(
            "/pod",
            lambda _: patch(add("/spec/initContainers", [init])),
            mutating=True,
            rules=[rule("CREATE", "", "v1", "pods")],
        )
        spec = {"containers": [{"name": "c", "image": "nginx"}]}
        made = await world.create("pods", {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
        [container] = made["spec"]["initContainers"]
        assert container["name"] == "webhook-added-init-container"
        assert container["terminationMessagePolicy"] == "File"
        assert container["volumeMounts"], "plugins before the webhook run again: ServiceAccount mounts its token"

    run(scenario)


def test_updates_patches_and_applies_are_changed_too() -> None:
    async def scenario(world: World) -> None:
        await world.create("configmaps", config_map("one", a="1"))
        count = lambda request: patch(add("/data/old", str(len(request["oldObject"]["data"]))))  # noqa: E731 - short
        await world.hook("/count", count, mutating=True, rules=[rule("UPDATE", "", "v1", "configmaps")])
        put = await world.json("PUT", f"{MAPS}/one", config_map("one", a="2"))
        assert put["data"] == {"a": "2", "old": "1"}
        merge: dict[str, Any] = {"content_type": "application/merge-patch+json"}
        patched = await world.json("PATCH", f"{MAPS}/one", {"data": {"b": "3"}}, **merge)
        assert patched["data"] == {"a": "2", "b": "3", "old": "2"}
        applied = await world.json(
            "PATCH",
            f"{MAPS}/one?fieldManager=me&force=true",
            config_map("one", c="4"),
            content_type="application/apply-patch+yaml",
        )
        assert applied["data"] == {"a": "2", "b": "3", "c": "4", "old": "3"}

    run(scenario)


def test_names_can_still_be_generated_after_a_webhook_has_seen_the_object() -> None:
    async def scenario(world: World) -> None:
        await world.hook("/see", lambda _: {"allowed": True}, mutating=True)
        made = await world.create("configmaps", {**config_map(), "metadata": {"generateName": "made-"}})
        [asked] = world.asked
        assert "name" not in asked
        assert "uid" not in asked["object"]["metadata"]
        assert made["metadata"]["name"].startswith("made-")

    run(scenario)


def test_what_the_server_owns_stays_the_servers() -> None:
    async def scenario(world: World) -> None:
        decide = lambda _: patch(  # noqa: E731 - short
            add("/metadata/uid", "mine"),
            add("/metadata/creationTimestamp", "2000-01-01T00:00:00Z"),
            add("/metadata/managedFields", []),
        )
        await world.hook("/own", decide, mutating=True)
        made = await world.create("configmaps", config_map("one", a="b"))
        assert made["metadata"]["uid"] != "mine"
        assert not made["metadata"]["creationTimestamp"].startswith("2000")
        assert made["metadata"]["managedFields"]
        update = [rule("UPDATE", "", "v1", "configmaps")]
        await world.hook("/uid", lambda _: patch(add("/metadata/uid", "mine")), mutating=True, rules=update)
        answer = await world.json("PUT", f"{MAPS}/one", config_map("one", a="c"))
        assert answer["code"] == 422
        assert "metadata.uid" in answer["message"]

    run(scenario)


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("/metadata/namespace", "other", "the namespace of the provided object does not match the namespace sent on"),
        ("/metadata/name", "Not A Name", 'metadata.name: Invalid value: "Not A Name"'),
        ("/kind", "Secret", 'no kind "Secret" is registered'),
        ("/data", 5, "Internal error occurred: "),
        ("", 5, "Internal error occurred: "),
    ],
)
def test_patches_that_make_something_else_are_refused(path: str, value: Any, text: str) -> None:
    async def scenario(world: World) -> None:
        await world.hook("/odd", lambda _: patch(add(path, value)), mutating=True)
        answer = await world.create("configmaps", config_map())
        assert answer["status"] == "Failure"
        assert text in answer["message"]

    run(scenario)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (
            patch({"op": "replace", "path": "/x/y", "value": 1}),
            "replace operation does not apply: doc is missing key",
        ),
        (patch({"op": "test", "path": "/kind", "value": "Pod"}), "testing value /kind failed: test failed"),
        ({**patch(add("/a", 1)), "patchType": None}, "webhook returned response.patch but not response.patchType"),
        ({"allowed": True, "patchType": "JSONPatch"}, "webhook returned response.patchType but not response.patch"),
        ({**patch(add("/a", 1)), "patchType": "Merge"}, 'unsupported patch type "Merge"'),
        ({**patch(), "patch": base64.b64encode(b"{").decode()}, "received undecodable patch in webhook response"),
        ({**patch(), "patch": "%%%"}, "illegal base64 data"),
    ],
)
def test_patches_that_are_none_are_refused(answer: Any, text: str) -> None:
    async def scenario(world: World) -> None:
        await world.hook("/odd", lambda _: answer, mutating=True)
        refused = await world.create("configmaps", config_map())
        assert (refused["code"], text in refused["message"]) == (500, True), refused

    run(scenario)


def test_nothing_can_be_patched_in_a_deletion() -> None:
    async def scenario(world: World) -> None:
        await world.create("configmaps", config_map())
        rules = [rule("DELETE", "", "v1", "configmaps")]
        await world.hook("/late", lambda _: patch(add("/data", {})), mutating=True, rules=rules)
        answer = await world.json("DELETE", f"{MAPS}/one")
        assert "attempted to modify the object, which is not supported for this operation" in answer["message"]

    run(scenario)


def test_a_webhook_is_asked_again_when_a_later_one_changes_the_object() -> None:
    async def scenario(world: World) -> None:
        def late(request: dict[str, Any]) -> dict[str, Any]:
            return patch(add("/data/late", "yes"))

        def early(request: dict[str, Any]) -> dict[str, Any]:
            seen = "late" in request["object"]["data"]
            return patch(add("/data/early-saw-late", str(seen)))

        await world.hook("/a", early, mutating=True, reinvocationPolicy="IfNeeded")
        await world.hook("/b", late, mutating=True)
        made = await world.create("configmaps", config_map("one", x="y"))
        assert world.paths == ["/a", "/b", "/a"]
        assert made["data"]["early-saw-late"] == "True"

    run(scenario)


def test_nobody_is_asked_again_when_nothing_changed_since() -> None:
    async def scenario(world: World) -> None:
        await world.hook("/a", lambda _: {"allowed": True}, mutating=True, reinvocationPolicy="IfNeeded")
        await world.hook("/b", lambda _: patch(add("/data/x", "y")), mutating=True, reinvocationPolicy="IfNeeded")
        await world.create("configmaps", config_map("one", x="y"))
        assert world.paths == ["/a", "/b"]

    run(scenario)


def test_a_refusal_ends_it() -> None:
    async def scenario(world: World) -> None:
        await world.hook("/a", lambda _: deny("first"), mutating=True)
        await world.hook("/b", lambda _: patch(add("/data/x", "y")), mutating=True)
        answer = await world.create("configmaps", config_map())
        assert answer["message"] == 'admission webhook "a.example.com" denied the request: first'
        assert world.paths == ["/a"]

    run(scenario)


def test_the_status_keeps_to_itself() -> None:
    async def scenario(world: World) -> None:
        labels = {"app": "web"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}}
        spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
        deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}
        url = "/apis/apps/v1/namespaces/default/deployments"
        made = await world.json("POST", url, deployment)
        rules = [rule("UPDATE", "apps", "v1", "deployments/status")]
        await world.hook("/spec", lambda _: patch(add("/spec/replicas", 9)), mutating=True, rules=rules)
        made["status"] = {"replicas": 1}
        answer = await world.json("PUT", f"{url}/d/status", made)
        assert (answer["spec"]["replicas"], answer["status"]["replicas"]) == (1, 1)

    run(scenario)


def test_other_versions_are_patched_in_their_own_shape() -> None:
    async def scenario(world: World) -> None:
        rules = [rule("CREATE", "autoscaling", "v1", "horizontalpodautoscalers")]
        change = patch(add("/spec/targetCPUUtilizationPercentage", 55))
        await world.hook("/v1", lambda _: change, mutating=True, rules=rules)
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
        spec = {"scaleTargetRef": target, "maxReplicas": 3}
        scaler = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"}}
        url = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
        made = await world.json("POST", url, {**scaler, "spec": spec})
        assert made["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 55

    run(scenario)


def test_a_connection_can_be_changed() -> None:
    async def scenario(world: World) -> None:
        rules = [rule("CONNECT", "", "v1", "pods/exec")]
        await world.hook("/exec", lambda _: patch(add("/container", "other")), mutating=True, rules=rules)
        spec = {"containers": [{"name": "c", "image": "nginx"}]}
        await world.create("pods", {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
        answer = await world.json("POST", "/api/v1/namespaces/default/pods/p/exec?container=c&command=ls&stdout=true")
        assert answer["message"] == "container other is not valid for pod p"
        assert world.asked[0]["object"]["command"] == ["ls"]

    run(scenario)


def test_a_webhook_that_grows_objects_without_end_is_stopped() -> None:
    async def scenario(world: World) -> None:
        copies = [{"op": "copy", "from": "", "path": f"/data/x{number}"} for number in range(40)]
        await world.hook("/bomb", lambda _: patch(*copies), mutating=True)
        answer = await world.create("configmaps", config_map("one", a="b" * 1000))
        assert (answer["code"], answer["reason"]) == (500, "InternalError")

    run(scenario)


def test_what_is_patched_into_secrets_of_others_stays_out_of_the_cache() -> None:
    async def scenario(world: World) -> None:
        await world.create("configmaps", config_map("one", a="1"))
        before = await world.json("GET", f"{MAPS}/one")
        rules = [rule("UPDATE", "", "v1", "configmaps")]
        await world.hook("/late", lambda _: patch(add("/data/b", "2")), mutating=True, rules=rules, name="a")
        await world.hook("/deny", lambda _: deny(), rules=rules)
        patched = {"metadata": {"labels": {"x": "y"}}}
        answer = await world.json("PATCH", f"{MAPS}/one", patched, content_type="application/merge-patch+json")
        assert answer["code"] == 400
        assert await world.json("GET", f"{MAPS}/one") == before
        cached = world.server.reader.get("", "configmaps", "default", "one")
        assert cached is not None
        assert cached["data"] == {"a": "1"}

    run(scenario)
