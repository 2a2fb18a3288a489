"""What the repair of allocations counts, by upstream's names."""

from __future__ import annotations

from tiphys.base.metrics import Registry

_KIND = ("type",)


class RepairMetrics:
    """Errors found, by their type: repair, duplicate, outOfRange, invalid, leak."""

    def __init__(self) -> None:
        self.registry = Registry()
        counter = self.registry.counter
        self.addresses = counter("apiserver_clusterip_repair_ip_errors_total", "Errors found at cluster IPs", _KIND)
        self.ports = counter("apiserver_nodeport_repair_port_errors_total", "Errors found at node ports", _KIND)
        self.failures = counter(
            "apiserver_clusterip_repair_reconcile_errors_total", "Repairs of cluster IPs that failed"
        )
