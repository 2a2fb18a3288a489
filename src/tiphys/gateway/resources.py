"""The resources that only the gateway reads."""

from __future__ import annotations

from tiphys.client.types import Resource

GROUP = "gateway.networking.k8s.io"
INGRESSES = Resource("networking.k8s.io", "v1", "ingresses")
INGRESS_CLASSES = Resource("networking.k8s.io", "v1", "ingressclasses", namespaced=False)
GATEWAY_CLASSES = Resource(GROUP, "v1", "gatewayclasses", namespaced=False)
GATEWAYS = Resource(GROUP, "v1", "gateways")
HTTP_ROUTES = Resource(GROUP, "v1", "httproutes")
REFERENCE_GRANTS = Resource(GROUP, "v1beta1", "referencegrants")
