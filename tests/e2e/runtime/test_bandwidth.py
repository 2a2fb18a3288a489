"""Bandwidth of pods' links, measured; and shapers that no pod has any more."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from e2e.runtime.links import Pod, families, nodes, pod
from tiphys.base.clock import SystemClock
from tiphys.runtime import netns
from tiphys.runtime.connectivity import Bandwidth
from tiphys.runtime.network import SHAPERS
from tiphys.runtime.node import NodeNetwork

__all__ = ["families", "nodes", "pod"]
pytestmark = [pytest.mark.e2e, pytest.mark.parametrize("families", ["dual"], indirect=True)]

CLOCK = SystemClock()
RATE = 40_000_000
"""Bits per second."""
SECONDS = 1.0


def rate(source: Pod, target: Pod) -> float:
    """Bits per second that arrive, once the first burst is over."""
    address = target[1][0]
    with netns.socket_in(target[0], socket.AF_INET6) as server:
        server.bind((address, 9000))
        server.listen()
        with netns.socket_in(source[0], socket.AF_INET6) as sender:
            sender.connect((address, 9000))
            receiver = server.accept()[0]
            thread = threading.Thread(target=_send, args=(sender,))
            thread.start()
            with receiver:
                _arrived(receiver, 0.3)
                count = _arrived(receiver, SECONDS)
            thread.join()
    return count * 8 / SECONDS


def _send(sender: socket.socket) -> None:
    with suppress(OSError):
        while True:
            sender.sendall(bytes(65536))


def _arrived(receiver: socket.socket, seconds: float) -> int:
    end, count = CLOCK.monotonic() + seconds, 0
    while CLOCK.monotonic() < end:
        count += len(receiver.recv(1 << 20))
    return count


def test_a_pod_receives_and_sends_as_fast_as_it_may(pod: Callable[..., Pod]) -> None:
    free = pod("free", 0)
    receives = pod("receives", 0, bandwidth=Bandwidth(ingress=RATE))
    sends = pod("sends", 0, bandwidth=Bandwidth(egress=RATE))
    for source, target in ((free, receives), (sends, free)):
        assert 0.8 * RATE < rate(source, target) < 1.15 * RATE
        assert rate(target, source) > 5 * RATE


def test_shapers_go_with_their_pods(nodes: list[NodeNetwork], pod: Callable[..., Pod], tmp_path: Path) -> None:
    def shapers() -> int:
        with netns.netlink_in(nodes[0].namespace) as link:
            return sum(name.startswith(SHAPERS) for name in link.links())

    pod("sends", 0, bandwidth=Bandwidth(egress=RATE))
    assert shapers() == 1
    again = nodes[0].pod_network(tmp_path / "addresses0")
    asyncio.run(again.keep([]))
    assert shapers() == 0


@pytest.mark.parametrize("bits", [1000, 10**15])
def test_the_least_and_the_most_that_may_be_asked_for(pod: Callable[..., Pod], bits: int) -> None:
    assert len(pod("any", 0, bandwidth=Bandwidth(ingress=bits, egress=bits))[1]) == 2
