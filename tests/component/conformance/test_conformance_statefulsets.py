"""StatefulSets: updates, partitions, ordered and parallel scaling, lost pods, scale and status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiphys.client.resources import PODS, STATEFUL_SETS

Play = Callable[..., None]
NS = "/apis/apps/v1/namespaces/default"
CORE = "/api/v1/namespaces/default"
ONE = f"{NS}/statefulsets/ss"
LABELS = {"baz": "blah", "foo": "bar"}
REVISION = "controller-revision-hash"


def stateful_set(replicas: int = 3, **spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "webserver", "image": "httpd:1"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "ss"},
        "spec": {
            "replicas": replicas,
            "serviceName": "test",
            "selector": {"matchLabels": LABELS},
            "template": template,
            **spec,
        },
    }


def counted(count: int, **more: int) -> Callable[[Any], bool]:
    """Whether the status has caught up and counts so many pods, all available unless `more` says otherwise."""

    def check(obj: Any) -> bool:
        status = obj.get("status") or {}
        wanted = {"replicas": count, "availableReplicas": count, **more}
        seen = status.get("observedGeneration", 0) >= obj["metadata"]["generation"]
        return bool(seen and all(status.get(field, 0) == number for field, number in wanted.items()))

    return check


async def wait(world: Any, condition: Callable[[Any], bool]) -> Any:
    return await world.cluster.wait(STATEFUL_SETS, "default", "ss", condition, timeout=300)


async def pods_of(world: Any) -> list[Any]:
    found: list[Any] = (await world.ok("GET", f"{CORE}/pods?labelSelector=baz=blah,foo=bar"))["items"]
    return sorted(found, key=lambda pod: str(pod["metadata"]["name"]))


async def shown(world: Any) -> list[tuple[str, str]]:
    """(image, revision) of each pod in order."""
    return [
        (pod["spec"]["containers"][0]["image"], pod["metadata"]["labels"][REVISION]) for pod in await pods_of(world)
    ]


async def set_image(world: Any, image: str) -> None:
    body = {"spec": {"template": {"spec": {"containers": [{"name": "webserver", "image": image}]}}}}
    await world.patch(ONE, body, "strategic")


async def set_ready(world: Any, ready: bool) -> None:
    """Break or mend the readiness of all pods, those to come included."""
    world.cluster.nodes.ready = ready
    conditions = [{"type": type, "status": str(ready)} for type in ("Ready", "ContainersReady")]
    for pod in await pods_of(world):
        await world.patch(f"{CORE}/pods/{pod['metadata']['name']}/status", {"status": {"conditions": conditions}})


async def seen(world: Any, type: str, since: str) -> list[str]:
    """Names of the pods with events of that type since a revision."""
    watch = world.cluster.client.watch(PODS, "default", resource_version=since, timeout=1)
    return [event.object["metadata"]["name"] async for event in watch if event.type == type]


async def revision(world: Any) -> str:
    return str((await world.ok("GET", f"{CORE}/pods"))["metadata"]["resourceVersion"])


def test_updates_and_rollbacks_go_through_the_pods_in_reverse(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", f"{NS}/statefulsets", stateful_set())
        first = (await wait(world, counted(3)))["status"]
        assert first["currentRevision"] == first["updateRevision"]
        for image in ("httpd:2", "httpd:1"):
            since = await revision(world)
            await set_image(world, image)
            await wait(world, lambda obj: obj["status"]["currentRevision"] != obj["status"]["updateRevision"])
            done = await wait(
                world,
                lambda obj: (
                    counted(3, updatedReplicas=3)(obj)
                    and obj["status"]["currentRevision"] == obj["status"]["updateRevision"]
                ),
            )
            assert await shown(world) == [(image, done["status"]["updateRevision"])] * 3
            assert await seen(world, "DELETED", since) == ["ss-2", "ss-1", "ss-0"]
        assert done["status"]["currentRevision"] == first["currentRevision"]

    play(scenario)


def test_a_partition_makes_canaries_and_phases(play: Play) -> None:
    async def scenario(world: Any) -> None:
        async def partition(number: int) -> None:
            rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": number}}
            await world.patch(ONE, {"spec": {"updateStrategy": rolling}})

        held = {"type": "RollingUpdate", "rollingUpdate": {"partition": 3}}
        await world.ok("POST", f"{NS}/statefulsets", stateful_set(updateStrategy=held))
        old = ("httpd:1", (await wait(world, counted(3)))["status"]["currentRevision"])
        await set_image(world, "httpd:2")
        told = (await wait(world, lambda obj: obj["status"]["updateRevision"] != old[1]))["status"]
        new = ("httpd:2", told["updateRevision"])
        await world.clock.sleep(10)
        assert await shown(world) == [old] * 3
        await partition(2)
        await wait(world, counted(3, updatedReplicas=1, currentReplicas=2))
        assert await shown(world) == [old, old, new]
        for number in (0, 2):
            await world.ok("DELETE", f"{CORE}/pods/ss-{number}")
        await world.clock.sleep(5)
        await wait(world, counted(3))
        assert await shown(world) == [old, old, new]
        for number in (1, 0):
            await partition(number)
            await wait(world, counted(3, updatedReplicas=3 - number))
            assert await shown(world) == [old] * number + [new] * (3 - number)
        done = await wait(world, lambda obj: obj["status"]["currentRevision"] == new[1])
        assert done["status"]["updateRevision"] == new[1]

    play(scenario)


def test_scaling_is_in_order_and_halts_for_an_unhealthy_pod(play: Play) -> None:
    async def scenario(world: Any) -> None:
        since = await revision(world)
        await world.ok("POST", f"{NS}/statefulsets", stateful_set(1))
        await wait(world, counted(1))
        await set_ready(world, False)
        await wait(world, counted(1, readyReplicas=0, availableReplicas=0))
        await world.patch(ONE, {"spec": {"replicas": 3}})
        await world.clock.sleep(10)
        assert len(await pods_of(world)) == 1
        await set_ready(world, True)
        await wait(world, counted(3))
        assert await seen(world, "ADDED", since) == ["ss-0", "ss-1", "ss-2"]
        await set_ready(world, False)
        await wait(world, counted(3, readyReplicas=0, availableReplicas=0))
        await world.patch(ONE, {"spec": {"replicas": 0}})
        await world.clock.sleep(10)
        assert len(await pods_of(world)) == 3
        since = await revision(world)
        await set_ready(world, True)
        await wait(world, counted(0))
        assert await seen(world, "DELETED", since) == ["ss-2", "ss-1", "ss-0"]

    play(scenario)


def test_parallel_scaling_does_not_wait_for_unhealthy_pods(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", f"{NS}/statefulsets", stateful_set(1, podManagementPolicy="Parallel"))
        await wait(world, counted(1))
        await set_ready(world, False)
        await wait(world, counted(1, readyReplicas=0, availableReplicas=0))
        await world.patch(ONE, {"spec": {"replicas": 3}})
        await wait(world, counted(3, readyReplicas=0, availableReplicas=0))
        await set_ready(world, True)
        await wait(world, counted(3))
        await set_ready(world, False)
        await world.patch(ONE, {"spec": {"replicas": 0}})
        await wait(world, counted(0))

    play(scenario)


def test_a_pod_that_its_node_rejects_is_recreated_until_there_is_room(play: Play) -> None:
    async def scenario(world: Any) -> None:
        port = {"hostPort": 21017, "containerPort": 21017, "name": "conflict"}
        rival = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "test-pod"},
            "spec": {"nodeName": "node-1", "containers": [{"name": "c", "image": "agnhost", "ports": [port]}]},
        }
        await world.ok("POST", f"{CORE}/pods", rival)
        await world.cluster.wait(PODS, "default", "test-pod", lambda pod: pod["status"]["phase"] == "Running")
        rejected: set[str] = set()

        def reject(pod: Any) -> int | None:
            if pod["metadata"]["name"] != "ss-0" or len(rejected) == 3:
                return None
            rejected.add(pod["metadata"]["uid"])
            return 1

        world.cluster.nodes.outcome = reject
        wanted = stateful_set(1)
        wanted["spec"]["template"]["spec"] |= {
            "nodeName": "node-1",
            "containers": [{"name": "webserver", "image": "httpd:1", "ports": [port]}],
        }
        since = await revision(world)
        await world.ok("POST", f"{NS}/statefulsets", wanted)
        await world.clock.sleep(30)
        assert await seen(world, "DELETED", since) == ["ss-0"] * 3
        await world.ok("DELETE", f"{CORE}/pods/test-pod", {"gracePeriodSeconds": 0})
        await wait(world, counted(1))
        (pod,) = await pods_of(world)
        assert pod["status"]["phase"] == "Running"
        assert pod["metadata"]["uid"] not in rejected

    play(scenario)


def test_the_scale_subresource_sets_and_tells_the_size(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", f"{NS}/statefulsets", stateful_set(1))
        await wait(world, counted(1))
        scale = await world.ok("GET", f"{ONE}/scale")
        assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (1, 1)
        del scale["metadata"]["resourceVersion"]
        updated = await world.ok("PUT", f"{ONE}/scale", {**scale, "spec": {"replicas": 2}})
        assert updated["spec"]["replicas"] == 2
        assert (await world.ok("GET", ONE))["spec"]["replicas"] == 2
        await world.patch(f"{ONE}/scale", {"spec": {"replicas": 4}}, "strategic")
        assert (await world.ok("GET", ONE))["spec"]["replicas"] == 4
        await wait(world, counted(4))

    play(scenario)


def test_sets_are_listed_patched_and_deleted_as_a_collection(play: Play) -> None:
    async def scenario(world: Any) -> None:
        created = await world.ok("POST", f"{NS}/statefulsets", stateful_set(1))
        await wait(world, counted(1))
        container = {"name": "webserver", "image": "pause"}
        spec = {"replicas": 2, "template": {"spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}}}
        body = {"metadata": {"labels": {"test-ss": "patched"}}, "spec": spec}
        patched = await world.patch(ONE, body, "strategic")
        assert int(patched["metadata"]["resourceVersion"]) > int(created["metadata"]["resourceVersion"])
        await wait(world, counted(2, updatedReplicas=2))
        assert [image for image, _ in await shown(world)] == ["pause", "pause"]
        chosen = "labelSelector=test-ss=patched"
        assert len((await world.ok("GET", f"/apis/apps/v1/statefulsets?{chosen}"))["items"]) == 1
        await world.ok("DELETE", f"{NS}/statefulsets?{chosen}", {"gracePeriodSeconds": 1})
        assert not (await world.ok("GET", f"/apis/apps/v1/statefulsets?{chosen}"))["items"]

    play(scenario)


def test_what_others_write_into_the_status_can_be_read(play: Play) -> None:
    async def scenario(world: Any) -> None:
        await world.ok("POST", f"{NS}/statefulsets", stateful_set(1))
        await wait(world, counted(1))
        found = await world.ok("GET", f"{ONE}/status")
        mine = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from e2e test"}
        updated = await world.ok("PUT", f"{ONE}/status", {**found, "status": {**found["status"], "conditions": [mine]}})
        kept = updated["status"]["conditions"]
        assert mine.items() <= kept[0].items()
        await world.clock.sleep(5)
        assert (await world.ok("GET", ONE))["status"]["conditions"] == kept
        patch = {"status": {"conditions": [{"type": "StatusPatched", "status": "True"}]}}
        patched = await world.patch(f"{ONE}/status", patch)
        assert [each["type"] for each in patched["status"]["conditions"]] == ["StatusPatched"]

    play(scenario)
