"""Two nodes and their pods for tests: real namespaces of both IP versions, no containers."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tiphys.runtime import netns
from tiphys.runtime.node import ClusterNetwork, NodeNetwork, setup_cluster_network, teardown_cluster_network
from tiphys.runtime.types import SandboxSpec

Pod = tuple[str, tuple[str, ...]]
"""Its namespace and its addresses."""


@pytest.fixture(params=["ipv4", "dual", "ipv6"])
def families(request: pytest.FixtureRequest) -> str:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if request.param != "ipv4" and not Path("/proc/sys/net/ipv6").is_dir():
        pytest.skip("no IPv6")
    return str(request.param)


@pytest.fixture
def nodes(families: str, tmp_path: Path) -> Iterator[list[NodeNetwork]]:
    """Two of them."""
    number = random.randrange(146, 196)  # what clusters take for Services and pods is below and above
    ranges = {
        4: (f"10.{number}.0.0/24", f"10.{number}.128.0/17", 24),
        6: (f"fd00:{number}::/64", f"fd00:{number}:0:1000::/52", 64),
    }
    wanted = [ranges[version] for version in {"ipv4": (4,), "dual": (6, 4), "ipv6": (6,)}[families]]
    spaces, pods = tuple(one[0] for one in wanted), tuple(one[1] for one in wanted)
    cluster = ClusterNetwork(f"tl{number}", spaces, pods, tmp_path / "net", "us")
    assert setup_cluster_network(cluster) == []
    found = []
    for i in range(2):
        addresses = tuple(str(ip_network(space)[i + 2]) for space in spaces)
        cidrs = tuple(str(next(islice(ip_network(one[1]).subnets(new_prefix=one[2]), i + 1, None))) for one in wanted)
        found.append(NodeNetwork(cluster, f"n{i}", addresses, cidrs))
        assert found[-1].setup() == found[-1].setup() == []
    yield found
    for node in found:
        assert node.teardown() == []
    assert teardown_cluster_network(cluster) == []


@pytest.fixture
def pod(nodes: list[NodeNetwork], tmp_path: Path) -> Iterator[Callable[..., Pod]]:
    """pod(NAME, NODE) makes one."""
    made: list[Path] = []
    networks = [node.pod_network(tmp_path / f"addresses{number}") for number, node in enumerate(nodes)]

    def make(name: str, node: int, **fields: Any) -> Pod:
        space = tmp_path / name
        netns.persist(space)
        made.append(space)
        network = networks[node]
        addresses = asyncio.run(network.attach(SandboxSpec(name, **fields), str(space)))
        assert asyncio.run(network.attach(SandboxSpec(name, **fields), str(space))) == addresses
        return str(space), addresses

    yield make
    for space in made:
        netns.drop(space)


def listening(pod: Pod, address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = netns.socket_in(pod[0], family, socket.SOCK_DGRAM)
    opened.bind((address, 7000))
    opened.settimeout(2)
    return opened


def spoken(namespace: str | None, address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    opened = netns.socket_in(namespace or "/proc/self/ns/net", family, socket.SOCK_DGRAM)
    opened.sendto(b"hello", (address, 7000))
    return opened
