"""GatewayClasses of our controller: their statuses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tiphys.client.types import Object
from tiphys.gateway.definitions import CONTROLLER
from tiphys.gateway.gatewayapi.conditions import condition, conditions_of, stamped

FEATURES = (
    "Gateway",
    "GatewayHTTPListenerIsolation",
    "GatewayInfrastructurePropagation",
    "GatewayPort8080",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteCORS",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteSchemeRedirect",
    "ReferenceGrant",
)
"""The conformance profile's names of what is supported, sorted."""


def is_ours(gateway_class: Object) -> bool:
    return bool((gateway_class.get("spec") or {}).get("controllerName") == CONTROLLER)


def accepted_names(classes: Iterable[Object]) -> frozenset[str]:
    """The classes whose Gateways are served."""
    return frozenset(
        one["metadata"]["name"] for one in classes if is_ours(one) and not (one["spec"].get("parametersRef"))
    )


def status(gateway_class: Object, now: str) -> dict[str, Any]:
    """What its status is to be; `now` is the moment of what changes."""
    refused = bool((gateway_class.get("spec") or {}).get("parametersRef"))
    text = "parametersRef is not supported by this controller" if refused else "served by the gateway of Tiphys"
    wanted = condition("Accepted", not refused, "InvalidParameters" if refused else "Accepted", text, gateway_class)
    conditions = stamped([wanted], conditions_of(gateway_class), now)
    return {"conditions": conditions, "supportedFeatures": [{"name": name} for name in FEATURES]}
