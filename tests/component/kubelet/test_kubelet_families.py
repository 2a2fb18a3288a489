"""A node of two IP families: its addresses, and those that its pods are told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

NODE = "nodes", "", "node-1"
FOUR, SIX = "10.0.0.1", "fd00::1"


def addresses(listed: Any) -> list[str]:
    return [entry["ip"] for entry in listed]


@pytest.mark.parametrize(
    ("own", "pods"), [((FOUR, SIX), ["10.1.0.2", "fd01::2"]), ((SIX, FOUR), ["fd01::2", "10.1.0.2"])]
)
def test_addresses_come_in_the_order_of_the_nodes(node: Any, pod: Any, own: tuple[str, str], pods: list[str]) -> None:
    node.config = replace(node.config, node_ips=own)
    node.runtime.networks = ("10.1.0.", "fd01::")

    async def scenario() -> None:
        async with node.running():
            facts = {"PODS": "status.podIPs", "POD": "status.podIP", "HOSTS": "status.hostIPs"}
            env = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in facts.items()]
            await node.create(pod(containers=[{"name": "main", "env": env}]))
            await node.until(node.is_phase("Running"))
            listed = node.api.objects[NODE]["status"]["addresses"]
            assert [one["address"] for one in listed if one["type"] == "InternalIP"] == list(own)
            status = node.status()
            assert (addresses(status["podIPs"]), addresses(status["hostIPs"])) == (pods, list(own))
            assert (status["podIP"], status["hostIP"]) == (pods[0], own[0])
            (run,) = node.runtime.runs.values()
            told = dict(run.spec.env)
            assert (told["PODS"], told["POD"], told["HOSTS"]) == (",".join(pods), pods[0], ",".join(own))

    node.clock.run(scenario())


def test_a_pod_in_the_nodes_network_gets_the_second_family_when_the_node_does(node: Any, pod: Any) -> None:
    async def scenario() -> None:
        async with node.running():
            await node.create(pod(hostNetwork=True))
            await node.until(node.is_phase("Running"))
            assert addresses(node.status()["podIPs"]) == [FOUR]
        node.config = replace(node.config, node_ips=(FOUR, SIX))
        async with node.running():
            await node.until(lambda: addresses(node.status()["podIPs"]) == [FOUR, SIX])
            listed = node.api.objects[NODE]["status"]["addresses"]
            assert [one["type"] for one in listed] == ["InternalIP", "InternalIP", "Hostname"]

    node.clock.run(scenario())
