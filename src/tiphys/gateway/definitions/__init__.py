"""Our own definitions of the Gateway API's kinds: GatewayClass, Gateway, HTTPRoute, ReferenceGrant.

The same groups, versions, fields and checks as the standard channel has for what is served here, so that manifests for
it work and the official definitions may replace these at any time. Kinds that are not served are not defined: applying
a GRPCRoute is refused, not ignored. Source: the Gateway API's reference, v1.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from tiphys.gateway.definitions import gateway, gatewayclass, httproute, referencegrant
from tiphys.gateway.resources import GROUP

CONTROLLER = "tiphys.io/gateway-controller"
BUNDLE = "v1.4.0"
"""The release of the Gateway API whose standard channel these follow."""
BUNDLE_VERSION = "gateway.networking.k8s.io/bundle-version"
CHANNEL = "gateway.networking.k8s.io/channel"
APPROVED = "api-approved.kubernetes.io"
DIGEST = "tiphys.io/definition"
"""Annotation of ours: which form of a definition it is."""
_OWNED = {
    "manager": "tiphys",
    "operation": "Update",
    "apiVersion": "apiextensions.k8s.io/v1",
    "fieldsType": "FieldsV1",
    "fieldsV1": {"f:metadata": {"f:annotations": {f"f:{DIGEST}": {}}}},
}
"""Nobody owns the rest: who applies the official definitions on the server's side has no conflict to force."""
_APPROVAL = "https://github.com/kubernetes-sigs/gateway-api/pull/3328"


def all_definitions() -> list[dict[str, Any]]:
    """CustomResourceDefinitions, ready to be created."""
    return [_definition(each.SPEC) for each in (gatewayclass, gateway, httproute, referencegrant)]


def renewed(wanted: Mapping[str, Any], have: Mapping[str, Any]) -> dict[str, Any] | None:
    """One of our own making by another version of Tiphys as this one has it; None for what is as it should be, and for
    what somebody replaced by another release."""
    annotations = have["metadata"].get("annotations") or {}
    made, own = str(annotations.get(DIGEST)), wanted["metadata"]["annotations"]
    if made == own[DIGEST] or made.partition("/")[0] != annotations.get(BUNDLE_VERSION):
        return None
    return {**have, "metadata": {**have["metadata"], "annotations": {**annotations, **own}}, "spec": wanted["spec"]}


def _definition(spec: Mapping[str, Any]) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:16]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{spec['names']['plural']}.{GROUP}",
            "annotations": {
                APPROVED: _APPROVAL,
                BUNDLE_VERSION: BUNDLE,
                CHANNEL: "standard",
                DIGEST: f"{BUNDLE}/{digest}",
            },
            "managedFields": [_OWNED],
        },
        "spec": {"group": GROUP, **spec},
        "status": {"storedVersions": [spec["versions"][0]["name"]]},
    }
