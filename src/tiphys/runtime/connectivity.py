"""What a sandbox asks of its network besides an address."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A port of the node that leads to one of a sandbox."""

    protocol: str
    """tcp, udp or sctp."""
    host_port: int
    port: int
    host_address: str = ""
    """Which of the node's addresses; "" for all."""


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Bits per second that a sandbox may receive and send; 0: no limit."""

    ingress: int = 0
    egress: int = 0


NO_LIMITS = Bandwidth()
