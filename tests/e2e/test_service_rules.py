"""The Service proxy's rules with real packets: a node of network namespaces, no cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.service_network import (
    Machine,
    Rules,
    ask,
    endpoints,
    machine,
    service,
)

pytestmark = pytest.mark.e2e

VIP = "10.96.0.10"


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path) as made:
        yield made


@pytest.fixture
def rules(net: Machine) -> Iterator[Rules]:
    made = Rules(net.nftables)
    yield made
    made.writer.close()


def test_a_pod_reaches_a_pod_by_the_cluster_ip_and_keeps_its_address(net: Machine, rules: Rules) -> None:
    near, far = net.server(), net.server(remote=True)
    here, own = net.pod()
    rules.put(service(), endpoints(near))
    assert ask(here, VIP, 80) == (near, own)
    rules.put(service(), endpoints(far))
    assert ask(here, VIP, 80) == (far, own)
