"""The Service proxy's rules with real packets: a node of network namespaces, no cluster."""

from __future__ import annotations

import socket
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from e2e.service_network import (
    CLIENT,
    CONFIG,
    DROPPED,
    GATEWAY,
    GATEWAY_SIX,
    NODE,
    NODE_INSIDE,
    NODE_SIX,
    PATIENCE,
    REFUSED,
    SHORT,
    Machine,
    Rules,
    ask,
    endpoints,
    machine,
    service,
    six,
)
from tiphys.proxy.services.config import BALANCING, ROUND_ROBIN, ProxyConfig
from tiphys.proxy.services.facts import IPV4
from tiphys.runtime import netns

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


def test_the_choice_among_endpoints_is_even(net: Machine, rules: Rules) -> None:
    servers = [net.server(), net.server(), net.server(remote=True)]
    here, _ = net.pod()
    rules.put(service(metadata={"annotations": {BALANCING: ROUND_ROBIN}}), endpoints(*servers))
    assert Counter(ask(here, VIP, 80)[0] for _ in range(12)) == dict.fromkeys(servers, 4)
    rules.put(service(), endpoints(*servers))
    found = Counter(ask(here, VIP, 80)[0] for _ in range(90))
    assert set(found) == set(servers)
    assert min(found.values()) > 10


def test_many_endpoints_are_chosen_as_evenly(net: Machine, rules: Rules) -> None:
    servers = [net.server(remote=True) for _ in range(6)]
    here, _ = net.pod()
    rules.put(service(metadata={"annotations": {BALANCING: ROUND_ROBIN}}), endpoints(*servers))
    assert Counter(ask(here, VIP, 80)[0] for _ in range(12)) == dict.fromkeys(servers, 2)
    rules.put(service(), endpoints(*servers))
    assert set(Counter(ask(here, VIP, 80)[0] for _ in range(100))) == set(servers)


def test_a_pod_reaches_itself_by_its_service(net: Machine, rules: Rules) -> None:
    here, own = net.pod()
    net.servers.listen(here, own, 80, socket.SOCK_STREAM)
    rules.put(service(), endpoints(own))
    assert ask(here, VIP, 80) == (own, GATEWAY)


def test_the_node_itself_reaches_services(net: Machine, rules: Rules) -> None:
    near, far = net.server(), net.server(remote=True)
    rules.put(service(), endpoints(near))
    assert ask(net.node, VIP, 80)[0] == near
    rules.put(service(), endpoints(far))
    assert ask(net.node, VIP, 80)[0] == far


def test_who_comes_from_outside_to_a_cluster_ip_is_masqueraded(net: Machine, rules: Rules) -> None:
    far = net.server(remote=True)
    rules.put(service(), endpoints(far))
    assert ask(net.client, VIP, 80) == (far, NODE_INSIDE)


def test_without_endpoints_connections_are_refused_at_once(net: Machine, rules: Rules) -> None:
    here, _ = net.pod()
    ports = [{"port": 80, "protocol": "TCP", "nodePort": 30080}, {"port": 53, "protocol": "UDP", "name": "dns"}]
    rules.put(service(ports=ports, type="NodePort", externalIPs=["203.0.113.7"]))
    assert ask(here, VIP, 80) == (REFUSED, "")
    assert ask(net.node, VIP, 80) == (REFUSED, "")
    assert ask(here, VIP, 53, socket.SOCK_DGRAM) == (REFUSED, "")
    assert ask(net.client, NODE, 30080) == (REFUSED, "")
    assert ask(net.client, "203.0.113.7", 80) == (REFUSED, "")


def test_other_ports_and_other_addresses_of_services_are_refused(net: Machine, rules: Rules) -> None:
    here, _ = net.pod()
    rules.put(service(), endpoints(net.server()))
    assert ask(here, VIP, 81) == (REFUSED, "")
    assert ask(here, "10.96.77.77", 80) == (REFUSED, "")
    assert ask(net.node, "10.96.77.77", 80) == (REFUSED, "")


def test_a_deleted_service_is_refused(net: Machine, rules: Rules) -> None:
    here, _ = net.pod()
    near = net.server()
    rules.put(service(), endpoints(near))
    assert ask(here, VIP, 80)[0] == near
    rules.put(None, endpoints(near))
    assert ask(here, VIP, 80) == (REFUSED, "")


def test_node_ports_answer_on_every_address_of_the_node(net: Machine, rules: Rules) -> None:
    far = net.server(remote=True)
    here, _ = net.pod()
    ports = [{"port": 80, "protocol": "TCP", "nodePort": 30080}]
    rules.put(service(ports=ports, type="NodePort"), endpoints(far))
    assert ask(net.client, NODE, 30080) == (far, NODE_INSIDE)
    assert ask(net.client, NODE_INSIDE, 30080) == (far, NODE_INSIDE)
    assert ask(here, NODE, 30080) == (far, NODE_INSIDE)
    assert ask(net.node, NODE, 30080) == (far, NODE_INSIDE)
    assert ask(net.node, "127.0.0.1", 30080) == (REFUSED, "")


def test_node_ports_can_be_kept_to_some_addresses(net: Machine) -> None:
    rules = Rules(net.nftables, replace(CONFIG, node_port_addresses=("198.51.100.0/24",)))
    near = net.server()
    ports = [{"port": 80, "protocol": "TCP", "nodePort": 30080}]
    rules.put(service(ports=ports, type="NodePort"), endpoints(near))
    assert ask(net.client, NODE_INSIDE, 30080)[0] == near
    assert ask(net.client, NODE, 30080) == (REFUSED, "")


def test_the_external_policy_local_keeps_sources_and_stays_here(net: Machine, rules: Rules) -> None:
    near, far = net.server(), net.server(remote=True)
    here, own = net.pod()
    ports = [{"port": 80, "protocol": "TCP", "nodePort": 30080}]
    local = service(ports=ports, type="LoadBalancer", externalTrafficPolicy="Local", ingress=[{"ip": "203.0.113.8"}])
    rules.put(local, endpoints(near, far))
    for address, port in ((NODE, 30080), ("203.0.113.8", 80)):
        assert {ask(net.client, address, port) for _ in range(8)} == {(near, CLIENT)}
    # Pods and processes of the node are served by all, as if they had gone out and come back.
    assert {ask(here, "203.0.113.8", 80) for _ in range(20)} == {(near, own), (far, own)}
    assert {ask(net.node, NODE, 30080)[0] for _ in range(20)} == {near, far}


def test_the_external_policy_local_drops_where_no_endpoint_is(net: Machine, rules: Rules) -> None:
    far = net.server(remote=True)
    here, _ = net.pod()
    ports = [{"port": 80, "protocol": "TCP", "nodePort": 30080}]
    rules.put(service(ports=ports, type="NodePort", externalTrafficPolicy="Local"), endpoints(far))
    assert ask(net.client, NODE, 30080, patience=SHORT) == (DROPPED, "")
    assert ask(here, NODE, 30080)[0] == far
    assert ask(here, VIP, 80)[0] == far


def test_the_internal_policy_local_stays_here(net: Machine, rules: Rules) -> None:
    near, far = net.server(), net.server(remote=True)
    here, own = net.pod()
    local = service(internalTrafficPolicy="Local")
    rules.put(local, endpoints(near, far))
    assert {ask(here, VIP, 80) for _ in range(8)} == {(near, own)}
    rules.put(local, endpoints(far))
    assert ask(here, VIP, 80, patience=SHORT) == (DROPPED, "")


def test_external_ips_answer(net: Machine, rules: Rules) -> None:
    near = net.server()
    here, _ = net.pod()
    rules.put(service(externalIPs=["203.0.113.7"]), endpoints(near))
    assert ask(net.client, "203.0.113.7", 80) == (near, GATEWAY)
    assert ask(here, "203.0.113.7", 80)[0] == near


def test_load_balancers_are_for_their_source_ranges(net: Machine, rules: Rules) -> None:
    near = net.server()
    ports = [{"port": 80, "protocol": "TCP", "nodePort": 30080}]
    spec: dict[str, Any] = {"ports": ports, "type": "LoadBalancer", "ingress": [{"ip": "203.0.113.8"}]}
    for allowed, expected in (
        (["192.0.2.0/25", " 192.0.2.9/32 "], near),
        (["198.18.0.0/15"], DROPPED),
        (["198.18.0.0/15", "0.0.0.0/0"], near),
        (["0.0.0.0/1", "128.0.0.0/1"], near),
    ):
        rules.put(service(loadBalancerSourceRanges=allowed, **spec), endpoints(near))
        assert ask(net.client, "203.0.113.8", 80, patience=SHORT if expected == DROPPED else PATIENCE)[0] == expected
        assert ask(net.client, NODE, 30080)[0] == near


def test_addresses_of_balancers_that_do_the_work_themselves_are_left_alone(net: Machine, rules: Rules) -> None:
    near = net.server()
    here, _ = net.pod()
    ingress = [{"ip": "203.0.113.8", "ipMode": "Proxy"}, {"ip": "203.0.113.9", "ipMode": "VIP"}]
    rules.put(service(type="LoadBalancer", ingress=ingress), endpoints(near))
    assert ask(here, "203.0.113.9", 80)[0] == near
    with pytest.raises(OSError, match="No route to host"):
        ask(here, "203.0.113.8", 80)


def test_a_client_stays_with_its_endpoint(net: Machine, rules: Rules) -> None:
    servers = [net.server(), net.server(), net.server(remote=True)]
    sticky = service(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}})
    rules.put(sticky, endpoints(*servers))
    first = {}
    for _ in range(6):
        here, own = net.pod()
        first[here] = ask(here, VIP, 80)[0]
        assert {ask(here, VIP, 80) for _ in range(6)} == {(first[here], own)}
    # Other endpoints leave a client where it was, and so does another process.
    more = [*servers, net.server()]
    rules.put(sticky, endpoints(*more))
    rules.sweep()
    assert rules.compare() == 0
    assert {here: ask(here, VIP, 80)[0] for here in first} == first
    # The endpoint goes: another one serves.
    gone = next(iter(first.values()))
    rules.put(sticky, endpoints(*(server for server in more if server != gone)))
    assert all(ask(here, VIP, 80)[0] not in (gone, REFUSED, DROPPED) for here in first)


def test_a_client_is_forgotten_after_the_timeout(net: Machine, rules: Rules) -> None:
    servers = [net.server(), net.server()]
    here, _ = net.pod()
    turns = {"annotations": {BALANCING: ROUND_ROBIN}}
    config = {"clientIP": {"timeoutSeconds": 1}}
    rules.put(service(metadata=turns, sessionAffinity="ClientIP", sessionAffinityConfig=config), endpoints(*servers))
    first = ask(here, VIP, 80)[0]
    (clients,) = (name for name in rules.compiler.desired[IPV4].sets if f"/{first}/" in name)
    with net.nftables() as nft:
        while nft.list_json(f"list set ip tiphys-services {clients}")[0]["set"].get("elem"):
            pass
    assert ask(here, VIP, 80)[0] != first


def test_sctp_is_translated(net: Machine, rules: Rules) -> None:
    ports = [{"port": 132, "protocol": "SCTP", "nodePort": 30132}]
    rules.put(service(ports=ports, type="NodePort"), endpoints("10.1.1.7", port=99, protocol="SCTP"))
    table = net.nftables().run("list table ip tiphys-services")
    assert f"{VIP} . sctp . 132 : goto cluster-" in table
    assert "meta l4proto sctp dnat to 10.1.1.7:99" in table
    assert rules.compare() == 0


def test_ipv6_services_are_translated(net: Machine) -> None:
    rules = Rules(net.nftables, replace(CONFIG, families=("IPv6", "IPv4"), local_pods=("fd01::/64", "10.1.1.0/24")))
    (here, four), (asking, from_four) = net.pod(), net.pod()
    near, own = six(four), six(from_four)
    net.servers.listen(here, near, 80, socket.SOCK_STREAM)
    ports = [{"port": 80, "protocol": "TCP", "nodePort": 30080}]
    dual = service(ports=ports, type="NodePort", clusterIPs=["fd96::a", VIP], externalIPs=["fd0e::7"])
    empty = service("empty", clusterIPs=["fd96::b"], sessionAffinity="ClientIP")
    rules.put(dual, endpoints(near))
    rules.put(empty, name="empty")
    assert ask(asking, "fd96::a", 80) == (near, own)
    assert ask(here, "fd96::a", 80) == (near, GATEWAY_SIX)
    assert ask(net.client, "fd0e::7", 80) == (near, GATEWAY_SIX)
    assert ask(net.client, NODE_SIX, 30080)[0] == near
    assert ask(net.node, "fd96::a", 80)[0] == near
    assert ask(asking, "fd96::a", 81) == (REFUSED, "")
    assert ask(asking, "fd96::b", 80) == (REFUSED, "")
    assert ask(asking, VIP, 80) == (REFUSED, "")
    rules.put(empty, endpoints(near, name="empty"), name="empty")
    assert ask(asking, "fd96::b", 80) == (near, own)
    assert rules.compare() == 0


def test_udp_is_translated(net: Machine, rules: Rules) -> None:
    near = net.server(5353, kind=socket.SOCK_DGRAM)
    here, own = net.pod()
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]
    udp = endpoints(near, port=5353, port_name="dns", protocol="UDP")
    rules.put(service(ports=ports, type="NodePort"), udp)
    assert ask(here, VIP, 53, socket.SOCK_DGRAM) == (near, own)
    assert ask(net.client, NODE, 30053, socket.SOCK_DGRAM)[0] == near
    assert ask(here, VIP, 53) == (REFUSED, "")


def test_ports_of_several_slices_lead_to_their_own_endpoints(net: Machine, rules: Rules) -> None:
    old, new = net.server(8080), net.server(9090)
    admin = net.server(7070)
    here, _ = net.pod()
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}, {"name": "admin", "port": 81, "protocol": "TCP"}]
    rules.put(
        service(ports=ports),
        endpoints(old, port=8080, port_name="http"),
        endpoints(new, port=9090, port_name="http"),
        endpoints(admin, port=7070, port_name="admin"),
    )
    assert {ask(here, VIP, 80)[0] for _ in range(20)} == {old, new}
    assert {ask(here, VIP, 81)[0] for _ in range(6)} == {admin}


def test_endpoints_that_end_serve_when_nobody_else_does(net: Machine, rules: Rules) -> None:
    going, ready = net.server(), net.server()
    here, _ = net.pod()
    ends = endpoints(going, conditions={"ready": False, "serving": True, "terminating": True})
    rules.put(service(), ends, endpoints(ready))
    assert {ask(here, VIP, 80)[0] for _ in range(8)} == {ready}
    rules.put(service(), ends, endpoints(ready, conditions={"ready": False, "serving": False}))
    assert {ask(here, VIP, 80)[0] for _ in range(8)} == {going}


def test_on_the_host_addresses_answer_and_sources_are_kept(net: Machine) -> None:
    config = ProxyConfig(table="tiphys9-services", near=("10.1.0.0/16",), local_pods=("10.1.0.0/16",))
    rules = Rules(net.nftables, config)
    near, far = net.server(), net.server(remote=True)
    here, _ = net.pod()
    ports = [{"port": 80, "protocol": "TCP", "nodePort": 30080}]
    spec: dict[str, Any] = {"ports": ports, "type": "LoadBalancer", "externalIPs": ["203.0.113.7"]}
    for policy in ("Cluster", "Local"):
        rules.put(service(ingress=[{"ip": "203.0.113.8"}], externalTrafficPolicy=policy, **spec), endpoints(near, far))
        for address in ("203.0.113.7", "203.0.113.8", VIP):
            assert {ask(net.client, address, 80) for _ in range(20)} == {(near, CLIENT), (far, CLIENT)}
    # Nodes have node ports, the host has none; answers to its pods could go another way than through it.
    assert ask(net.client, NODE, 30080) == (REFUSED, "")
    rules.put(service(ingress=[{"ip": "203.0.113.8"}], **spec), endpoints(near))
    assert ask(here, "203.0.113.8", 80) == (near, GATEWAY)
    assert ask(net.node, VIP, 80)[0] == near
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        assert ask(net.node, "10.96.0.77", 80, kind) == (REFUSED, "")
    assert rules.compare() == 0


def test_packets_that_belong_to_no_connection_do_not_get_through_untranslated(net: Machine, rules: Rules) -> None:
    (serving, server), (here, own) = net.pod(), net.pod()
    rules.put(service(), endpoints(server))
    with (
        netns.socket_in(serving) as listening,
        netns.socket_in(here) as client,
        netns.inside(here, raw_tcp) as seen,
        netns.inside(serving, raw_tcp) as raw,
    ):
        listening.bind((server, 80))
        listening.listen()
        client.connect((VIP, 80))
        connection, _ = listening.accept()
        with connection:
            raw.sendto(stray(80, client.getsockname()[1], server, own), (own, 0))
            connection.sendall(b"after")
            sources = {socket.inet_ntoa(seen.recv(2048)[12:16]) for _ in range(2)}
            assert client.recv(10) == b"after"
    assert sources == {VIP}


def raw_tcp() -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
    opened.settimeout(PATIENCE)
    return opened


def stray(source: int, destination: int, server: str, client: str) -> bytes:
    """A TCP segment far outside of the window of any connection."""
    header = struct.pack(">HHIIBBHHH", source, destination, 1, 1, 5 << 4, 0x10, 100, 0, 0)
    pseudo = (
        socket.inet_aton(server) + socket.inet_aton(client) + struct.pack(">BBH", 0, socket.IPPROTO_TCP, len(header))
    )
    total = sum(struct.unpack(f">{len(pseudo + header) // 2}H", pseudo + header))
    folded = (total & 0xFFFF) + (total >> 16)
    return header[:16] + struct.pack(">H", ~((folded & 0xFFFF) + (folded >> 16)) & 0xFFFF) + header[18:]


def test_clusters_of_one_host_leave_each_others_sources_alone(net: Machine) -> None:
    near, own = net.server(), ProxyConfig(table="tiphys8-services", near=("10.1.0.0/16",))
    mine = service(externalIPs=["203.0.113.7"])
    for table in ("tiphys7-services", own.table, "tiphys9-services"):
        rules = Rules(
            net.nftables, replace(own, table=table, near=own.near if table == own.table else ("10.9.0.0/16",))
        )
        rules.put(mine if table == own.table else service("other", clusterIP="10.96.9.9"), endpoints(near))
    assert ask(net.client, "203.0.113.7", 80) == (near, CLIENT)


def test_the_host_masquerades_what_would_not_come_back_by_it(net: Machine) -> None:
    rules = Rules(net.nftables, ProxyConfig(table="tiphys9-services", near=("10.1.1.0/24",)))
    far = net.server(remote=True)
    rules.put(service(externalIPs=["203.0.113.7"]), endpoints(far))
    assert ask(net.client, "203.0.113.7", 80) == (far, NODE_INSIDE)
    assert ask(net.client, VIP, 80) == (far, NODE_INSIDE)
