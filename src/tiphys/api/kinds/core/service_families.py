"""IP families of a Service: what is filled in, and what a cluster of certain families cannot have (KEP-563). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.kinds.base import MutableObject
from tiphys.api.kinds.core.service_rules import cluster_ips
from tiphys.api.validation.addresses import is_ipv6
from tiphys.api.validation.errors import Errors

Struct = Mapping[str, Any]

_BOTH = ("IPv4", "IPv6")
_ROUTED = ("ClusterIP", "NodePort", "LoadBalancer")
_POLICY = "spec.ipFamilyPolicy"


def settle(errors: Errors, spec: MutableObject, was: Struct, families: Sequence[str]) -> None:
    """Fill in policy and families as they follow from the rest.

    `was` is the stored spec, {} for a new Service; `families` are the cluster's, the default one first."""
    if spec.get("type") == "ExternalName" or keeps_preference(spec, was):
        return
    _fill_policy(spec, was)
    cluster_ips(errors, spec, was.get("clusterIPs") or ())
    if errors:
        return
    if was:
        _release(errors, spec, was)
    _check_policy(errors, spec)
    _infer(errors, spec, families)
    if errors:
        return
    if _selectorless(spec):
        _complete(spec, families[0], _BOTH)
        return
    if spec["ipFamilyPolicy"] == "RequireDualStack" and len(families) < 2:
        errors.invalid(_POLICY, spec["ipFamilyPolicy"], "this cluster is not configured for dual-stack services")
    for i, family in enumerate(spec.get("ipFamilies") or ()):
        if family not in families:
            errors.invalid(f"spec.ipFamilies[{i}]", family, "not configured on this cluster")
    if not errors:
        _complete(spec, families[0], families)


def keeps_preference(spec: Struct, was: Struct) -> bool:
    """Whether it preferred both families before and does so now, with what it has.

    Such a Service changes only when its user says so, not because the cluster has got or lost a family."""
    return (
        spec.get("type") in _ROUTED
        and spec.get("type") == was.get("type")
        and spec.get("ipFamilyPolicy") == "PreferDualStack"
        and was.get("ipFamilyPolicy") in ("PreferDualStack", None)
        and all((spec.get(name) or []) == (was.get(name) or []) for name in ("clusterIPs", "ipFamilies"))
    )


def _family(address: str) -> str:
    return "IPv6" if is_ipv6(address) else "IPv4"


def _selectorless(spec: Struct) -> bool:
    """Headless without a selector: its endpoints may be of any family, whatever the cluster has."""
    return spec.get("clusterIP") == "None" and not spec.get("selector")


def _fill_policy(spec: MutableObject, was: Struct) -> None:
    """An update that leaves it out keeps it; what had none before (ExternalName) gets it as if it were new."""
    if spec.get("ipFamilyPolicy") is None:
        default = "RequireDualStack" if _selectorless(spec) else "SingleStack"
        spec["ipFamilyPolicy"] = was.get("ipFamilyPolicy") or default


def _release(errors: Errors, spec: MutableObject, was: Struct) -> None:
    """The second family goes when the policy says so; one that is left out without that is a mistake."""
    for name, what in (("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")):
        now, before = spec.get(name) or [], was.get(name) or []
        if spec["ipFamilyPolicy"] == "SingleStack":
            if now == before and len(now) > 1:
                spec[name] = now[:1]
        elif now and len(now) < len(before):
            errors.invalid(_POLICY, spec["ipFamilyPolicy"], f"must be 'SingleStack' to release the secondary {what}")


def _check_policy(errors: Errors, spec: Struct) -> None:
    if spec["ipFamilyPolicy"] != "SingleStack":
        return
    for name, what in (("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")):
        if len(spec.get(name) or ()) == 2:
            detail = f"must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
            errors.invalid(_POLICY, "SingleStack", detail)


def _infer(errors: Errors, spec: MutableObject, families: Sequence[str]) -> None:
    """Addresses that are given tell their families."""
    addresses, known = spec.get("clusterIPs") or [], list(spec.get("ipFamilies") or ())
    for i, address in enumerate(addresses):
        if address == "None":
            break
        if i < len(known):
            continue
        family = _family(address)
        if family in families:
            known.append(family)
        else:
            errors.invalid(f"spec.clusterIPs[{i}]", addresses, f"{family} is not configured on this cluster")
    if known:
        spec["ipFamilies"] = known


def _complete(spec: MutableObject, default: str, possible: Sequence[str]) -> None:
    families = list(spec.get("ipFamilies") or (default,))
    if len(families) == 1 and spec["ipFamilyPolicy"] != "SingleStack":
        families += [family for family in possible if family not in families]
    spec["ipFamilies"] = families
