"""Deployments: strategies, rollover, history, proportions, scale and status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tiphys.client.resources import DEPLOYMENTS, PODS, REPLICA_SETS

Play = Callable[..., None]
NS = "/apis/apps/v1/namespaces/default"
ONE = f"{NS}/deployments/test"
LABELS = {"name": "sample-pod"}
REVISION = "deployment.kubernetes.io/revision"


def template(image: str = "httpd", **labels: str) -> dict[str, Any]:
    container = {"name": "httpd", "image": image}
    return {"metadata": {"labels": {**LABELS, **labels}}, "spec": {"containers": [container]}}


def deployment(replicas: int = 1, image: str = "agnhost", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "test", "labels": {"e2e": "testing"}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": LABELS}, "template": template(image), **spec},
    }


def replica_set(name: str, replicas: int, image: str = "httpd") -> dict[str, Any]:
    labelled = template(image, pod="httpd")
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": name, "labels": labelled["metadata"]["labels"]},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labelled["metadata"]["labels"]},
            "template": labelled,
        },
    }


def complete(obj: Any) -> bool:
    status, wanted = obj.get("status") or {}, obj["spec"]["replicas"]
    counts = [status.get(field, 0) for field in ("updatedReplicas", "replicas", "availableReplicas")]
    return counts == [wanted] * 3 and status["observedGeneration"] >= obj["metadata"]["generation"]


async def finished(world: Any, condition: Callable[[Any], bool] = complete) -> Any:
    return await world.cluster.wait(DEPLOYMENTS, "default", "test", condition, timeout=120)


async def sets_of(world: Any, **labels: str) -> list[Any]:
    chosen = ",".join(f"{key}={value}" for key, value in {**LABELS, **labels}.items())
    found: list[Any] = (await world.ok("GET", f"{NS}/replicasets?labelSelector={chosen}"))["items"]
    return sorted(found, key=lambda each: int(each["metadata"].get("annotations", {}).get(REVISION, "0")))


def image_of(obj: Any) -> str:
    return str(obj["spec"]["template"]["spec"]["containers"][0]["image"])


async def set_image(world: Any, image: str) -> None:
    body = {"spec": {"template": {"spec": {"containers": [{"name": "httpd", "image": image}]}}}}
    await world.patch(ONE, body, "strategic")


def test_a_rolling_update_takes_over_old_pods_and_replaces_them(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", f"{NS}/replicasets", replica_set("controller", 1))
        patch = {"metadata": {"annotations": {REVISION: "3546343826724305832"}}}
        await world.patch(f"{NS}/replicasets/controller", patch)
        await world.cluster.wait(
            REPLICA_SETS, "default", "controller", lambda each: each["status"].get("availableReplicas") == 1
        )
        await world.ok("POST", f"{NS}/deployments", deployment())
        done = await finished(world)
        assert done["metadata"]["annotations"][REVISION] == "3546343826724305833"
        old, new = await sets_of(world)
        assert (old["metadata"]["name"], old["spec"]["replicas"], old["status"]["replicas"]) == ("controller", 0, 0)
        assert old["metadata"]["ownerReferences"][0]["uid"] == done["metadata"]["uid"]
        assert image_of(new) == "agnhost"
        pods = (await world.ok("GET", "/api/v1/namespaces/default/pods?labelSelector=name=sample-pod"))["items"]
        assert [pod["spec"]["containers"][0]["image"] for pod in pods] == ["agnhost"]

    play(scenario)


def test_recreate_never_runs_old_and_new_pods_side_by_side(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", f"{NS}/deployments", deployment(3, strategy={"type": "Recreate"}))
        await finished(world)
        listing = await world.ok("GET", "/api/v1/namespaces/default/pods")
        since = listing["metadata"]["resourceVersion"]
        await set_image(world, "httpd")
        assert (await finished(world))["metadata"]["annotations"][REVISION] == "2"
        alive = {pod["metadata"]["name"]: "agnhost" for pod in listing["items"]}
        async for event in world.cluster.client.watch(PODS, "default", resource_version=since):
            name, image = event.object["metadata"]["name"], event.object["spec"]["containers"][0]["image"]
            if event.type == "DELETED":
                del alive[name]
            else:
                alive[name] = image
            assert len(set(alive.values())) < 2
            if list(alive.values()) == ["httpd"] * 3:
                break

    play(scenario)


def test_old_replica_sets_beyond_the_limit_are_deleted(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", f"{NS}/replicasets", replica_set("controller", 1))
        await world.ok("POST", f"{NS}/deployments", deployment(revisionHistoryLimit=0))
        await finished(world)
        await world.cluster.wait_gone(REPLICA_SETS, "default", "controller", timeout=60)
        assert len(await sets_of(world)) == 1

    play(scenario)


def test_a_rollover_leaves_only_pods_of_the_latest_template(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", f"{NS}/replicasets", replica_set("controller", 1))
        await world.cluster.wait(
            REPLICA_SETS, "default", "controller", lambda each: each["status"].get("availableReplicas") == 1
        )
        bounds = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
        await world.ok(
            "POST", f"{NS}/deployments", deployment(image="redis-slave", strategy=bounds, minReadySeconds=10)
        )
        await finished(world, lambda obj: obj["metadata"].get("annotations", {}).get(REVISION) == "1")
        (first,) = [each for each in await sets_of(world) if each["metadata"]["name"] != "controller"]
        assert first["spec"]["replicas"] == 1
        await set_image(world, "agnhost")
        await finished(world, lambda obj: obj["metadata"]["annotations"][REVISION] == "2")
        await finished(world)
        wanted = {image_of(each): each["spec"]["replicas"] for each in await sets_of(world)}
        assert wanted == {"httpd": 0, "redis-slave": 0, "agnhost": 1}

    play(scenario)


def test_the_scale_subresource_sets_and_tells_the_size(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", f"{NS}/deployments", deployment())
        await finished(world)
        scale = await world.ok("GET", f"{ONE}/scale")
        assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (1, 1)
        assert scale["status"]["selector"] == "name=sample-pod"
        del scale["metadata"]["resourceVersion"]
        updated = await world.ok("PUT", f"{ONE}/scale", {**scale, "spec": {"replicas": 2}})
        assert updated["spec"]["replicas"] == 2
        assert (await world.ok("GET", ONE))["spec"]["replicas"] == 2
        await world.patch(f"{ONE}/scale", {"spec": {"replicas": 4}}, "strategic")
        assert (await finished(world))["spec"]["replicas"] == 4

    play(scenario)


def test_scaling_amid_a_rollout_keeps_proportions(play: Play) -> None:
    async def scenario(world: Any) -> None:
        bounds = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}
        await world.ok("POST", f"{NS}/deployments", deployment(10, strategy=bounds))
        await finished(world)
        world.cluster.nodes.ready = False
        await set_image(world, "webserver:404")
        await finished(world, lambda obj: obj["status"].get("replicas") == 13)
        assert [each["spec"]["replicas"] for each in await sets_of(world)] == [8, 5]
        await world.patch(ONE, {"spec": {"replicas": 30}})
        await finished(world, lambda obj: obj["status"].get("replicas") == 33)
        assert [each["spec"]["replicas"] for each in await sets_of(world)] == [20, 13]

    play(scenario, nodes=4)


def test_a_deployment_s_whole_life(play: Play) -> None:
    async def scenario(world: Any) -> None:
        created = await world.ok("POST", f"{NS}/deployments", deployment(2))
        assert created["metadata"]["resourceVersion"]
        await finished(world, lambda obj: obj["status"].get("readyReplicas") == 2)
        container = {"name": "httpd", "image": "pause"}
        spec = {"replicas": 1, "template": {"spec": {"terminationGracePeriodSeconds": 2, "containers": [container]}}}
        patched = await world.patch(ONE, {"metadata": {"labels": {"phase": "patched"}}, "spec": spec}, "strategic")
        assert int(patched["metadata"]["resourceVersion"]) > int(created["metadata"]["resourceVersion"])
        done = await finished(world)
        assert (image_of(done), done["status"].get("unavailableReplicas", 0)) == ("pause", 0)
        items = (await world.ok("GET", "/apis/apps/v1/deployments?labelSelector=e2e=testing"))["items"]
        assert [each["metadata"]["name"] for each in items] == ["test"]
        renewed = deployment(2, "webserver")
        renewed["metadata"]["labels"]["phase"] = "updated"
        await world.ok("PUT", ONE, renewed)
        status = await world.ok("GET", f"{ONE}/status")
        assert (image_of(status), status["metadata"]["labels"]["phase"]) == ("webserver", "updated")
        await finished(world)
        nothing = {"status": {"readyReplicas": 0, "availableReplicas": 0}}
        told = await world.patch(f"{ONE}/status", nothing, "strategic")
        assert not told["status"].get("readyReplicas")
        await finished(world, lambda obj: obj["status"].get("readyReplicas") == 2 and complete(obj))
        await world.ok("DELETE", f"{NS}/deployments?labelSelector=e2e=testing", {"gracePeriodSeconds": 1})
        await world.cluster.wait_gone(DEPLOYMENTS, "default", "test", timeout=60)

    play(scenario)


def test_what_others_write_into_the_status_can_be_read(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", f"{NS}/deployments", deployment())
        await finished(world)
        found = await world.ok("GET", f"{ONE}/status")
        mine = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from e2e test"}
        status = {**found["status"], "conditions": [*found["status"]["conditions"], mine]}
        updated = await world.ok("PUT", f"{ONE}/status", {**found, "status": status})
        assert updated["status"]["conditions"][-1]["type"] == "StatusUpdate"
        await world.clock.sleep(5)
        kept = (await world.ok("GET", ONE))["status"]["conditions"]
        assert {each["type"] for each in kept} == {"Available", "Progressing", "StatusUpdate"}
        patch = {"status": {"conditions": [{"type": "StatusPatched", "status": "True"}]}}
        patched = await world.patch(f"{ONE}/status", patch)
        assert [each["type"] for each in patched["status"]["conditions"]] == ["StatusPatched"]

    play(scenario)


@pytest.mark.parametrize("way", ["undo", "annotation"])
def test_an_earlier_revision_comes_back_with_its_replica_set(play: Play, way: str) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", f"{NS}/deployments", deployment())
        await finished(world)
        await set_image(world, "httpd")
        await finished(world)
        first, second = await sets_of(world)
        if way == "undo":
            await world.patch(ONE, [{"op": "replace", "path": "/spec/template", "value": template("agnhost")}], "json")
        else:
            await world.patch(ONE, {"metadata": {"annotations": {"deprecated.deployment.rollback.to": "1"}}})
        done = await finished(world, lambda obj: obj["metadata"]["annotations"][REVISION] == "3" and complete(obj))
        assert image_of(done) == "agnhost"
        older, newest = await sets_of(world)
        assert (older["metadata"]["name"], newest["metadata"]["name"]) == (
            second["metadata"]["name"],
            first["metadata"]["name"],
        )
        assert newest["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"] == "1"

    play(scenario)
