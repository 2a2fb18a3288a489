"""Tracked connections listed and deleted, each test in a network namespace that is its own, with real UDP."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tiphys.base.conntrack import Conntrack, Flow, end, end_text, open_socket
from tiphys.base.netlink import attributes
from tiphys.base.nftables import Nftables
from tiphys.runtime import netns

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")

RULES = """
add table inet t
add chain inet t out { type nat hook output priority -100; }
add rule inet t out ct state new counter
add rule inet t out ip daddr 127.9.9.9 udp dport 53 dnat ip to 127.0.0.5:99
add rule inet t out ip daddr 127.9.9.9 tcp dport 53 dnat ip to 127.0.0.5:99
"""
Send = Callable[..., bytes]


@pytest.fixture
def namespace(tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "netns"
    netns.persist(path)
    netns.loopback_up(str(path))
    with Nftables(lambda work: netns.inside(str(path), work)) as nft:
        nft.run(RULES)
    yield str(path)
    netns.drop(path)


@pytest.fixture
def conntrack(namespace: str) -> Iterator[Conntrack]:
    with Conntrack(lambda: netns.inside(namespace, open_socket)) as opened:
        yield opened


@pytest.fixture
def send(namespace: str) -> Send:
    """Send a datagram to an address and port; returns the end it came from."""

    def work(address: str, port: int) -> bytes:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with netns.socket_in(namespace, family, socket.SOCK_DGRAM) as sender:
            sender.connect((address, port))
            sender.send(b"?")
            return end(*sender.getsockname()[:2])

    return work


def test_an_entry_tells_both_directions(conntrack: Conntrack, send: Send) -> None:
    source = send("127.9.9.9", 53)
    [flow] = conntrack.flows()
    assert (flow.protocol, flow.source, flow.destination) == (socket.IPPROTO_UDP, source, end("127.9.9.9", 53))
    assert (flow.answerer, flow.answered) == (end("127.0.0.5", 99), source)


def test_entries_of_ipv6_are_listed_apart(conntrack: Conntrack, send: Send) -> None:
    source = send("::1", 5353)
    assert list(conntrack.flows(socket.AF_INET)) == []
    [flow] = conntrack.flows(socket.AF_INET6)
    assert (flow.source, flow.destination, flow.answerer) == (source, end("::1", 5353), end("::1", 5353))
    assert conntrack.delete([flow]) == 1
    assert list(conntrack.flows(socket.AF_INET6)) == []


def test_other_protocols_are_left_out(conntrack: Conntrack, send: Send, namespace: str) -> None:
    send("127.0.0.1", 7)
    with netns.socket_in(namespace) as tcp:
        assert tcp.connect_ex(("127.9.9.9", 53)) != 0
    assert [flow.destination for flow in conntrack.flows()] == [end("127.0.0.1", 7)]
    assert [flow.protocol for flow in conntrack.flows(protocol=socket.IPPROTO_TCP)] in ([], [socket.IPPROTO_TCP])


def test_only_the_entries_named_are_deleted(conntrack: Conntrack, send: Send) -> None:
    for port in (53, 54, 55):
        send("127.9.9.9", port)
    translated = [flow for flow in conntrack.flows() if flow.destination != flow.answerer]
    assert conntrack.delete(translated) == 1
    assert {flow.destination for flow in conntrack.flows()} == {end("127.9.9.9", 54), end("127.9.9.9", 55)}


def test_entries_that_are_gone_do_not_count_and_do_no_harm(conntrack: Conntrack, send: Send) -> None:
    send("127.9.9.9", 53)
    flows = list(conntrack.flows())
    assert (conntrack.delete(flows), conntrack.delete(flows), conntrack.delete([])) == (1, 0, 0)


def test_thousands_are_listed_and_deleted(conntrack: Conntrack, namespace: str) -> None:
    with netns.socket_in(namespace, kind=socket.SOCK_DGRAM) as sender:
        sender.bind(("127.0.0.1", 0))
        for number in range(2000):
            sender.sendto(b"?", (f"127.8.{number // 250}.{number % 250 + 1}", 5000))
        flows = list(conntrack.flows())
        assert len({flow.destination for flow in flows}) == 2000
        assert conntrack.delete(flows) == 2000
    assert list(conntrack.flows()) == []


def test_the_namespaces_of_others_are_not_seen(conntrack: Conntrack, send: Send) -> None:
    source = send("127.9.9.9", 53)
    with Conntrack() as own:
        assert source not in [flow.source for flow in own.flows() if flow.destination == end("127.9.9.9", 53)]
    assert len(list(conntrack.flows())) == 1


def test_a_failure_says_what_failed() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.send(struct.pack("=IHHIIi", 36, 2, 0, 1, 0, -1) + bytes(16))
    with theirs, pytest.raises(OSError, match="list connections: Operation not permitted"):
        list(_opened(ours).flows())


def test_entries_in_another_layout_are_read_by_their_attributes() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        zone = (3, struct.pack(">H", 7))  # a zone of one direction makes the tuple longer
        original = _tuple("10.0.0.1", 1, "10.96.0.10", 53, zone)
        entry = attributes([(1 | 0x8000, original), (2 | 0x8000, _tuple("10.1.0.9", 99, "10.0.0.1", 1)), (12, b"1234")])
        theirs.send(struct.pack("=IHHII", 20 + len(entry), 256, 2, 1, 0) + b"\2\0\0\0" + entry)
        theirs.send(struct.pack("=IHHIIi", 20, 3, 2, 1, 0, 0))
        assert list(_opened(ours).flows()) == [
            Flow(17, end("10.0.0.1", 1), end("10.96.0.10", 53), end("10.1.0.9", 99), end("10.0.0.1", 1), entry)
        ]


def test_ends_are_readable() -> None:
    assert end_text(end("10.0.0.1", 53)) == "10.0.0.1:53"
    assert end_text(end("fd00::1", 8080)) == "[fd00::1]:8080"


class _Unbound(socket.socket):
    """A socket of another family instead of a netlink socket."""

    def bind(self, address: object) -> None:
        pass


def _opened(pair: socket.socket) -> Conntrack:
    return Conntrack(lambda: _Unbound(fileno=pair.detach()))


def _tuple(source: str, source_port: int, destination: str, port: int, *more: tuple[int, bytes]) -> bytes:
    addresses = attributes([(1, socket.inet_aton(source)), (2, socket.inet_aton(destination))])
    ports = attributes([(1, b"\x11"), (2, struct.pack(">H", source_port)), (3, struct.pack(">H", port))])
    return attributes([(1 | 0x8000, addresses), (2 | 0x8000, ports), *more])
