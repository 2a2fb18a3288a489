"""Third-party plugins connect sandboxes: Debian's containernetworking-plugins, and a small one that misbehaves."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.runtime.test_host_ports import answering, ask
from tiphys.runtime import netns
from tiphys.runtime.cni import plugins
from tiphys.runtime.cni.conf import CniError
from tiphys.runtime.cni.network import CniNetwork
from tiphys.runtime.cni.plugins import Place
from tiphys.runtime.connectivity import PortMapping
from tiphys.runtime.node import ClusterNetwork, NodeNetwork, setup_cluster_network, teardown_cluster_network
from tiphys.runtime.types import SandboxSpec, SandboxStatus, State

pytestmark = pytest.mark.e2e
DEBIAN = Path("/usr/lib/cni")

PLUGIN = """#!/bin/sh
config=$(cat)
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_ARGS $config" >> "$(dirname "$0")/calls"
cat "$(dirname "$0")/answer-$CNI_COMMAND" 2>/dev/null
exec sh -c "$(cat "$(dirname "$0")/then-$CNI_COMMAND" 2>/dev/null || echo true)"
"""


class World:
    """A node whose pods are connected by plugins."""

    def __init__(self, node: NodeNetwork, path: Path) -> None:
        self.node, self.path = node, path
        self.conf, self.own = path / "conf", path / "bin"
        for directory in (self.conf, self.own):
            directory.mkdir()
        (self.own / "fake").write_text(PLUGIN)
        (self.own / "fake").chmod(0o755)
        self.answer("VERSION", {"cniVersion": "1.1.0", "supportedVersions": ["0.4.0", "1.0.0", "1.1.0"]})
        self.answer("ADD", {"cniVersion": "1.1.0", "ips": [{"address": "10.1.2.3/24"}]})
        self.spaces: list[Path] = []

    def network(self) -> CniNetwork:
        place = Place((self.own, DEBIAN), self.node.namespace)
        return CniNetwork(place, self.conf, self.path / "state", self.node.pod_cidrs, lambda spec: {"POD": spec.id})

    def configure(self, *listed: dict[str, Any], version: str = "1.0.0") -> None:
        content = {"cniVersion": version, "name": self.node.cluster.bridge, "plugins": list(listed)}
        (self.conf / "10-net.conflist").write_text(json.dumps(content))

    def answer(self, command: str, content: Any, then: str = "") -> None:
        (self.own / f"answer-{command}").write_text(json.dumps(content))
        (self.own / f"then-{command}").write_text(then or "true")

    def calls(self) -> list[tuple[str, dict[str, Any]]]:
        """What the fake plugin was called for, and with what, but for VERSION."""
        lines = (self.own / "calls").read_text().splitlines() if (self.own / "calls").exists() else []
        split = [line.partition("{") for line in lines]
        return [(head.split()[0], json.loads("{" + tail)) for head, _, tail in split if not head.startswith("VERSION")]

    def space(self, name: str) -> str:
        path = self.path / f"space-{name}"
        netns.persist(path)
        self.spaces.append(path)
        return str(path)

    def devices(self) -> set[str]:
        with netns.netlink_in(self.node.namespace) as link:
            return set(link.links())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    number = random.randrange(100, 200)
    cluster = ClusterNetwork(
        f"tc{number}", (f"10.{number}.0.0/24",), (f"10.{number}.128.0/17",), tmp_path / "net", "us"
    )
    assert setup_cluster_network(cluster) == []
    node = NodeNetwork(cluster, "n", (f"10.{number}.0.2",), (f"10.{number}.129.0/24",), others=True)
    assert node.setup() == []
    made = World(node, tmp_path)
    yield made
    for space in [*made.spaces, *(tmp_path / "state" / "netns").glob("*")]:
        netns.drop(space)
    assert node.teardown() + teardown_cluster_network(cluster) == []


def debian(*names: str) -> None:
    if not all((DEBIAN / name).exists() for name in names):
        pytest.skip("needs containernetworking-plugins")


def spec(name: str, **fields: Any) -> SandboxSpec:
    return SandboxSpec(name, **fields)


@pytest.mark.parametrize("kind", ["bridge", "ptp"])
def test_debians_plugins_connect_pods(world: World, kind: str) -> None:
    debian(kind, "host-local", "portmap")
    main: dict[str, Any] = {"type": kind, "ipMasq": False, "capabilities": {"ipRanges": True}}
    main["ipam"] = {"type": "host-local", "dataDir": str(world.path / "ipam"), "routes": [{"dst": "0.0.0.0/0"}]}
    if kind == "bridge":
        main |= {"bridge": "cni0", "isGateway": True}
    world.configure(main, {"type": "portmap", "backend": "iptables", "capabilities": {"portMappings": True}})

    async def scenario() -> None:
        network = world.network()
        assert await network.problems() == ()
        before = world.devices()
        pods = {}
        for name in ("a", "b"):
            space = world.space(name)
            pods[name] = space, await network.attach(spec(name), space)
        with answering(pods["a"], "a", 8080):
            assert await asyncio.to_thread(ask, pods["b"][0], pods["a"][1][0], 8080) == f"a {pods['b'][1][0]}"
            # The plugin's bridge changes its hardware address with its ports: a pod may have to ask for it again.
            answers = [await asyncio.to_thread(ask, "/proc/self/ns/net", pods["a"][1][0], 8080) for _ in range(5)]
            assert any(answer.startswith("a ") for answer in answers)
        # Another process goes on with what the first has done.
        again = world.network()
        await again.keep([SandboxStatus(spec("a"), State.RUNNING, pods["a"][1])])
        assert not (world.path / "state" / "b.json").exists()
        await again.detach("a")
        await again.detach("a")
        assert world.devices() - before <= {"cni0"}
        assert not list((world.path / "ipam").rglob("10.*"))
        assert not list((world.path / "state").glob("*.json"))
        assert not list((world.path / "state" / "netns").iterdir())

    asyncio.run(scenario())


def test_plugins_hear_of_each_other_and_of_the_sandbox(world: World) -> None:
    world.configure(
        {"type": "fake", "first": 1}, {"type": "fake", "capabilities": {"portMappings": True}}, version="1.1.0"
    )

    async def scenario() -> None:
        network = world.network()
        ports = (PortMapping("tcp", 80, 8080),)
        assert await network.attach(spec("box", ports=ports), world.space("box")) == ("10.1.2.3",)
        await network.keep([SandboxStatus(spec("box"), State.RUNNING)])
        await network.detach("box")

    asyncio.run(scenario())
    calls = world.calls()
    assert [command for command, _ in calls] == ["ADD", "ADD", "CHECK", "CHECK", "GC", "GC", "DEL", "DEL"]
    first, second = calls[0][1], calls[1][1]
    assert "prevResult" not in first
    assert second["prevResult"]["ips"] == [{"address": "10.1.2.3/24"}]
    assert second["runtimeConfig"] == {"portMappings": [{"hostPort": 80, "containerPort": 8080, "protocol": "tcp"}]}
    assert calls[4][1]["cni.dev/valid-attachments"] == [{"containerID": "box", "ifname": "eth0"}]
    assert [("first" in config, config["prevResult"]["ips"][0]["address"]) for _, config in calls[-2:]] == [
        (False, "10.1.2.3/24"),
        (True, "10.1.2.3/24"),
    ]
    line = (world.own / "calls").read_text().splitlines()[1]
    assert "ADD box eth0 IgnoreUnknown=1;POD=box " in line


def test_a_plugin_that_fails_is_undone_and_told(world: World) -> None:
    world.configure({"type": "fake"}, version="0.4.0")
    world.answer("ADD", {"code": 11, "msg": "no room", "details": "at all"}, "exit 1")

    async def scenario() -> None:
        network = world.network()
        words = r'failed to setup network for sandbox "box": plugin type="fake" failed \(add\): no room; at all'
        with pytest.raises(CniError, match=words):
            await network.attach(spec("box"), world.space("box"))
        assert [command for command, _ in world.calls()] == ["ADD", "DEL"]
        assert not (world.path / "state" / "box.json").exists()

    asyncio.run(scenario())


def test_what_cannot_be_undone_yet_is_remembered(world: World) -> None:
    world.configure({"type": "fake"})

    async def scenario() -> None:
        network = world.network()
        await network.attach(spec("box"), world.space("box"))
        world.answer("DEL", {"code": 11, "msg": "try later"}, "exit 1")
        with pytest.raises(CniError, match="try later"):
            await network.detach("box")
        world.configure({"type": "other"})
        world.answer("DEL", {})
        await world.network().keep([])
        assert [command for command, _ in world.calls()] == ["ADD", "DEL", "DEL"]
        assert not (world.path / "state" / "box.json").exists()

    asyncio.run(scenario())


def test_a_plugin_that_hangs_ends_with_its_helpers(world: World) -> None:
    world.answer("ADD", {}, "sleep 1000 & sleep 1000")
    place = Place((world.own,), world.node.namespace)
    with pytest.raises(CniError, match=r"failed \(add\): no answer in 0 s"):
        plugins.call(place, "ADD", {"type": "fake"}, plugins.Attachment("x"), timeout=0.3)


def test_why_no_pod_can_be_connected_is_said(world: World) -> None:
    start = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:"

    def problem() -> str:
        (found,) = asyncio.run(world.network().problems())
        assert found.startswith(start)
        return found.removeprefix(start)

    assert problem() == "Network plugin returns error: cni plugin not initialized"
    world.configure({"type": "missing"})
    assert 'failed to find plugin "missing" in path' in problem()
    world.configure({"type": "fake"}, version="0.3.1")
    assert 'plugin "fake" does not support version 0.3.1, only 0.4.0, 1.0.0, 1.1.0' in problem()
    world.configure({"type": "fake"}, version="1.1.0")
    assert asyncio.run(world.network().problems()) == ()
    world.answer("STATUS", {"code": 50, "msg": "not yet"}, "exit 1")
    assert problem() == 'Network plugin returns error: plugin type="fake" failed (status): not yet'
