"""IPAddress and ServiceCIDR (API reference, networking.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, FieldError, Object
from tiphys.api.kinds.common import PlainKind, StatusKind
from tiphys.api.kinds.networking.ingress import segments
from tiphys.api.validation.addresses import canonical_cidr, parse_cidr
from tiphys.api.validation.errors import IMMUTABLE, Errors
from tiphys.api.validation.names import dns_subdomain, path_segment

Struct = Mapping[str, Any]

_MAX_CIDRS = 2
_ONE_PER_FAMILY = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"


class IPAddress(PlainKind):
    """The name is the address."""

    group, plural, kind = "networking.k8s.io", "ipaddresses", "IPAddress"
    name_check = "ip_address"
    revalidates_metadata = True
    columns = (printing.NAME, Column("ParentRef", description="@IPAddressSpec.parentRef"))

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        path, parent = "spec.parentRef", (obj.get("spec") or {}).get("parentRef")
        if parent is None:
            errors.required(path)
            return
        if group := parent.get("group"):
            errors.each(f"{path}.group", group, dns_subdomain(group))
        segments(errors, path, parent, "resource", "name")
        if namespace := parent.get("namespace"):
            errors.each(f"{path}.namespace", namespace, path_segment(namespace))

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        self.check(errors, new, context)
        parent, was = ((obj.get("spec") or {}).get("parentRef") for obj in (new, old))
        if parent != was:
            errors.invalid("spec.parentRef", _shown(parent), IMMUTABLE)

    def cells(self, obj: Object, now: float) -> list[Any]:
        parent, text = (obj.get("spec") or {}).get("parentRef"), printing.NONE
        if parent is not None:
            group, namespace = parent.get("group"), parent.get("namespace")
            resource = parent.get("resource", "") + (f".{group}" if group else "")
            text = "/".join([resource.lower(), *([namespace] if namespace else []), parent.get("name", "")])
        return [printing.name(obj), text, printing.age(obj, now)]


class ServiceCIDR(StatusKind):
    group, plural, kind = "networking.k8s.io", "servicecidrs", "ServiceCIDR"
    counts_generation = False
    columns = (printing.NAME, Column("CIDRs", description="@ServiceCIDRSpec.cidrs"), printing.AGE)

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        _cidrs(errors, "spec.cidrs", _listed(obj))

    def validate_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        errors, path = Errors(), "spec.cidrs"
        cidrs, was = _listed(new), _listed(old)
        widened = len(was) == 1 and len(cidrs) == _MAX_CIDRS
        if not widened and len(was) != len(cidrs):
            errors.invalid(path, (new.get("spec") or {}).get("cidrs"), IMMUTABLE)
            return errors
        for i, cidr in enumerate(was):
            if cidr != cidrs[i]:
                errors.invalid(f"{path}[{i}]", cidrs[i], IMMUTABLE)
        if widened:
            _cidrs(errors, path, cidrs)
        return errors

    def cells(self, obj: Object, now: float) -> list[Any]:
        return [printing.name(obj), ",".join(_listed(obj)), printing.age(obj, now)]


def _listed(obj: Object) -> Sequence[str]:
    return (obj.get("spec") or {}).get("cidrs") or ()


def _cidrs(errors: Errors, path: str, cidrs: Sequence[str]) -> None:
    if not errors.non_empty(path, cidrs, "at least one CIDR required"):
        return
    if len(cidrs) > _MAX_CIDRS:
        errors.invalid(path, {"CIDRs": cidrs}, "may only hold up to 2 values")
        return
    for i, cidr in enumerate(cidrs):
        canonical_cidr(errors, f"{path}[{i}]", cidr)
    families = [parsed[1].version for cidr in cidrs if (parsed := parse_cidr(cidr))]
    if len(families) == _MAX_CIDRS and families[0] == families[1]:
        errors.invalid(path, cidrs, _ONE_PER_FAMILY)


def _shown(parent: Struct | None) -> Any:
    """The reference as answers show it, by the names of its fields in Go."""
    if parent is None:
        return None
    return {name.capitalize(): parent.get(name, "") for name in ("group", "resource", "namespace", "name")}
