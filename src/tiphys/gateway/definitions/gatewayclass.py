"""GatewayClass: which controller serves the Gateways of a class."""

from __future__ import annotations

from tiphys.gateway.definitions import schema as s

_SPEC = s.record(
    "controllerName",
    controllerName=s.controller() | {"x-kubernetes-validations": [s.rule("self == oldSelf", "Value is immutable")]},
    description=s.text(0, 64, nullable=True),
    parametersRef=s.record(
        "group kind name", group=s.group(), kind=s.kind(), name=s.text(1, 253), namespace=s.namespace()
    ),
)
_STATUS = s.record(
    conditions=s.conditions(default=s.waiting("Accepted")),
    supportedFeatures=s.array(s.record("name", name=s.text()), 64, kind="map", keys="name"),
) | {"default": {"conditions": s.waiting("Accepted")}}

SPEC = {
    "scope": "Cluster",
    "names": {
        "categories": ["gateway-api"],
        "kind": "GatewayClass",
        "listKind": "GatewayClassList",
        "plural": "gatewayclasses",
        "shortNames": ["gc"],
        "singular": "gatewayclass",
    },
    "versions": s.versions(
        [
            s.column("Controller", ".spec.controllerName"),
            s.column("Accepted", '.status.conditions[?(@.type=="Accepted")].status'),
            s.AGE,
            s.column("Description", ".spec.description", priority=1),
        ],
        s.whole("A class of Gateways, and the controller that serves them.", _SPEC, _STATUS),
    ),
}
