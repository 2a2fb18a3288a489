"""The node ports that one write of a Service takes: asked for by number, or any that is free.

A dry run takes nothing and does not know the range: numbers that nobody has are well, and those that the server
would choose are made up (upstream's port allocator does the same).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tiphys.api import errors
from tiphys.api.errors import client_fault
from tiphys.api.kinds.base import FieldError, invalid
from tiphys.apiserver.allocation_metrics import DYNAMIC, STATIC
from tiphys.base.errors import ApiError

Spec = dict[str, Any]
WITH_PORTS = ("NodePort", "LoadBalancer")
_TAKEN = "provided port is already allocated"
_MADE_UP = 32768
"""What the made-up numbers of dry runs follow."""


class Pool(Protocol):
    """Who knows which ports are free."""

    ports: range

    def free(self, what: str | int) -> bool: ...

    def any_port(self) -> int: ...

    def hold(self, what: str | int) -> None: ...

    def count_port(self, scope: str, *, refused: bool = False) -> None: ...


class NodePorts:
    """What a write of `service`, whose spec is `spec`, takes from `pool`."""

    def __init__(self, pool: Pool, service: Mapping[str, Any], spec: Spec, *, dry_run: bool) -> None:
        self._pool, self._service, self._spec, self._dry_run = pool, service, spec, dry_run
        self._taken: list[int] = []

    def create(self) -> None:
        """Fill in the ports of a new Service. Raises Invalid, InternalError."""
        if self._spec.get("type") in WITH_PORTS:
            self._create_ports(self._copied())
        if needs_health_check(self._spec):
            self._health_port()

    def update(self, was: Mapping[str, Any]) -> None:
        """Fill in those that a change adds. Raises Invalid, InternalError, ApiError."""
        if self._spec.get("type") in WITH_PORTS:
            self._update_ports(self._copied(), {port.get("nodePort") for port in was.get("ports") or ()})
        if needs_health_check(self._spec) and not needs_health_check(was):
            self._health_port()

    def _copied(self) -> list[Spec]:
        self._spec["ports"] = [dict(port) for port in self._spec.get("ports") or ()]
        return list(self._spec["ports"])

    def _allocates(self) -> bool:
        return self._spec["type"] == "NodePort" or self._spec.get("allocateLoadBalancerNodePorts") is not False

    def _create_ports(self, ports: list[Spec]) -> None:
        given: dict[int, int] = {}
        for index, port in enumerate(ports):
            number, asked = port.get("port") or 0, port.get("nodePort")
            if not asked and not self._allocates():
                continue
            if not given.get(number):
                asked = _requested(ports, number)
                if asked:
                    self._take(index, asked)
                given[number] = port["nodePort"] = asked or self._next()
            elif not asked:
                # One number serves a port's protocols.
                port["nodePort"] = given[number]
            elif asked != given[number]:
                self._take(index, asked)

    def _update_ports(self, ports: list[Spec], before: set[int | None]) -> None:
        seen: set[tuple[str, int]] = set()
        for index, port in enumerate(ports):
            asked = port.get("nodePort")
            if not asked:
                if not self._allocates():
                    continue
                port["nodePort"] = self._next()
            elif asked not in before and asked not in self._taken:
                self._take(index, asked)
            one = (port.get("protocol", ""), port["nodePort"])
            if one in seen:
                raise _clash(*one)
            seen.add(one)

    def _health_port(self) -> None:
        number = self._spec.get("healthCheckNodePort")
        if not number:
            self._spec["healthCheckNodePort"] = self._next()
        elif problem := self._problem(number):
            raise client_fault(f"failed to allocate requested HealthCheck NodePort {number}: {problem}")
        else:
            self._hold(number, STATIC)

    def _take(self, index: int, number: int) -> None:
        if problem := self._problem(number):
            self._pool.count_port(STATIC, refused=True)
            raise refusal(self._service, [invalid(f"spec.ports[{index}].nodePort", number, problem)])
        self._hold(number, STATIC)

    def _problem(self, number: int) -> str:
        ports = self._pool.ports
        if not self._dry_run and number not in ports:
            valid = f"{ports.start}-{ports.stop - 1}"
            return f"provided port is not in the valid range. The range of valid ports is {valid}"
        return "" if self._pool.free(number) and number not in self._taken else _TAKEN

    def _next(self) -> int:
        number = max(self._taken, default=_MADE_UP) + 1 if self._dry_run else self._pool.any_port()
        self._hold(number, DYNAMIC)
        return number

    def _hold(self, number: int, scope: str) -> None:
        self._taken.append(number)
        if not self._dry_run:
            self._pool.hold(number)
            self._pool.count_port(scope)


def needs_health_check(spec: Mapping[str, Any]) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def refusal(service: Mapping[str, Any], problems: Sequence[FieldError]) -> Exception:
    """The 422 for a Service whose addresses or ports cannot be had."""
    return errors.invalid("", "Service", service["metadata"].get("name", ""), list(problems))


def _requested(ports: list[Spec], number: int) -> int:
    return next((port["nodePort"] for port in ports if port.get("port") == number and port.get("nodePort")), 0)


def _clash(protocol: str, number: int) -> ApiError:
    """Two ports of a change have one number."""
    return client_fault(f"duplicate nodePort: {{{protocol} {number}}}")
