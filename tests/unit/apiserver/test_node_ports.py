"""Node ports of one write: by number or any; a dry run makes them up."""

from __future__ import annotations

from typing import Any

import pytest

from tiphys.apiserver.nodeports import NodePorts
from tiphys.base.errors import ApiError, Invalid


class Pool:
    ports = range(30000, 32768)

    def __init__(self, *taken: int) -> None:
        self.taken: set[str | int] = set(taken)

    def free(self, what: str | int) -> bool:
        return what not in self.taken

    def any_port(self) -> int:
        return next(number for number in self.ports if number not in self.taken)

    def hold(self, what: str | int) -> None:
        self.taken.add(what)

    def count_port(self, scope: str, *, refused: bool = False) -> None:
        pass


def _written(ports: list[dict[str, Any]], pool: Pool | None = None, *, dry_run: bool = False, **more: Any) -> list[int]:
    spec = {"type": "NodePort", "ports": ports, **more}
    NodePorts(pool or Pool(), {"metadata": {"name": "s"}}, spec, dry_run=dry_run).create()
    return [port.get("nodePort", 0) for port in spec["ports"]]


def test_a_dry_run_makes_up_numbers_and_knows_no_range() -> None:
    assert _written([{"port": 80}, {"port": 81}], dry_run=True) == [32769, 32770]
    assert _written([{"port": 80, "nodePort": 7}], dry_run=True) == [7]
    pool = Pool()
    _written([{"port": 80, "nodePort": 30001}], pool, dry_run=True)
    assert not pool.taken


def test_a_number_out_of_the_range_or_taken_is_refused() -> None:
    with pytest.raises(Invalid, match="The range of valid ports is 30000-32767"):
        _written([{"port": 80, "nodePort": 7}])
    with pytest.raises(Invalid, match=r"spec.ports\[0\].nodePort: Invalid value: 30005: provided port is already"):
        _written([{"port": 80, "nodePort": 30005}], Pool(30005), dry_run=True)
    with pytest.raises(Invalid, match=r"spec.ports\[1\].nodePort: .* already allocated"):
        _written([{"port": 80, "nodePort": 30005}, {"port": 81, "nodePort": 30005}])


def test_one_number_serves_a_ports_protocols() -> None:
    assert _written([{"port": 53, "protocol": "UDP"}, {"port": 53, "nodePort": 30007}]) == [30007, 30007]


def test_a_load_balancer_without_node_ports_has_those_it_asks_for() -> None:
    ports = [{"port": 1}, {"port": 2, "nodePort": 30009}]
    assert _written(ports, type="LoadBalancer", allocateLoadBalancerNodePorts=False) == [0, 30009]


def test_two_ports_of_a_change_cannot_have_one_number() -> None:
    spec = {"type": "NodePort", "ports": [{"protocol": "TCP", "nodePort": 30001}] * 2}
    ports = NodePorts(Pool(30001), {"metadata": {"name": "s"}}, spec, dry_run=False)
    with pytest.raises(ApiError) as caught:
        ports.update({"type": "NodePort", "ports": [{"nodePort": 30001}]})
    status = caught.value.status()
    assert (status["code"], status["message"]) == (400, "duplicate nodePort: {TCP 30001}")
