"""Which tracked flows of UDP Services are stale."""

from __future__ import annotations

import pytest

from tiphys.base.conntrack import Flow, end, end_text
from tiphys.proxy.conntrack.stale import Frontends, UdpPort

CLUSTER_IP, EXTERNAL_IP, LOAD_BALANCER = "172.30.1.1", "172.30.1.2", "172.30.1.3"
NODE, OTHER_NODE, CLIENT = "192.168.0.1", "192.168.0.2", "10.0.0.7"
SERVING, GONE = "10.240.0.4", "10.240.2.6"
ADDRESSES = (CLUSTER_IP, EXTERNAL_IP, LOAD_BALANCER)
PORT = UdpPort(ADDRESSES, 8000, 32000, frozenset({(SERVING, 9000)}))


def flow(destination: str, port: int, answerer: str, answering_port: int) -> Flow:
    source = end(CLIENT, 40000)
    return Flow(17, source, end(destination, port), end(answerer, answering_port), source, b"")


def stale(*flows: Flow, port: UdpPort = PORT, nodes: tuple[str, ...] | None = None) -> list[str]:
    return [f"{end_text(one.destination)}>{end_text(one.answerer)}" for one in Frontends([port], nodes).stale(flows)]


@pytest.mark.parametrize("address", ADDRESSES)
def test_what_leads_to_an_endpoint_that_does_not_serve_is_stale(address: str) -> None:
    flows = [flow(address, 8000, SERVING, 9000), flow(address, 8000, GONE, 9000), flow(address, 8001, GONE, 9000)]
    assert stale(*flows) == [f"{address}:8000>{GONE}:9000"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_endpoint_that_changed_its_port_leaves_stale_flows(address: str) -> None:
    assert stale(flow(address, 8000, SERVING, 5000)) == [f"{address}:8000>{SERVING}:5000"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_what_was_never_translated_is_stale_once_there_is_an_endpoint(address: str) -> None:
    untranslated = flow(address, 8000, address, 8000)
    assert stale(untranslated) == [f"{address}:8000>{address}:8000"]
    assert stale(untranslated, port=UdpPort(ADDRESSES, 8000, 32000, frozenset())) == []


def test_a_service_without_endpoints_has_no_stale_flows() -> None:
    empty = UdpPort(ADDRESSES, 8000, 32000, frozenset())
    assert stale(flow(CLUSTER_IP, 8000, GONE, 9000), flow(NODE, 32000, GONE, 9000), port=empty) == []
    assert not Frontends([empty])


def test_node_ports_count_on_every_address_unless_they_are_known() -> None:
    flows = [flow(one, 32000, GONE, 9000) for one in (NODE, OTHER_NODE)] + [flow(NODE, 32000, SERVING, 9000)]
    assert stale(*flows) == [f"{one}:32000>{GONE}:9000" for one in (NODE, OTHER_NODE)]
    assert stale(*flows, nodes=(NODE,)) == [f"{NODE}:32000>{GONE}:9000"]


def test_flows_of_others_stay() -> None:
    assert stale(flow("8.8.8.8", 53, "8.8.8.8", 53), flow(CLUSTER_IP, 53, GONE, 53)) == []


def test_ipv6_is_no_different() -> None:
    port = UdpPort(("fd00::10",), 53, 32000, frozenset({("fd01::5", 5353)}))
    good, bad = flow("fd00::10", 53, "fd01::5", 5353), flow("fd00::10", 53, "fd01::6", 5353)
    assert stale(good, bad, port=port) == ["[fd00::10]:53>[fd01::6]:5353"]
