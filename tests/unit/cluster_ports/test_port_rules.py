"""Published ports as rules of the host's kernel."""

from __future__ import annotations

import struct
from ipaddress import ip_network

import pytest

from tiphys.base.conntrack import Flow, end
from tiphys.cluster.ports.backends import Backends
from tiphys.cluster.ports.choice import Choice
from tiphys.cluster.ports.published import parse
from tiphys.cluster.ports.rules import Place, in_kernel, table
from tiphys.cluster.ports.stale import stale

PLACE = Place("tiphys0-ports", "tiphys0", (ip_network("10.89.0.0/24"), ip_network("10.244.0.0/16")))
ONE = Backends((("10.244.1.2", 80),))
TWO = Backends((("10.244.1.2", 80), ("10.244.2.2", 8080)))
SIX = Backends((("fd00::2", 80),))


@pytest.mark.parametrize(
    ("text", "found", "carried"),
    [
        ("8080:80", ONE, True),
        ("8080:80", Backends(), True),
        ("8080:80", SIX, False),
        ("[fd01::1]:8080:80", SIX, True),
        ("[fd01::1]:8080:80", ONE, False),
        ("[::1]:8080:80", SIX, False),
    ],
)
def test_the_kernel_carries_what_needs_no_other_ip_version_and_does_not_leave_its_loopback(
    text: str, found: Backends, carried: bool
) -> None:
    assert in_kernel(parse(text), found) is carried


def test_connections_from_here_and_from_elsewhere_are_translated_alike() -> None:
    line = "ip daddr 127.0.0.1 tcp dport 8080 dnat ip to 10.244.1.2:80"
    assert table(PLACE, [(parse("8080:80"), ONE)]).count(line) == 2


def test_several_backends_are_chosen_from_by_chance_or_by_the_client() -> None:
    port = parse("8080:80")
    choice = "map { 0 : 10.244.1.2 . 80, 1 : 10.244.2.2 . 8080 }"
    assert f"dnat ip addr . port to numgen random mod 2 {choice}" in table(PLACE, [(port, TWO)])
    sticky = Backends(TWO.backends, sticky=True)
    assert f"dnat ip addr . port to jhash ip saddr mod 2 {choice}" in table(PLACE, [(port, sticky)])


def test_every_address_means_the_hosts_and_not_those_among_the_nodes() -> None:
    text = table(PLACE, [(parse("0.0.0.0:8080:80"), ONE)])
    own = "ip daddr != 10.89.0.0/24 ip daddr != 10.244.0.0/16"
    assert f"meta nfproto ipv4 {own} fib daddr type local tcp dport 8080 dnat" in text


def test_a_port_without_backends_is_refused() -> None:
    text = table(PLACE, [(parse("8080:80"), Backends()), (parse("8080:80/udp"), Backends())])
    assert "ip daddr 127.0.0.1 tcp dport 8080 reject with tcp reset" in text
    assert "ip daddr 127.0.0.1 udp dport 8080 reject\n" in text
    assert "dnat" not in text.replace("ct status dnat", "")


def test_nodes_are_kept_from_the_hosts_loopback() -> None:
    assert 'iifname "tiphys0" ip daddr 127.0.0.0/8 drop' in table(PLACE, [(parse("8080:80"), ONE)])


def test_only_udp_connections_to_backends_that_are_gone_are_stale() -> None:
    port, every = parse("5353:dns:53/udp"), parse("0.0.0.0:5354:dns:53/udp")
    ports = [(port, Backends((("10.244.1.2", 53),))), (every, Backends((("10.244.1.2", 53),)))]
    client = end("127.0.0.1", 40000)

    def flow(destination: tuple[str, int], answerer: tuple[str, int]) -> Flow:
        return Flow(17, client, end(*destination), end(*answerer), client, b"")

    good = [
        flow(("127.0.0.1", 5353), ("10.244.1.2", 53)),
        flow(("127.0.0.1", 5353), ("127.0.0.1", 5353)),
        flow(("192.0.2.1", 5353), ("10.244.1.9", 53)),
        flow(("192.0.2.1", 53), ("10.244.1.9", 53)),
    ]
    gone = [flow(("127.0.0.1", 5353), ("10.244.1.9", 53)), flow(("192.0.2.1", 5354), ("10.244.1.9", 53))]
    assert stale([*good, *gone], ports) == gone
    assert struct.unpack(">H", gone[0].destination[-2:]) == (5353,)


def test_clients_take_turns_or_stay() -> None:
    choice = Choice()
    assert choice.of("a") is None
    choice.offer(TWO)
    assert {choice.of("a") for _ in range(2)} == set(TWO.backends)
    choice.offer(Backends(TWO.backends, sticky=True))
    assert len({choice.of("a") for _ in range(10)}) == 1
    choice.offer(ONE)
    assert ONE.backends[0] in choice
    assert TWO.backends[1] not in choice
