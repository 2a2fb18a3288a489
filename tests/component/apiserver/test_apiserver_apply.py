"""Server-side apply over HTTP: creating, conflicts, subresources, options, and how managedFields are shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from tiphys.base.identity import User
from tiphys.client.resources import CONFIG_MAPS

Play = Callable[..., None]
MAPS = "/api/v1/namespaces/default/configmaps"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
APPLY = "application/apply-patch+yaml"
LABELS = {"matchLabels": {"app": "web"}}


def config_map(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": data}


def deployment(replicas: int, image: str = "nginx") -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}}
    spec = {"replicas": replicas, "selector": LABELS, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}


def applying(world: Any, url: str = f"{MAPS}/x") -> Callable[..., Awaitable[Any]]:
    """Apply a body as a manager; (status, answer)."""

    async def apply(manager: str, body: Any, query: str = "", **more: Any) -> tuple[int, Any]:
        answer = await world.http("PATCH", f"{url}?fieldManager={manager}{query}", body, content_type=APPLY, **more)
        return answer.status, orjson.loads(answer.body)

    return apply


def managers(obj: Any) -> list[tuple[str, str, str]]:
    return [
        (entry["manager"], entry["operation"], entry.get("subresource", ""))
        for entry in obj["metadata"].get("managedFields", ())
    ]


def test_apply_creates_then_changes_then_takes_away(play: Play) -> None:
    async def scenario(world: Any) -> None:
        apply = applying(world)
        status, answer = await apply("me", config_map(a="1", b="1"))
        assert (status, answer["data"]) == (201, {"a": "1", "b": "1"})
        status, answer = await apply("me", config_map(a="2"))
        assert (status, answer["data"]) == (200, {"a": "2"})
        assert managers(answer) == [("me", "Apply", "")]

    play(scenario)


def test_applying_the_same_again_writes_nothing(play: Play) -> None:
    async def scenario(world: Any) -> None:
        apply = applying(world)
        _, first = await apply("me", config_map(a="1"))
        await world.clock.sleep(5)
        _, second = await apply("me", config_map(a="1"))
        assert first == second

    play(scenario)


def test_yaml_can_be_applied(play: Play) -> None:
    async def scenario(world: Any) -> None:
        text = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  a: 'yes'\n"
        status, answer = await applying(world)("me", text)
        assert (status, answer["data"]) == (201, {"a": "yes"})
        status, answer = await applying(world)("me", b"a: [")
        assert status == 400
        assert answer["message"].startswith("error decoding YAML: ")

    play(scenario)


def test_a_conflict_names_fields_and_managers_and_force_resolves_it(play: Play) -> None:
    async def scenario(world: Any) -> None:
        apply = applying(world)
        await apply("one", config_map(a="1"))
        status, answer = await apply("two", config_map(a="2"))
        assert (status, answer["reason"]) == (409, "Conflict")
        assert answer["message"] == 'Apply failed with 1 conflict: conflict with "one": .data.a'
        cause = {"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".data.a"}
        assert answer["details"] == {"causes": [cause]}
        status, answer = await apply("two", config_map(a="2"), "&force=true")
        assert (status, managers(answer)) == (200, [("two", "Apply", "")])

    play(scenario)


def test_other_writes_are_tracked_by_field_manager_or_user_agent(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.json("POST", MAPS, config_map(a="1"), user_agent="curl/8.1")
        body = {"data": {"b": "2"}}
        merge = "application/merge-patch+json"
        answer = await world.json("PATCH", f"{MAPS}/x?fieldManager=me", body, content_type=merge)
        assert sorted(managers(answer)) == [("curl", "Update", ""), ("me", "Update", "")]
        owned = {entry["manager"]: entry["fieldsV1"] for entry in answer["metadata"]["managedFields"]}
        assert owned == {"curl": {"f:data": {".": {}, "f:a": {}}}, "me": {"f:data": {"f:b": {}}}}

    play(scenario)


def test_a_dry_run_shows_what_would_be_and_stores_nothing(play: Play) -> None:
    async def scenario(world: Any) -> None:
        apply = applying(world)
        status, answer = await apply("me", config_map(a="1"), "&dryRun=All")
        assert (status, managers(answer)) == (201, [("me", "Apply", "")])
        assert (await world.http("GET", f"{MAPS}/x")).status == 404

    play(scenario)


@pytest.mark.parametrize(
    ("query", "media", "field", "reason"),
    [
        ("", APPLY, "fieldManager", "FieldValueRequired"),
        ("?fieldManager=" + "x" * 129, APPLY, "fieldManager", "FieldValueTooLong"),
        ("?force=true", "application/merge-patch+json", "force", "FieldValueForbidden"),
    ],
)
def test_options_are_checked(play: Play, query: str, media: str, field: str, reason: str) -> None:
    async def scenario(world: Any) -> None:
        answer = await world.json("PATCH", f"{MAPS}/x{query}", config_map(), content_type=media)
        assert answer["code"] == 422
        assert [(one["field"], one["reason"]) for one in answer["details"]["causes"]] == [(field, reason)]

    play(scenario)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"kind": "Secret"}, 400),
        ({"metadata": {"name": "y"}}, 400),
        ({"metadata": {"name": "x", "namespace": "other"}}, 400),
        ({"metadata": {"name": "x", "managedFields": []}}, 400),
        ({"metadata": {"name": "x", "uid": "1"}}, 409),
        ({"metadata": {"name": "x", "labels": {"a b": "c"}}}, 422),
        ({"foo": 1}, 400),
    ],
)
def test_what_cannot_be_applied_is_refused(play: Play, change: dict[str, Any], status: int) -> None:
    async def scenario(world: Any) -> None:
        found, answer = await applying(world)("me", config_map(a="1") | change)
        assert found == status, answer
        assert (await world.http("GET", f"{MAPS}/x")).status == 404

    play(scenario)


def test_an_old_resource_version_is_a_conflict(play: Play) -> None:
    async def scenario(world: Any) -> None:
        apply = applying(world)
        await apply("me", config_map(a="1"))
        status, answer = await apply("me", config_map(a="2") | {"metadata": {"name": "x", "resourceVersion": "1"}})
        assert (status, "the object has been modified" in answer["message"]) == (409, True)

    play(scenario)


def test_who_may_only_patch_cannot_create_by_applying(play: Play) -> None:
    async def scenario(world: Any) -> None:
        role = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "patcher"},
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]}],
        }
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "patcher"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "patcher"},
            "subjects": [{"kind": "User", "name": "jane", "apiGroup": "rbac.authorization.k8s.io"}],
        }
        rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
        await world.json("POST", f"{rbac}/roles", role)
        await world.json("POST", f"{rbac}/rolebindings", binding)
        apply, jane = applying(world), User("jane")
        status, answer = await apply("me", config_map(a="1"), user=jane)
        assert (status, 'cannot create resource "configmaps"' in answer["message"]) == (403, True)
        await apply("me", config_map(a="1"))
        assert (await apply("me", config_map(a="2"), user=jane))[0] == 200

    play(scenario)


def test_the_status_is_applied_on_its_own(play: Play) -> None:
    async def scenario(world: Any) -> None:
        apply, status_of = applying(world, f"{DEPLOYMENTS}/web"), applying(world, f"{DEPLOYMENTS}/web/status")
        assert (await status_of("st", deployment(1)))[0] == 404
        await apply("me", deployment(1))
        code, answer = await status_of("st", deployment(5) | {"status": {"replicas": 3}})
        assert (code, answer["spec"]["replicas"], answer["status"]) == (200, 1, {"replicas": 3})
        assert managers(answer) == [("me", "Apply", ""), ("st", "Apply", "status")]
        assert answer["metadata"]["managedFields"][1]["fieldsV1"] == {"f:status": {"f:replicas": {}}}

    play(scenario)


def test_scaling_takes_the_replicas_over(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await applying(world, f"{DEPLOYMENTS}/web")("me", deployment(1))
        body = {"spec": {"replicas": 4}}
        merge = "application/merge-patch+json"
        await world.json("PATCH", f"{DEPLOYMENTS}/web/scale?fieldManager=hpa", body, content_type=merge)
        answer = await world.json("GET", f"{DEPLOYMENTS}/web")
        assert managers(answer) == [("me", "Apply", ""), ("hpa", "Update", "scale")]
        assert answer["metadata"]["managedFields"][1]["fieldsV1"] == {"f:spec": {"f:replicas": {}}}
        assert "f:replicas" not in answer["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]
        scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": 5}}
        status, answer = await applying(world, f"{DEPLOYMENTS}/web/scale")("sc", scale)
        assert (status, ".spec.replicas" in answer["message"]) == (409, True)
        status, answer = await applying(world, f"{DEPLOYMENTS}/web/scale")("sc", scale, "&force=true")
        assert (status, answer["spec"]) == (200, {"replicas": 5})
        answer = await world.json("GET", f"{DEPLOYMENTS}/web")
        assert sorted(managers(answer)) == [("me", "Apply", ""), ("sc", "Apply", "scale")]

    play(scenario)


def test_a_manager_that_scales_keeps_what_else_it_manages(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.json("POST", f"{DEPLOYMENTS}?fieldManager=me", deployment(1))
        scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": 1}}
        await applying(world, f"{DEPLOYMENTS}/web/scale")("sc", scale)
        answer = await world.json("GET", f"{DEPLOYMENTS}/web")
        owned = {entry["manager"]: set(entry["fieldsV1"]["f:spec"]) for entry in answer["metadata"]["managedFields"]}
        assert owned["sc"] == {"f:replicas"}
        assert {"f:replicas", "f:selector", "f:template"} <= owned["me"]

    play(scenario)


def test_versions_of_a_kind_share_their_managers(play: Play) -> None:
    async def scenario(world: Any) -> None:
        hpas = "/apis/autoscaling/{}/namespaces/default/horizontalpodautoscalers/h"
        spec = {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}
        obj = {"kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"}, "spec": spec}
        await applying(world, hpas.format("v1"))("one", obj | {"apiVersion": "autoscaling/v1"})
        changed = obj | {"apiVersion": "autoscaling/v2", "spec": spec | {"maxReplicas": 4}}
        status, answer = await applying(world, hpas.format("v2"))("two", changed)
        assert (status, answer["details"]["causes"][0]["field"]) == (409, ".spec.maxReplicas")
        status, answer = await applying(world, hpas.format("v2"))("one", changed)
        assert (status, answer["spec"]["maxReplicas"]) == (200, 4)
        assert [entry["apiVersion"] for entry in answer["metadata"]["managedFields"]] == ["autoscaling/v2"]

    play(scenario)


@pytest.mark.parametrize("value", [[], [{}]])
def test_managers_are_forgotten_on_demand(play: Play, value: Any) -> None:
    async def scenario(world: Any) -> None:
        await applying(world)("me", config_map(a="1"))
        patch = [{"op": "replace", "path": "/metadata/managedFields", "value": value}]
        answer = await world.json("PATCH", f"{MAPS}/x", patch, content_type="application/json-patch+json")
        assert managers(answer) == []

    play(scenario)


def test_managed_fields_are_shown_in_every_form_but_to_components(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await applying(world)("me", config_map(a="1"))
        listed = await world.json("GET", MAPS)
        assert managers(listed["items"][0]) == [("me", "Apply", "")]
        table = await world.json("GET", MAPS, accept="application/json;as=Table;v=v1;g=meta.k8s.io")
        assert managers(table["rows"][0]["object"]) == [("me", "Apply", "")]
        partial = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
        assert managers(await world.json("GET", f"{MAPS}/x", accept=partial)) == [("me", "Apply", "")]
        text = await world.http("GET", f"{MAPS}/x", accept="application/yaml")
        assert b"manager: me" in text.body
        binary = await world.http("GET", f"{MAPS}/x", accept="application/vnd.kubernetes.protobuf")
        assert b"FieldsV1" in binary.body
        own = await world.client.get(CONFIG_MAPS, "x", "default")
        assert "managedFields" not in own["metadata"]

    play(scenario)


def test_components_that_know_nothing_of_managers_do_not_remove_them(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await applying(world)("me", config_map(a="1") | {"metadata": {"name": "x", "finalizers": ["a.b/c"]}})
        await world.http("DELETE", f"{MAPS}/x")
        answer = await world.json("GET", f"{MAPS}/x")
        assert answer["metadata"]["deletionTimestamp"]
        assert managers(answer) == [("me", "Apply", "")]
        answer = await world.json("PUT", f"{MAPS}/x", config_map(a="1") | {"metadata": {"name": "x"}})
        assert managers(answer) == [("me", "Apply", "")]

    play(scenario)
