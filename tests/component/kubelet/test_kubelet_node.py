"""A node's object and lease: registration, what is put right when it is there already, conditions and their events."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tiphys.base.errors import NotFound
from tiphys.client.resources import LEASES, NODES
from tiphys.runtime import types as rt

NODE = "nodes", "", "node-1"
LEASE = "leases", "kube-node-lease", "node-1"


def told(node: Any) -> list[tuple[str, str]]:
    """(reason, message) of the events about the node."""
    return [
        (event["reason"], event["message"])
        for (plural, _, _), event in node.api.objects.items()
        if plural == "events" and event["involvedObject"]["kind"] == "Node"
    ]


def reasons(node: Any) -> list[str]:
    return [reason for reason, _ in told(node)]


def ready(node: Any) -> dict[str, Any]:
    conditions = node.api.objects[NODE]["status"]["conditions"]
    assert conditions[-1]["type"] == "Ready"
    return dict(conditions[-1])


def patches(node: Any) -> int:
    return len([one for one in node.api.log if one[:2] == ("patch", "nodes/node-1")])


def test_a_new_node_registers_with_all_it_is_told(node: Any) -> None:
    node.config = replace(
        node.config,
        node_labels={"example.com/rack": "7"},
        register_with_taints=({"key": "fresh", "value": "yes", "effect": "NoSchedule"},),
        provider_id="cloud://1",
        register_schedulable=False,
    )

    async def scenario() -> None:
        async with node.running():
            await node.until(lambda: NODE in node.api.objects and LEASE in node.api.objects)
            made = node.api.objects[NODE]
            assert made["spec"]["taints"] == [{"key": "fresh", "value": "yes", "effect": "NoSchedule"}]
            assert (made["spec"]["providerID"], made["spec"]["unschedulable"]) == ("cloud://1", True)
            labels = made["metadata"]["labels"]
            assert labels["kubernetes.io/hostname"] == "node-1"
            assert labels["example.com/rack"] == "7"
            await node.until(lambda: "NodeReady" in reasons(node))
            wanted = ["NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID", "NodeReady"]
            assert [one for one in reasons(node) if one in wanted] == wanted
            assert ("Starting", "Starting kubelet.") in told(node)
            assert ("NodeReady", "Node node-1 status is now: NodeReady") in told(node)

    node.clock.run(scenario())


def test_a_node_that_is_there_keeps_what_others_gave_it(node: Any) -> None:
    async def scenario() -> None:
        await node.api.create(
            NODES,
            {
                "metadata": {"name": "node-1", "labels": {"theirs": "x", "kubernetes.io/os": "plan9"}},
                "spec": {"taints": [{"key": "theirs", "effect": "NoSchedule"}]},
                "status": {"nodeInfo": {"bootID": "before"}, "capacity": {"example.com/gpu": "4", "cpu": "1"}},
            },
        )
        async with node.running():
            await node.until(lambda: "NodeReady" in reasons(node))
            found = node.api.objects[NODE]
            assert found["metadata"]["labels"]["theirs"] == "x"
            assert found["metadata"]["labels"]["kubernetes.io/os"] == "linux"
            attach = "volumes.kubernetes.io/controller-managed-attach-detach"
            assert found["metadata"]["annotations"][attach] == "true"
            assert found["spec"]["taints"] == [{"key": "theirs", "effect": "NoSchedule"}]
            boot = found["status"]["nodeInfo"]["bootID"]
            assert ("Rebooted", f"Node node-1 has been rebooted, boot id: {boot}") in told(node)

    node.clock.run(scenario())


def test_a_restart_does_not_say_again_that_the_node_is_ready(node: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.until(lambda: "NodeReady" in reasons(node))
        async with node.running():
            await node.until(lambda: reasons(node).count("Starting") == 1 and node.clock.monotonic() > 5, 60)
            await node.clock.sleep(30)
            assert reasons(node).count("NodeReady") == 1

    node.clock.run(scenario())


def test_a_runtime_that_is_down_makes_the_node_unready(node: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.until(lambda: ready(node)["status"] == "True")

            async def broken() -> list[rt.Image]:
                raise rt.RuntimeFailure("the store is gone")

            works, node.runtime.images.list = node.runtime.images.list, broken
            await node.until(lambda: ready(node)["status"] == "False", 15)
            assert (ready(node)["reason"], ready(node)["message"]) == ("KubeletNotReady", "container runtime is down")
            await node.until(lambda: "NodeNotReady" in reasons(node))
            node.runtime.images.list = works
            await node.until(lambda: ready(node)["status"] == "True", 15)

    node.clock.run(scenario())


def test_the_lease_is_renewed_and_made_again(node: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.until(lambda: LEASE in node.api.objects)
            lease = node.api.objects[LEASE]
            assert lease["spec"]["leaseDurationSeconds"] == 40
            assert lease["metadata"]["ownerReferences"][0]["name"] == "node-1"
            before = lease["spec"]["renewTime"]
            took = await node.until(lambda: node.api.objects[LEASE]["spec"]["renewTime"] != before, 15)
            assert 9.5 <= took <= 10.5
            await node.api.delete(LEASES, "node-1", "kube-node-lease")
            await node.until(lambda: LEASE in node.api.objects, 15)

    node.clock.run(scenario())


def test_a_status_that_does_not_change_is_written_seldom(node: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.until(lambda: ready(node)["status"] == "True")
            await node.clock.sleep(60)
            before = patches(node)
            await node.clock.sleep(3600)
            assert 11 <= patches(node) - before <= 13

    node.clock.run(scenario())


def test_cordoning_is_told(node: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.until(lambda: ready(node)["status"] == "True")
            await node.clock.sleep(1)
            await node.api.patch(NODES, "node-1", {"spec": {"unschedulable": True}})
            await node.until(lambda: "NodeNotSchedulable" in reasons(node), 10)
            await node.api.patch(NODES, "node-1", {"spec": {"unschedulable": False}})
            await node.until(lambda: "NodeSchedulable" in reasons(node), 10)

    node.clock.run(scenario())


def test_volumes_in_use_are_reported_until_they_are_not(node: Any) -> None:
    async def scenario() -> None:
        async with node.running() as kubelet:
            await node.until(lambda: ready(node)["status"] == "True")
            kubelet.agent.volumes_in_use = lambda: ["kubernetes.io/csi/driver^two", "kubernetes.io/csi/driver^one"]
            kubelet.agent.poke()
            wanted = ["kubernetes.io/csi/driver^one", "kubernetes.io/csi/driver^two"]
            await node.until(lambda: node.api.objects[NODE]["status"].get("volumesInUse") == wanted, 5)
            kubelet.agent.volumes_in_use = tuple
            kubelet.agent.poke()
            await node.until(lambda: not node.api.objects[NODE]["status"]["volumesInUse"], 5)

    node.clock.run(scenario())


def test_a_node_that_may_not_register_waits_to_be_made(node: Any) -> None:
    node.config = replace(node.config, register_node=False)

    async def scenario() -> None:
        async with node.running():
            await node.clock.sleep(30)
            assert NODE not in node.api.objects
            await node.api.create(NODES, {"metadata": {"name": "node-1"}, "spec": {}, "status": {}})
            await node.until(lambda: ready(node)["status"] == "True", 15)

    node.clock.run(scenario())


def test_the_largest_images_are_listed(node: Any) -> None:
    node.config = replace(node.config, max_images=3)

    async def scenario() -> None:
        for size in range(10):
            tags = tuple(f"image-{size}:{tag}" for tag in range(8))
            node.runtime.images.shown.append(rt.Image(f"sha256:{size}", tags, (), size, rt.ImageConfig()))
        async with node.running():
            await node.until(lambda: ready(node)["status"] == "True")
            listed = node.api.objects[NODE]["status"]["images"]
            assert [one["sizeBytes"] for one in listed] == [9, 8, 7]
            assert len(listed[0]["names"]) == 5

    node.clock.run(scenario())


def test_a_node_that_is_deleted_is_not_made_again_while_the_kubelet_runs(node: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.until(lambda: ready(node)["status"] == "True")
            await node.api.delete(NODES, "node-1")
            await node.clock.sleep(120)
            try:
                await node.api.get(NODES, "node-1")
            except NotFound:
                return
            raise AssertionError("it is back")

    node.clock.run(scenario())


def test_resources_that_others_announce_are_kept_and_allocatable(node: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.until(lambda: ready(node)["status"] == "True")
            await node.clock.sleep(1)
            held = node.api.objects[NODE]["status"]["capacity"]
            more = {"status": {"capacity": {**held, "example.com/dongle": "4"}}}
            await node.api.patch(NODES, "node-1", more, subresource="status")
            await node.clock.sleep(60)
            status = node.api.objects[NODE]["status"]
            assert status["capacity"]["example.com/dongle"] == "4"
            assert status["allocatable"]["example.com/dongle"] == "4"
            before = patches(node)
            await node.clock.sleep(100)
            assert patches(node) - before <= 1

    node.clock.run(scenario())
