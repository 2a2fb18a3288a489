"""Fields that an endpoint resets whatever is sent, so that nobody manages them through it.

The rule is that the main endpoint resets status and /status resets spec; upstream's strategies have the exceptions.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tiphys.api.apply.fields import MEMBER, Fields, of_path, union

Resource = tuple[str, str]
"""(group, plural)"""

STATUS: Fields = MappingProxyType({"f:status": MEMBER})
SPEC: Fields = MappingProxyType({"f:spec": MEMBER})
SPEC_AND_METADATA: Fields = MappingProxyType({"f:metadata": MEMBER, "f:spec": MEMBER})
NOTHING: Fields = MappingProxyType({})

_CSR = ("certificates.k8s.io", "certificatesigningrequests")
_EXCEPTIONS: Mapping[tuple[Resource, str], Fields] = MappingProxyType(
    {
        (_CSR, ""): union(SPEC, STATUS),
        (_CSR, "status"): union(SPEC, of_path(("f:status", "f:conditions"))),
        (_CSR, "approval"): union(SPEC, of_path(("f:status", "f:certificate"))),
        (("apps", "deployments"), "status"): union(SPEC, of_path(("f:metadata", "f:labels"))),
        (("", "pods"), "status"): union(
            SPEC, {"f:metadata": {"f:deletionTimestamp": MEMBER, "f:ownerReferences": MEMBER}}
        ),
    }
)
_WITH_METADATA = frozenset(
    {
        ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
        ("apiextensions.k8s.io", "customresourcedefinitions"),
        ("apiregistration.k8s.io", "apiservices"),
        ("flowcontrol.apiserver.k8s.io", "flowschemas"),
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations"),
        ("internal.apiserver.k8s.io", "storageversions"),
        ("networking.k8s.io", "servicecidrs"),
        ("resource.k8s.io", "resourceclaims"),
        ("storage.k8s.io", "volumeattachments"),
        ("storagemigration.k8s.io", "storageversionmigrations"),
    }
)
"""Whose /status resets metadata, too."""


def resets(group: str, plural: str, subresource: str, *, has_status: bool, metadata: bool = False) -> Fields:
    """What writing through an endpoint resets, as a set of fields. `metadata`: the kind's /status resets it, too."""
    found = _EXCEPTIONS.get(((group, plural), subresource))
    if found is not None:
        return found
    if not has_status:
        return NOTHING
    if subresource != "status":
        return STATUS
    return SPEC_AND_METADATA if metadata or (group, plural) in _WITH_METADATA else SPEC
