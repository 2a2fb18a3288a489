"""What the gateway is to be: its fronts, the Services that lead to them, and what is written back. Plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tiphys.client.types import Object, Resource
from tiphys.gateway.model import BackendKey, Listener
from tiphys.gateway.proxy.backends import Address

FrontKey = tuple[str, int]
"""The Service (namespace/name) and its port."""
SecretKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class FrontPlan:
    """One port that clients see."""

    port: int
    tls: bool
    tables: tuple[tuple[Listener, ...], ...]
    certificates: Mapping[str, SecretKey] = field(default_factory=dict)
    """By host; "" for any."""
    nameless: tuple[SecretKey, ...] = ()
    """Certificates that are for the names in them."""


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """A LoadBalancer Service without selector whose slices name the gateway."""

    namespace: str
    name: str
    ports: Mapping[str, int]
    """By name."""
    owner: Object | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    """The one that is wished for."""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class StatusPlan:
    """The status that an object is to have, where it has another one."""

    resource: Resource
    obj: Object
    status: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    fronts: Mapping[FrontKey, FrontPlan]
    services: Mapping[str, ServicePlan]
    statuses: tuple[StatusPlan, ...]
    problems: tuple[tuple[Object, str, str], ...]
    """(object, reason, message), for events."""
    backends: frozenset[BackendKey]
    endpoints: Mapping[BackendKey, tuple[Address, ...]]
    secrets: frozenset[SecretKey]
    """All that are referred to, there or not."""
