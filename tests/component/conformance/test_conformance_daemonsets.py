"""DaemonSets and the ControllerRevisions that keep their templates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiphys.client.resources import DAEMON_SETS, PODS
from tiphys.controllers.objects import template_hash

Play = Callable[..., None]
NS = "/apis/apps/v1/namespaces/default"
CORE = "/api/v1/namespaces/default"
ONE = f"{NS}/daemonsets/daemon-set"
LABELS = {"daemonset-name": "daemon-set"}
CHOSEN = "labelSelector=daemonset-name=daemon-set"
COLOR = "daemonset-color"
HASH = "controller-revision-hash"


def daemon_set(image: str = "agnhost:2", **pod: Any) -> dict[str, Any]:
    container = {"name": "app", "image": image, "ports": [{"containerPort": 9376}]}
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [container], **pod}}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "daemon-set", "labels": LABELS},
        "spec": {"selector": {"matchLabels": LABELS}, "template": template},
    }


def scheduled(count: int) -> Callable[[Any], bool]:
    def check(obj: Any) -> bool:
        status = obj.get("status") or {}
        names = ("desiredNumberScheduled", "currentNumberScheduled", "updatedNumberScheduled", "numberAvailable")
        seen = status.get("observedGeneration", 0) >= obj["metadata"]["generation"]
        return seen and all(status.get(name, 0) == count for name in names)

    return check


async def wait(world: Any, count: int) -> Any:
    return await world.cluster.wait(DAEMON_SETS, "default", "daemon-set", scheduled(count), timeout=300)


async def pods_of(world: Any) -> dict[str, Any]:
    """Its pods by node."""
    items = (await world.ok("GET", f"{CORE}/pods?{CHOSEN}"))["items"]
    return {pod["spec"].get("nodeName", ""): pod for pod in items if not pod["metadata"].get("deletionTimestamp")}


async def revisions(world: Any) -> list[Any]:
    found: list[Any] = (await world.ok("GET", f"{NS}/controllerrevisions?{CHOSEN}"))["items"]
    return sorted(found, key=lambda each: int(each["revision"]))


async def set_image(world: Any, image: str) -> None:
    await world.patch(
        ONE, {"spec": {"template": {"spec": {"containers": [{"name": "app", "image": image}]}}}}, "strategic"
    )


def test_a_pod_on_every_node_is_revived(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", f"{NS}/daemonsets", daemon_set())
        await wait(world, 2)
        before = await pods_of(world)
        assert set(before) == {"node-1", "node-2"}
        await world.ok("DELETE", f"{CORE}/pods/{before['node-1']['metadata']['name']}")
        await world.clock.sleep(35)
        await wait(world, 2)
        after = await pods_of(world)
        assert after["node-1"]["metadata"]["uid"] != before["node-1"]["metadata"]["uid"]
        assert after["node-2"]["metadata"]["uid"] == before["node-2"]["metadata"]["uid"]

    play(scenario)


def test_pods_follow_the_labels_of_nodes(play: Play) -> None:
    async def scenario(world: Any) -> None:
        async def paint(color: str) -> None:
            await world.patch("/api/v1/nodes/node-1", {"metadata": {"labels": {COLOR: color}}})

        await world.ok("POST", f"{NS}/daemonsets", daemon_set(nodeSelector={COLOR: "blue"}))
        await wait(world, 0)
        assert not await pods_of(world)
        await paint("blue")
        await wait(world, 1)
        assert list(await pods_of(world)) == ["node-1"]
        await paint("green")
        await wait(world, 0)
        assert not await pods_of(world)
        spec = {"template": {"spec": {"nodeSelector": {COLOR: "green"}}}, "updateStrategy": {"type": "RollingUpdate"}}
        await world.patch(ONE, {"spec": spec}, "strategic")
        await wait(world, 1)
        assert list(await pods_of(world)) == ["node-1"]

    play(scenario)


def test_a_failed_pod_is_deleted_and_made_anew(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", f"{NS}/daemonsets", daemon_set())
        await wait(world, 2)
        failed = (await pods_of(world))["node-1"]
        name = failed["metadata"]["name"]
        await world.patch(f"{CORE}/pods/{name}/status", {"status": {"phase": "Failed"}})
        await world.cluster.wait_gone(PODS, "default", name, timeout=60)
        await wait(world, 2)
        events = (await world.ok("GET", f"{CORE}/events"))["items"]
        told = next(event for event in events if event["reason"] == "FailedDaemonPod")
        assert told["message"] == f"Found failed daemon pod default/{name} on node node-1, will try to kill it"
        assert told["type"] == "Warning"

    play(scenario)


def test_an_update_is_carried_to_every_node_and_kept_as_a_revision(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", f"{NS}/daemonsets", daemon_set())
        for number, image in ((1, "agnhost:2"), (2, "agnhost:1")):
            await set_image(world, image)
            await wait(world, 2)
            found = await revisions(world)
            assert [each["revision"] for each in found] == list(range(1, number + 1))
            pods = (await pods_of(world)).values()
            assert {pod["spec"]["containers"][0]["image"] for pod in pods} == {image}
            assert {pod["metadata"]["labels"][HASH] for pod in pods} == {found[-1]["metadata"]["labels"][HASH]}

    play(scenario)


def test_a_rollback_amid_a_rollout_leaves_untouched_pods_alone(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", f"{NS}/daemonsets", daemon_set())
        await wait(world, 3)
        world.cluster.nodes.ready = False
        await set_image(world, "foo:non-existent")
        await world.clock.sleep(60)
        before = await pods_of(world)
        kept = {
            pod["metadata"]["name"] for pod in before.values() if "foo" not in pod["spec"]["containers"][0]["image"]
        }
        assert len(kept) == 2
        world.cluster.nodes.ready = True
        await set_image(world, "agnhost:2")
        await wait(world, 3)
        assert kept < {pod["metadata"]["name"] for pod in (await pods_of(world)).values()}

    play(scenario, nodes=3)


def test_sets_are_listed_and_deleted_as_a_collection(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", f"{NS}/daemonsets", daemon_set())
        await wait(world, 2)
        assert len((await world.ok("GET", f"/apis/apps/v1/daemonsets?{CHOSEN}"))["items"]) == 1
        await world.ok("DELETE", f"{NS}/daemonsets?{CHOSEN}", {"gracePeriodSeconds": 1})
        assert not (await world.ok("GET", f"/apis/apps/v1/daemonsets?{CHOSEN}"))["items"]
        await world.clock.sleep(60)
        assert not await pods_of(world)
        assert not await revisions(world)

    play(scenario)


def test_what_others_write_into_the_status_can_be_read(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", f"{NS}/daemonsets", daemon_set())
        await wait(world, 2)
        found = await world.ok("GET", f"{ONE}/status")
        mine = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from e2e test"}
        updated = await world.ok("PUT", f"{ONE}/status", {**found, "status": {**found["status"], "conditions": [mine]}})
        kept = updated["status"]["conditions"]
        assert mine.items() <= kept[0].items()
        await world.patch("/api/v1/nodes/node-1", {"metadata": {"labels": {"new": "label"}}})
        await world.clock.sleep(5)
        assert (await world.ok("GET", ONE))["status"]["conditions"] == kept
        patch = {"status": {"conditions": [{"type": "StatusPatched", "status": "True"}]}}
        patched = await world.patch(f"{ONE}/status", patch)
        assert [each["type"] for each in patched["status"]["conditions"]] == ["StatusPatched"]

    play(scenario)


def test_revisions_are_listed_patched_created_and_deleted(play: Play) -> None:
    async def scenario(world: Any) -> None:
        url = f"{NS}/controllerrevisions"
        await world.ok("POST", f"{NS}/daemonsets", daemon_set())
        owner = await wait(world, 2)
        (first,) = (await world.ok("GET", f"/apis/apps/v1/controllerrevisions?{CHOSEN}"))["items"]
        name = first["metadata"]["name"]
        assert first["metadata"]["ownerReferences"][0]["uid"] == owner["metadata"]["uid"]
        patched = await world.patch(f"{url}/{name}", {"metadata": {"labels": {name: "patched"}}}, "strategic")
        assert patched["metadata"]["labels"][name] == "patched"
        template = owner["spec"]["template"]
        changed = {**template, "spec": {**template["spec"], "terminationGracePeriodSeconds": 1}}
        digest = template_hash(changed)
        meta = {
            "name": f"daemon-set-{digest}",
            "labels": {**LABELS, HASH: digest},
            "ownerReferences": first["metadata"]["ownerReferences"],
        }
        await world.ok("POST", url, {**first, "metadata": meta, "revision": first["revision"] + 1})
        assert len(await revisions(world)) == 2
        await world.ok("DELETE", f"{url}/{name}")
        (second,) = await revisions(world)
        other = second["metadata"]["name"]
        second["metadata"]["labels"][other] = "updated"
        assert (await world.ok("PUT", f"{url}/{other}", second))["metadata"]["labels"][other] == "updated"
        await world.patch(ONE, {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}}, "strategic")
        told = await wait(world, 2)
        assert told["status"]["collisionCount"] == 1
        assert [each["revision"] for each in await revisions(world)] == [2, 3]
        await world.ok("DELETE", f"{url}?labelSelector={other}=updated")
        assert [each["revision"] for each in await revisions(world)] == [3]

    play(scenario)
