"""From a Service to an address that this process can connect to, by the caches alone: nothing asks the cluster's DNS.

The process that serves the API is no pod and has no service proxy: it connects to the pods behind a Service, as
kube-apiserver does with --enable-aggregator-routing. Addresses come from EndpointSlices, which may name servers outside
of the cluster too. Who may write slices could point at addresses only this process reaches, so those of this machine
and its link are refused, and nothing is sent before the server has proved by its certificate to be that Service.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

from tiphys.api import errors
from tiphys.apiserver.proxyable import proxyable
from tiphys.apiserver.types import Reader
from tiphys.base.errors import ServiceUnavailable

Object = Mapping[str, Any]
ROUTED = ("ClusterIP", "NodePort", "LoadBalancer")


class ServiceResolver:
    """See the module's docstring. `own` is where the Service default/kubernetes leads: this server itself."""

    def __init__(self, reader: Reader, own: tuple[str, int] | None = None) -> None:
        self._reader, self._own = reader, own

    def resolve(self, namespace: str, name: str, port: int) -> tuple[str, int]:
        """Host and port of one ready endpoint, any of them. Raises NotFound, ServiceUnavailable."""
        if self._own is not None and (namespace, name, port) == ("default", "kubernetes", 443):
            return self._own
        service = self._reader.get("", "services", namespace, name)
        if service is None:
            raise errors.not_found("", "service", name)
        spec = service.get("spec") or {}
        type = spec.get("type", "ClusterIP")
        if type == "ExternalName":
            return str(spec["externalName"]), port
        if type not in ROUTED:
            raise ServiceUnavailable(f'unsupported service type "{type}"')
        chosen = next((one for one in spec.get("ports") or () if one.get("port") == port), None)
        if chosen is None:
            raise ServiceUnavailable(f'no service port {port} found for service "{name}"')
        found = list(self._endpoints(service, chosen.get("name") or ""))
        if not found:
            raise ServiceUnavailable(f'no endpoints available for service "{name}"')
        return random.choice(found)  # noqa: S311 - spreads load, keeps no secret

    def _endpoints(self, service: Object, port: str) -> Iterator[tuple[str, int]]:
        metadata = service["metadata"]
        slices = [
            one
            for one in self._reader.list("discovery.k8s.io", "endpointslices", metadata["namespace"])
            if (one["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == metadata["name"]
        ]
        families = (service.get("spec") or {}).get("ipFamilies") or ()
        first = [one for one in slices if families and one.get("addressType") == families[0]]
        for group in (first, slices):
            found = [pair for one in group for pair in _ready(one, port)]
            if found:
                yield from found
                return


def _ready(piece: Object, port: str) -> Iterator[tuple[str, int]]:
    """Addresses of a slice's ready endpoints, with the number that the port of this name has there."""
    numbers = [one.get("port") for one in piece.get("ports") or () if (one.get("name") or "") == port]
    if not numbers or numbers[0] is None:
        return
    for endpoint in piece.get("endpoints") or ():
        ready = (endpoint.get("conditions") or {}).get("ready")
        addresses = endpoint.get("addresses")
        if ready is not False and addresses and proxyable(addresses[0]):
            yield addresses[0], numbers[0]
