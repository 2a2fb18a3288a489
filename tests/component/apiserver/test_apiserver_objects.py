"""Create, read, update, patch and delete, as clients over HTTP see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

Play = Callable[..., None]
MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


def config_map(name: str = "x", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def pod(name: str = "p", **spec: Any) -> dict[str, Any]:
    containers = [{"name": "c", "image": "nginx"}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": containers, **spec}}


def deployment(replicas: int = 1) -> dict[str, Any]:
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}


def test_an_acknowledged_write_is_read_by_the_next_request(play: Play) -> None:
    async def scenario(world: Any) -> None:
        created = await world.http("POST", MAPS, config_map(a="1"))
        assert created.status == 201
        got = await world.http("GET", f"{MAPS}/x")
        assert got.body == created.body

    play(scenario)


def test_a_second_object_of_the_same_name_is_refused(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.http("POST", MAPS, config_map())
        answer = await world.json("POST", MAPS, config_map())
        assert (answer["code"], answer["reason"], answer["message"]) == (
            409,
            "AlreadyExists",
            'configmaps "x" already exists',
        )

    play(scenario)


def test_a_new_object_says_no_version_except_where_an_update_or_a_rehearsal_makes_it(play: Play) -> None:
    async def scenario(world: Any) -> None:
        body = {**config_map(), "metadata": {"name": "x", "resourceVersion": "5"}}
        refused = await world.json("POST", MAPS, body)
        assert refused["message"] == "resourceVersion should not be set on objects to be created"
        assert (await world.http("POST", f"{MAPS}?dryRun=All", body)).status == 201
        wrong = await world.json("POST", MAPS, {**body, "metadata": {"name": "x_", "resourceVersion": "5"}})
        assert wrong["reason"] == "Invalid"
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": body["metadata"]}
        leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
        assert (await world.http("PUT", f"{leases}/x", lease)).status == 201

    play(scenario)


def test_generated_names_are_tried_again_on_collision(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(["gen-a", "gen-a", "gen-b"])
    monkeypatch.setattr("tiphys.apiserver.metadata.generate_name", lambda prefix: next(names))

    async def scenario(world: Any) -> None:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "gen-"}}
        made = [(await world.json("POST", MAPS, body))["metadata"]["name"] for _ in range(2)]
        assert made == ["gen-a", "gen-b"]

    play(scenario)


def test_a_dry_run_answers_but_writes_nothing(play: Play) -> None:
    async def scenario(world: Any) -> None:
        before = await world.store.revision()
        answer = await world.json("POST", f"{MAPS}?dryRun=All", config_map())
        assert "resourceVersion" not in answer["metadata"]
        assert (await world.http("GET", f"{MAPS}/x")).status == 404
        assert await world.store.revision() == before

    play(scenario)


def test_an_update_of_an_old_version_is_a_conflict(play: Play) -> None:
    async def scenario(world: Any) -> None:
        first = await world.json("POST", MAPS, config_map())
        await world.http("PUT", f"{MAPS}/x", {**first, "data": {"a": "1"}})
        answer = await world.json("PUT", f"{MAPS}/x", {**first, "data": {"a": "2"}})
        assert (answer["code"], answer["reason"]) == (409, "Conflict")
        assert answer["message"] == (
            'Operation cannot be fulfilled on configmaps "x": the object has been modified; please apply your changes '
            "to the latest version and try again"
        )

    play(scenario)


def test_an_update_that_changes_nothing_keeps_the_version(play: Play) -> None:
    async def scenario(world: Any) -> None:
        first = await world.json("POST", MAPS, config_map(a="1"))
        again = await world.json("PUT", f"{MAPS}/x", config_map(a="1"))
        patched = await world.json(
            "PATCH", f"{MAPS}/x", {"data": {"a": "1"}}, content_type="application/merge-patch+json"
        )
        assert again == first == patched

    play(scenario)


@pytest.mark.parametrize(
    ("media", "body"),
    [
        ("application/merge-patch+json", {"metadata": {"labels": {"a": "b"}}}),
        ("application/strategic-merge-patch+json", {"metadata": {"labels": {"a": "b"}}}),
        ("application/json-patch+json", [{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]),
    ],
)
def test_every_kind_of_patch_is_applied(play: Play, media: str, body: Any) -> None:
    async def scenario(world: Any) -> None:
        await world.http("POST", MAPS, config_map())
        answer = await world.json("PATCH", f"{MAPS}/x", body, content_type=media)
        assert answer["metadata"]["labels"] == {"a": "b"}

    play(scenario)


def test_unknown_fields_are_warned_of_or_refused(play: Play) -> None:
    async def scenario(world: Any) -> None:
        body = {**config_map(), "nonsense": 1}
        warned = await world.http("POST", MAPS, body)
        assert warned.headers["Warning"] == '299 - "unknown field \\"nonsense\\""'
        refused = await world.json("POST", f"{MAPS}?fieldValidation=Strict", body)
        assert refused["code"] == 400
        assert 'strict decoding error: unknown field "nonsense"' in refused["message"]

    play(scenario)


def test_generation_counts_changes_of_the_spec_only(play: Play) -> None:
    async def scenario(world: Any) -> None:
        made = await world.json("POST", DEPLOYMENTS, deployment())
        assert made["metadata"]["generation"] == 1
        made["metadata"]["labels"] = {"a": "b"}
        made = await world.json("PUT", f"{DEPLOYMENTS}/web", made)
        assert made["metadata"]["generation"] == 1
        made["spec"]["replicas"] = 2
        assert (await world.json("PUT", f"{DEPLOYMENTS}/web", made))["metadata"]["generation"] == 2

    play(scenario)


def test_status_and_spec_are_written_at_their_own_endpoints(play: Play) -> None:
    async def scenario(world: Any) -> None:
        made = await world.json("POST", DEPLOYMENTS, deployment())
        both = {**made, "spec": {**made["spec"], "replicas": 9}, "status": {"replicas": 3}}
        after = await world.json("PUT", f"{DEPLOYMENTS}/web/status", both)
        assert (after["spec"]["replicas"], after["status"]["replicas"]) == (1, 3)
        del both["metadata"]["resourceVersion"]
        after = await world.json("PUT", f"{DEPLOYMENTS}/web", {**both, "status": {"replicas": 7}})
        assert (after["spec"]["replicas"], after["status"]["replicas"]) == (9, 3)

    play(scenario)


def test_scale_reads_and_writes_the_number_of_replicas(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.http("POST", DEPLOYMENTS, deployment(2))
        scale = await world.json("GET", f"{DEPLOYMENTS}/web/scale")
        assert (scale["kind"], scale["spec"], scale["status"]["selector"]) == ("Scale", {"replicas": 2}, "app=web")
        scale["spec"]["replicas"] = 5
        assert (await world.json("PUT", f"{DEPLOYMENTS}/web/scale", scale))["spec"]["replicas"] == 5
        patch = {"spec": {"replicas": 6}}
        await world.json("PATCH", f"{DEPLOYMENTS}/web/scale", patch, content_type="application/merge-patch+json")
        assert (await world.json("GET", f"{DEPLOYMENTS}/web"))["spec"]["replicas"] == 6
        accept = "application/json;as=Table;v=v1;g=meta.k8s.io"
        table = await world.json("GET", f"{DEPLOYMENTS}/web/scale?includeObject=Object", accept=accept)
        assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Desired", "Available", "Age"]
        assert table["rows"][0]["cells"][:3] == ["web", 6, 0]
        assert table["rows"][0]["object"]["kind"] == "Scale"

    play(scenario)


def test_a_binding_puts_a_pod_on_a_node_once(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.http("POST", PODS, pod())
        target = {"apiVersion": "v1", "kind": "Node", "name": "n1"}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": target}
        assert (await world.json("POST", f"{PODS}/p/binding", body))["status"] == "Success"
        bound = await world.json("GET", f"{PODS}/p")
        assert bound["spec"]["nodeName"] == "n1"
        assert {c["type"]: c["status"] for c in bound["status"]["conditions"]}["PodScheduled"] == "True"
        again = await world.json("POST", f"{PODS}/p/binding", body)
        assert again["code"] == 409
        assert 'pod p is already assigned to node "n1"' in again["message"]

    play(scenario)


def test_a_running_pod_is_deleted_gracefully_and_then_for_good(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.http("POST", PODS, pod(nodeName="n1"))
        marked = await world.json("DELETE", f"{PODS}/p")
        assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
        assert (await world.http("GET", f"{PODS}/p")).status == 200
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
        assert (await world.json("DELETE", f"{PODS}/p", options))["kind"] == "Pod"
        assert (await world.http("GET", f"{PODS}/p")).status == 404

    play(scenario)


def test_an_object_goes_when_its_last_finalizer_is_removed(play: Play) -> None:
    async def scenario(world: Any) -> None:
        body = config_map()
        body["metadata"]["finalizers"] = ["example.com/a"]
        await world.http("POST", MAPS, body)
        marked = await world.json("DELETE", f"{MAPS}/x")
        assert "deletionTimestamp" in marked["metadata"]
        patch = {"metadata": {"finalizers": None}}
        done = await world.http("PATCH", f"{MAPS}/x", patch, content_type="application/merge-patch+json")
        assert done.status == 200
        assert (await world.http("GET", f"{MAPS}/x")).status == 404

    play(scenario)


def test_a_namespace_terminates_until_it_is_finalized(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.http("POST", "/api/v1/namespaces", {"kind": "Namespace", "metadata": {"name": "blue"}})
        ending = await world.json("DELETE", "/api/v1/namespaces/blue")
        assert ending["status"]["phase"] == "Terminating"
        refused = await world.json("POST", "/api/v1/namespaces/blue/configmaps", config_map())
        assert refused["code"] == 403
        ending["spec"]["finalizers"] = []
        await world.http("PUT", "/api/v1/namespaces/blue/finalize", ending)
        assert (await world.http("GET", "/api/v1/namespaces/blue")).status == 404

    play(scenario)


def test_a_collection_is_deleted_by_selector(play: Play) -> None:
    async def scenario(world: Any) -> None:
        for name, label in (("a", "1"), ("b", "2"), ("c", "1")):
            body = config_map(name)
            body["metadata"]["labels"] = {"x": label}
            await world.http("POST", MAPS, body)
        await world.http("DELETE", f"{MAPS}?labelSelector=x%3D1")
        left = await world.json("GET", f"{MAPS}?labelSelector=x")
        assert [item["metadata"]["name"] for item in left["items"]] == ["b"]

    play(scenario)


def test_an_old_version_is_served_and_stored_as_the_new_one(play: Play) -> None:
    async def scenario(world: Any) -> None:
        job = {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}
        spec = {"schedule": "* * * * *", "jobTemplate": {"spec": job}}
        body = {"apiVersion": "batch/v1beta1", "kind": "CronJob", "metadata": {"name": "c"}, "spec": spec}
        made = await world.http("POST", "/apis/batch/v1beta1/namespaces/default/cronjobs", body)
        assert made.status == 201
        assert "batch/v1beta1 CronJob is deprecated in v1.21+" in made.headers["Warning"]
        new = await world.json("GET", "/apis/batch/v1/namespaces/default/cronjobs/c")
        assert new["apiVersion"] == "batch/v1"

    play(scenario)


def test_evictions_respect_a_disruption_budget(play: Play) -> None:
    async def scenario(world: Any) -> None:
        body = pod(nodeName="n1")
        body["metadata"]["labels"] = {"app": "web"}
        made = await world.json("POST", PODS, body)
        ready = {"type": "Ready", "status": "True"}
        made["status"] = {**made["status"], "phase": "Running", "conditions": [ready]}
        await world.http("PUT", f"{PODS}/p/status", made)
        budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
        spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}
        budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"}, "spec": spec}
        budget = await world.json("POST", budgets, budget)
        status = {"disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}
        budget["status"] = {**status, "observedGeneration": budget["metadata"].get("generation", 0)}
        budget = await world.json("PUT", f"{budgets}/b/status", budget)
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
        refused = await world.json("POST", f"{PODS}/p/eviction", eviction)
        assert (refused["code"], refused["details"]["causes"][0]["reason"]) == (429, "DisruptionBudget")
        budget["status"]["disruptionsAllowed"] = 1
        await world.http("PUT", f"{budgets}/b/status", budget)
        assert (await world.http("POST", f"{PODS}/p/eviction", eviction)).status == 201
        assert "deletionTimestamp" in (await world.json("GET", f"{PODS}/p"))["metadata"]

    play(scenario)


def test_a_service_account_token_authenticates_its_account(play: Play) -> None:
    async def scenario(world: Any) -> None:
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        answer = await world.json("POST", "/api/v1/namespaces/default/serviceaccounts/default/token", request)
        token = answer["status"]["token"]
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        who = await world.json("POST", path, review, user=None, authorization=f"Bearer {token}")
        assert who["status"]["userInfo"]["username"] == "system:serviceaccount:default:default"

    play(scenario)


def test_actor_and_cause_are_kept_with_each_write(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.http("POST", MAPS, config_map())
        row = await world.store.get("core/configmaps/default/x")
        assert (row.actor, row.cause) == ("admin", "")

    play(scenario)


def test_a_refusal_tells_an_empty_map_from_none(play: Play) -> None:
    async def scenario(world: Any) -> None:
        empty, none = deployment(), deployment()
        empty["spec"]["template"]["metadata"] = {"labels": {}}
        none["spec"]["template"]["metadata"] = {}
        for body, shown in ((empty, "{}"), (none, "null")):
            answer = await world.json("POST", DEPLOYMENTS, body)
            text = f"spec.template.metadata.labels: Invalid value: {shown}: `selector` does not match template `labels`"
            assert text in answer["message"]

    play(scenario)


def test_lists_are_shown_as_yaml(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.http("POST", MAPS, config_map("a"))
        answer = await world.http("GET", MAPS, accept="application/yaml")
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/yaml")
        listed = yaml.safe_load(answer.body)
        assert (listed["kind"], listed["items"][0]["metadata"]["name"]) == ("ConfigMapList", "a")
        assert b"&id" not in answer.body

    play(scenario)
