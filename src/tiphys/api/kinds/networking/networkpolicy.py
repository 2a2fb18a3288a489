"""NetworkPolicy (API reference, networking.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, MutableObject, Object
from tiphys.api.kinds.common import PlainKind, child, setdefaults
from tiphys.api.validation.addresses import cidr_warnings, legacy_cidr, parse_cidr
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.labels import label_selector
from tiphys.api.validation.names import port_name, port_number

Struct = Mapping[str, Any]

_DIRECTIONS = (("ingress", "from"), ("egress", "to"))
_PROTOCOLS = ("TCP", "UDP", "SCTP")
_TYPES = ("Ingress", "Egress")


class NetworkPolicy(PlainKind):
    group, plural, kind = "networking.k8s.io", "networkpolicies", "NetworkPolicy"
    counts_generation = True
    columns = (printing.NAME, Column("Pod-Selector", description="@NetworkPolicySpec.podSelector"), printing.AGE)

    def default(self, obj: MutableObject, version: str) -> None:
        spec = child(obj, "spec")
        child(spec, "podSelector")
        for direction, _ in _DIRECTIONS:
            for rule in spec.get(direction) or ():
                for port in rule.get("ports") or ():
                    setdefaults(port, protocol="TCP")
        if not spec.get("policyTypes"):
            spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        _spec(errors, obj.get("spec") or {})

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        known = {cidr for _, block in _blocks(old) for cidr in (block.get("cidr", ""), *(block.get("except") or ()))}
        odd = Errors()
        label_selector(odd, "", (old.get("spec") or {}).get("podSelector"))
        _spec(errors, new.get("spec") or {}, known, any_value=bool(odd))

    def warnings(self, obj: Object, old: Object | None, context: Context) -> list[str]:
        found = []
        for path, block in _blocks(obj):
            found += cidr_warnings(f"{path}.cidr", block.get("cidr", ""))
            for i, cidr in enumerate(block.get("except") or ()):
                found += cidr_warnings(f"{path}.except[{i}]", cidr)
        return found

    def cells(self, obj: Object, now: float) -> list[Any]:
        selector = (obj.get("spec") or {}).get("podSelector")
        return [printing.name(obj), printing.format_selector(selector), printing.age(obj, now)]


def _blocks(obj: Object) -> Iterator[tuple[str, Struct]]:
    for direction, peers in _DIRECTIONS:
        for i, rule in enumerate((obj.get("spec") or {}).get(direction) or ()):
            for j, peer in enumerate(rule.get(peers) or ()):
                if block := peer.get("ipBlock"):
                    yield f"spec.{direction}[{i}].{peers}[{j}].ipBlock", block


def _spec(errors: Errors, spec: Struct, known: Container[str] = (), *, any_value: bool = False) -> None:
    label_selector(errors, "spec.podSelector", spec.get("podSelector"), any_value=any_value)
    for direction, peers in _DIRECTIONS:
        for i, rule in enumerate(spec.get(direction) or ()):
            path = f"spec.{direction}[{i}]"
            for j, port in enumerate(rule.get("ports") or ()):
                _port(errors, f"{path}.ports[{j}]", port)
            for j, peer in enumerate(rule.get(peers) or ()):
                _peer(errors, f"{path}.{peers}[{j}]", peer, known, any_value=any_value)
    types = spec.get("policyTypes") or []
    if len(types) > len(_TYPES):
        errors.invalid("spec.policyTypes", types, "may not specify more than two policyTypes")
        return
    for i, kind in enumerate(types):
        errors.one_of(f"spec.policyTypes[{i}]", kind, _TYPES)


def _port(errors: Errors, path: str, port: Struct) -> None:
    number, end = port.get("port"), port.get("endPort")
    errors.one_of(f"{path}.protocol", port.get("protocol"), _PROTOCOLS)
    if number is None or isinstance(number, str):
        if end is not None:
            state = "specified" if number is None else "non-numeric"
            detail = f"may not be specified when `port` is {'not ' if number is None else ''}{state}"
            errors.invalid(f"{path}.endPort", end, detail)
        if number is not None:
            errors.each(f"{path}.port", number, port_name(number))
        return
    errors.each(f"{path}.port", number, port_number(number))
    if end is not None:
        if end < number:
            errors.invalid(f"{path}.endPort", number, "must be greater than or equal to `port`")
        errors.each(f"{path}.endPort", end, port_number(end))


def _peer(errors: Errors, path: str, peer: Struct, known: Container[str], *, any_value: bool) -> None:
    named = [name for name in ("podSelector", "namespaceSelector", "ipBlock") if peer.get(name) is not None]
    for name in named:
        if name == "ipBlock":
            _block(errors, f"{path}.ipBlock", peer["ipBlock"], known)
        else:
            label_selector(errors, f"{path}.{name}", peer[name], any_value=any_value)
    if not named:
        errors.required(path, "must specify a peer")
    elif len(named) > 1 and "ipBlock" in named:
        errors.forbidden(path, "may not specify both ipBlock and another peer")


def _block(errors: Errors, path: str, block: Struct, known: Container[str]) -> None:
    if not errors.non_empty(f"{path}.cidr", cidr := block.get("cidr", "")):
        return
    legacy_cidr(errors, f"{path}.cidr", cidr, known)
    if (outer := parse_cidr(cidr)) is None:
        return
    for i, text in enumerate(block.get("except") or ()):
        where = f"{path}.except[{i}]"
        legacy_cidr(errors, where, text, known)
        if (inner := parse_cidr(text)) is None:
            continue
        inside = inner[1].network_address in outer[1] if inner[1].version == outer[1].version else False
        if not inside or outer[1].prefixlen >= inner[1].prefixlen:
            errors.invalid(where, text, "must be a strict subset of `cidr`")
