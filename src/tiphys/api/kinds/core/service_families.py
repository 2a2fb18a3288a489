"""IP families of a Service on a single-stack IPv4 cluster: what is filled in, and what cannot be had (KEP-563)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.kinds.base import MutableObject
from tiphys.api.validation.addresses import is_ipv6
from tiphys.api.validation.errors import Errors

Struct = Mapping[str, Any]

FAMILIES = ("IPv4",)
"""What this cluster's Services can have; the first one is the default."""
_BOTH = ("IPv4", "IPv6")


def _family(address: str) -> str:
    return "IPv6" if is_ipv6(address) else "IPv4"


def _selectorless(spec: Struct) -> bool:
    """Headless without a selector: its endpoints may be of any family, whatever the cluster has."""
    return spec.get("clusterIP") == "None" and not spec.get("selector")


def fill_policy(spec: MutableObject, was: Struct) -> None:
    """The policy that was left out; `was` is the stored spec, {} for a new Service."""
    if spec.get("ipFamilyPolicy") is None:
        default = "RequireDualStack" if _selectorless(spec) else "SingleStack"
        spec["ipFamilyPolicy"] = was.get("ipFamilyPolicy") or default


def fill_families(spec: MutableObject, was: Struct) -> None:
    """The families that were left out, and what a policy of one family makes of those that are there."""
    single = spec["ipFamilyPolicy"] == "SingleStack"
    if was and single:
        for name in ("clusterIPs", "ipFamilies"):
            if spec.get(name) == was.get(name) and len(spec.get(name) or ()) > 1:
                spec[name] = spec[name][:1]
    families = list(spec.get("ipFamilies") or ())
    for address in (spec.get("clusterIPs") or ())[len(families) :]:
        if address == "None":
            break
        if _family(address) in FAMILIES:
            families.append(_family(address))
    families = families or [FAMILIES[0]]
    if _selectorless(spec) and len(families) == 1 and not single:
        families += [family for family in _BOTH if family not in families]
    spec["ipFamilies"] = families


def family_errors(errors: Errors, spec: Struct, was: Struct) -> None:
    """What this cluster cannot do; found before anything else is looked at."""
    if spec.get("type") == "ExternalName":
        return
    policy, addresses, families = spec.get("ipFamilyPolicy"), spec.get("clusterIPs") or [], spec.get("ipFamilies") or []
    if policy != "SingleStack" and was:
        for name, what in (("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")):
            if _reduced(spec.get(name) or [], was.get(name) or []):
                detail = f"must be 'SingleStack' to release the secondary {what}"
                errors.invalid("spec.ipFamilyPolicy", policy, detail)
    if policy == "SingleStack":
        for listed, what in ((addresses, "cluster IPs"), (families, "IP families")):
            if len(listed) == 2:
                detail = f"must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
                errors.invalid("spec.ipFamilyPolicy", policy, detail)
    for i, address in enumerate(addresses):
        if address == "None":
            break
        family = _family(address)
        if family not in FAMILIES and (i >= len(families) or families[i] not in FAMILIES):
            errors.invalid(f"spec.clusterIPs[{i}]", addresses, f"{family} is not configured on this cluster")
    if errors or _selectorless(spec):
        return
    if policy == "RequireDualStack":
        detail = "this cluster is not configured for dual-stack services"
        errors.invalid("spec.ipFamilyPolicy", policy, detail)
    for i, family in enumerate(families):
        if family not in FAMILIES:
            errors.invalid(f"spec.ipFamilies[{i}]", family, "not configured on this cluster")


def _reduced(now: Sequence[str], before: Sequence[str]) -> bool:
    return bool(now) and len(now) == 1 < len(before) and now[0] == before[0]
