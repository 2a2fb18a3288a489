"""EndpointSlice of discovery.k8s.io/v1beta1: zone and host are labels in an endpoint's topology."""

from __future__ import annotations

from typing import Any

from tiphys.api.kinds.base import MutableObject
from tiphys.api.kinds.discovery.endpointslice import EndpointSlice
from tiphys.api.kinds.former.base import Former, structs

ZONE, HOSTNAME = "topology.kubernetes.io/zone", "kubernetes.io/hostname"


class FormerSlice(Former, EndpointSlice):
    def renew(self, obj: MutableObject) -> None:
        for endpoint in structs(obj.get("endpoints")):
            _renew(endpoint)

    def restore(self, obj: MutableObject) -> None:
        for endpoint in structs(obj.get("endpoints")):
            _restore(endpoint)


def _renew(endpoint: dict[str, Any]) -> None:
    topology = dict(endpoint.pop("topology", None) or {})
    zone = topology.pop(ZONE, None)
    if zone is not None:
        endpoint["zone"] = zone
    if HOSTNAME in topology and topology[HOSTNAME] == endpoint.get("nodeName"):
        del topology[HOSTNAME]
    if topology:
        endpoint["deprecatedTopology"] = topology


def _restore(endpoint: dict[str, Any]) -> None:
    topology = dict(endpoint.pop("deprecatedTopology", None) or {})
    zone = endpoint.pop("zone", None)
    if zone is not None:
        topology[ZONE] = zone
    if endpoint.get("nodeName") is not None and not topology.get(HOSTNAME):
        topology[HOSTNAME] = endpoint["nodeName"]
    if topology:
        endpoint["topology"] = topology
