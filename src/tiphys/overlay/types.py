"""What a node does so that the pods of other machines are reached: plain data between decision and kernel."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

Network = IPv4Network | IPv6Network

VXLAN, HOST_ROUTES, NONE = "vxlan", "host-routes", "none"
MODES = (VXLAN, HOST_ROUTES, NONE)
"""How packets reach other machines: in UDP packets (any network between them), as they are (all machines in one link),
or by somebody else's doing."""
DEFAULT_VNI = 1
PORT = 8472
"""The UDP port of VXLAN packets: what Linux and most of Kubernetes' networks use, not IANA's 4789."""
OVERHEAD = {4: 50, 6: 70}
"""Bytes that VXLAN adds to a packet: Ethernet, VXLAN, UDP and the outer IP header."""

ADDRESS = "tiphys.io/overlay-address"
"""Annotation of a Node that is reached by another address than its InternalIP: a node behind its machine."""
SUBNETS = "tiphys.io/overlay-subnets"
"""Annotation: the ranges, by commas, of such nodes' own addresses."""


@dataclass(frozen=True, slots=True)
class Settings:
    """This machine's part. `address` is that by which other machines reach it."""

    mode: str
    address: str
    device: str = "tiphys-vxlan"
    vni: int = DEFAULT_VNI
    port: int = PORT
    mtu: int = 0
    """Bytes of a packet with all that VXLAN adds; 0: unknown."""
    sources: tuple[str, ...] = ()
    """Own addresses, of each IP version, from which this machine speaks to pods elsewhere: they are routed back."""

    @property
    def version(self) -> int:
        return 6 if ":" in self.address else 4


@dataclass(frozen=True, slots=True)
class Peer:
    """Another machine: its address, and what is behind it."""

    address: str
    subnets: tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class Route:
    subnet: str
    gateway: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Who has the address behind the VXLAN device."""

    address: str
    mac: bytes


@dataclass(frozen=True, slots=True)
class Forward:
    """Which machine has the hardware address behind the VXLAN device."""

    mac: bytes
    machine: str


@dataclass(frozen=True, slots=True)
class Entries:
    """What is in the kernel, or is to be."""

    forwards: frozenset[Forward] = field(default_factory=frozenset)
    neighbours: frozenset[Neighbour] = field(default_factory=frozenset)
    routes: frozenset[Route] = field(default_factory=frozenset)
