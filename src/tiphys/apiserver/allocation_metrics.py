"""How many cluster IPs and node ports are given out, by upstream's names. A scope is static (asked for) or dynamic."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tiphys.api.validation.addresses import parse
from tiphys.apiserver.service_ranges import Network, gives
from tiphys.base.metrics import Registry

STATIC, DYNAMIC = "static", "dynamic"
_IPS, _PORTS = "kube_apiserver_clusterip_allocator", "kube_apiserver_nodeport_allocator"
Taken = Callable[[], Sequence[str | int]]


class _Registry(Registry):
    """Looks at what is taken when somebody asks."""

    def __init__(self, refresh: Callable[[], None]) -> None:
        super().__init__()
        self._refresh = refresh

    def render(self) -> bytes:
        self._refresh()
        return super().render()


class AllocationMetrics:
    """`taken` are the addresses and ports that Services have, `networks` the ranges of addresses."""

    def __init__(self, taken: Taken, networks: Callable[[], Sequence[Network]], ports: range) -> None:
        self._taken, self._networks, self._ports = taken, networks, ports
        self.registry = _Registry(self._refresh)
        counter, gauge = self.registry.counter, self.registry.gauge
        self._allocated = gauge(f"{_IPS}_allocated_ips", "Cluster IPs that Services have", ("cidr",))
        self._available = gauge(f"{_IPS}_available_ips", "Cluster IPs that nobody has", ("cidr",))
        self._allocations = counter(f"{_IPS}_allocation_total", "Cluster IPs given out", ("cidr", "scope"))
        self._errors = counter(f"{_IPS}_allocation_errors_total", "Cluster IPs refused", ("cidr", "scope"))
        self._ports_allocated = gauge(f"{_PORTS}_allocated_ports", "Node ports that Services have")
        self._ports_available = gauge(f"{_PORTS}_available_ports", "Node ports that nobody has")
        self._port_allocations = counter(f"{_PORTS}_allocation_total", "Node ports given out", ("scope",))
        self._port_errors = counter(f"{_PORTS}_allocation_errors_total", "Node ports refused", ("scope",))

    def address(self, ip: str, scope: str) -> None:
        """A cluster IP was given out."""
        address = parse(ip)
        for network in self._networks():
            if address is not None and gives(network, address):
                self._allocations.inc(str(network), scope)

    def address_refused(self, family: str, scope: str) -> None:
        """A cluster IP of a family could not be had."""
        for network in self._networks():
            if family == f"IPv{network.version}":
                self._errors.inc(str(network), scope)

    def port(self, scope: str) -> None:
        """A node port was given out."""
        self._port_allocations.inc(scope)

    def port_refused(self, scope: str) -> None:
        self._port_errors.inc(scope)

    def _refresh(self) -> None:
        taken = self._taken()
        used = sum(isinstance(one, int) and one in self._ports for one in taken)
        self._ports_allocated.set(used)
        self._ports_available.set(len(self._ports) - used)
        addresses = [address for one in taken if isinstance(one, str) and (address := parse(one)) is not None]
        for network in self._networks():
            held = sum(gives(network, address) for address in addresses)
            size = network.num_addresses - (2 if network.version == 4 else 1)
            self._allocated.set(held, str(network))
            self._available.set(size - held, str(network))
