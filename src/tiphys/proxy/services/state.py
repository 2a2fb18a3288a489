"""What others can know of the proxy's Services: for connection tracking, health checks and metrics.

`Observer` is told after each time that the kernel has been brought up to date.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tiphys.proxy.services.facts import Endpoint, ServicePort
from tiphys.proxy.services.topology import Usable


@dataclass(frozen=True, slots=True)
class PortState:
    """A port of a Service in one address family."""

    family: str
    """IPv4 or IPv6."""
    port: ServicePort
    endpoints: tuple[Endpoint, ...]
    """All there are, ready or not."""
    usable: Usable
    """Those that get new connections from here."""


@dataclass(frozen=True, slots=True)
class ServiceState:
    """A Service as it is in the kernel."""

    key: str
    """namespace/name"""
    ports: tuple[PortState, ...]
    health_check_port: int = 0
    """healthCheckNodePort, of Services that need it; else 0."""
    local_ready: int = 0
    """How many addresses of this node are ready for it."""


@dataclass(frozen=True, slots=True)
class Sync:
    """One time that the kernel was brought up to date."""

    full: bool
    """Whether everything was compared, as at the start and after a failure."""
    seconds: float
    """From the first look at what changed until it was in the kernel."""
    commands: int
    changed: Mapping[str, tuple[ServiceState | None, ServiceState | None]] = field(default_factory=dict)
    """Before and after, by key; None for what was not there or has gone."""
    error: str = ""
    """Why it was not brought up to date; it is tried again, and `changed` is told when it succeeds."""


class Observer(Protocol):
    """Is told in the event loop: must not block, nor raise."""

    def synced(self, sync: Sync, services: Mapping[str, ServiceState]) -> None:
        """`services` is all there is now, by key."""
        ...
