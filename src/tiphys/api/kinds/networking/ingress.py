"""Ingress (API reference, networking.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, FieldError, Object
from tiphys.api.kinds.common import StatusKind
from tiphys.api.kinds.core.service_rules import balancer_host
from tiphys.api.validation.addresses import ip_warnings, legacy_ip, parse
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.names import (
    dns_label,
    dns_subdomain,
    path_segment,
    port_name,
    port_number,
    wildcard_subdomain,
)

Struct = Mapping[str, Any]

_CLASS = "kubernetes.io/ingress.class"
_BAD_PARTS = ("//", "/./", "/../", "%2f", "%2F")
_BAD_ENDS = ("/..", "/.")
_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_MAX_HOSTS = 3


class Ingress(StatusKind):
    group, plural, kind = "networking.k8s.io", "ingresses", "Ingress"
    revalidates_metadata = True
    empty_status: Mapping[str, Any] = {"loadBalancer": {}}
    columns = (
        printing.NAME,
        Column(
            "Class",
            description="The name of the IngressClass resource that should be used for additional configuration",
        ),
        Column("Hosts", description="Hosts that incoming requests are matched against before the ingress rule"),
        Column("Address", description="Address is a list containing ingress points for the load-balancer"),
        Column("Ports", description="Ports of TLS configurations that open"),
        printing.AGE,
    )

    def validate(self, obj: Object, context: Context) -> list[FieldError]:
        errors = Errors(super().validate(obj, context))
        name, wanted = _annotation(obj), (obj.get("spec") or {}).get("ingressClassName")
        if None not in (name, wanted) and name != wanted:
            errors.invalid(f"annotations.{_CLASS}", name, "must match `ingressClassName` when both are specified")
        return errors

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        _spec(errors, obj.get("spec") or {})

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        tls = (old.get("spec") or {}).get("tls") or ()
        any_secret = any(dns_subdomain(part["secretName"]) for part in tls if part.get("secretName"))
        _spec(errors, new.get("spec") or {}, any_secret=any_secret)

    def validate_status_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        errors, known = Errors(), [point.get("ip", "") for point in _points(old)]
        for i, point in enumerate(_points(new)):
            path = f"status.loadBalancer.ingress[{i}]"
            if point.get("ip"):
                legacy_ip(errors, f"{path}.ip", point["ip"], known)
            if point.get("hostname"):
                balancer_host(errors, f"{path}.hostname", point["hostname"])
        return errors

    def warnings(self, obj: Object, old: Object | None, context: Context) -> list[str]:
        if context.subresource == "status":
            points = enumerate(_points(obj))
            return [
                text for i, p in points for text in ip_warnings(f"status.loadBalancer.ingress[{i}]", p.get("ip", ""))
            ]
        if old is None and _annotation(obj) is not None and (obj.get("spec") or {}).get("ingressClassName") is None:
            return [f"annotation \"{_CLASS}\" is deprecated, please use 'spec.ingressClassName' instead"]
        return []

    def cells(self, obj: Object, now: float) -> list[Any]:
        spec: Struct = obj.get("spec") or {}
        addresses = {point.get("ip") or point.get("hostname") or "" for point in _points(obj)} - {""}
        name = spec.get("ingressClassName")
        return [
            printing.name(obj),
            printing.NONE if name is None else name,
            _hosts(spec.get("rules") or ()),
            ",".join(sorted(addresses)),
            "80, 443" if spec.get("tls") else "80",
            printing.age(obj, now),
        ]


def _annotation(obj: Object) -> str | None:
    return ((obj.get("metadata") or {}).get("annotations") or {}).get(_CLASS)


def _points(obj: Object) -> Sequence[Struct]:
    return ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()


def _hosts(rules: Sequence[Struct]) -> str:
    listed = [rule["host"] for rule in rules if rule.get("host")]
    text = ",".join(listed[:_MAX_HOSTS]) or "*"
    # Rules past the third host count, be there a host in them or not.
    full = (
        len(listed) >= _MAX_HOSTS and len(rules) > rules.index(next(r for r in rules if r.get("host") == listed[2])) + 1
    )
    return f"{text} + {len(rules) - _MAX_HOSTS} more..." if full else text


def _spec(errors: Errors, spec: Struct, *, any_secret: bool = False) -> None:
    rules, backend, path = spec.get("rules"), spec.get("defaultBackend"), "spec"
    if not rules and backend is None:
        errors.invalid(path, rules, "either `defaultBackend` or `rules` must be specified")
    if backend is not None:
        _backend(errors, f"{path}.defaultBackend", backend)
    for i, rule in enumerate(rules or ()):
        _rule(errors, f"{path}.rules[{i}]", rule)
    for i, tls in enumerate(spec.get("tls") or ()):
        for j, host in enumerate(tls.get("hosts") or ()):
            _host(errors, f"{path}.tls[{i}].hosts[{j}]", host)
        if (secret := tls.get("secretName")) and not any_secret:
            errors.each(f"{path}.tls[{i}].secretName", secret, dns_subdomain(secret))
    if (name := spec.get("ingressClassName")) is not None:
        errors.each(f"{path}.ingressClassName", name, dns_subdomain(name))


def _host(errors: Errors, path: str, host: str) -> None:
    errors.each(path, host, wildcard_subdomain(host) if "*" in host else dns_subdomain(host))


def _rule(errors: Errors, path: str, rule: Struct) -> None:
    if host := rule.get("host"):
        if parse(host) is not None:
            errors.invalid(f"{path}.host", host, "must be a DNS name, not an IP address")
        _host(errors, f"{path}.host", host)
    if (http := rule.get("http")) is None:
        return
    errors.non_empty(f"{path}.http.paths", http.get("paths"))
    for i, part in enumerate(http.get("paths") or ()):
        _path(errors, f"{path}.http.paths[{i}]", part)


def _path(errors: Errors, path: str, part: Struct) -> None:
    kind, value = part.get("pathType"), part.get("path", "")
    if kind is None:
        errors.required(f"{path}.pathType", "pathType must be specified")
        return
    errors.one_of(f"{path}.pathType", kind, _PATH_TYPES)
    exact = kind in ("Exact", "Prefix")
    if kind in _PATH_TYPES and (exact or value) and not value.startswith("/"):
        errors.invalid(f"{path}.path", value, "must be an absolute path")
    if exact:
        found = [f"must not contain '{text}'" for text in _BAD_PARTS if text in value]
        found += [f"cannot end with '{text}'" for text in _BAD_ENDS if value.endswith(text)]
        errors.each(f"{path}.path", value, found)
    _backend(errors, f"{path}.backend", part.get("backend") or {})


def _backend(errors: Errors, path: str, backend: Struct) -> None:
    service, resource = backend.get("service"), backend.get("resource")
    if resource is not None and service is not None:
        errors.invalid(path, "", "cannot set both resource and service backends")
    elif resource is not None:
        local_reference(errors, f"{path}.resource", resource)
    elif service is not None:
        _service(errors, path, service)
    else:
        errors.invalid(path, "", "resource or service backend is required")


def _service(errors: Errors, path: str, service: Struct) -> None:
    port: Struct = service.get("port") or {}
    name, number = port.get("name"), port.get("number")
    if errors.non_empty(f"{path}.service.name", service.get("name")):
        errors.each(f"{path}.service.name", service["name"], dns_label(service["name"]))
    if name and number:
        errors.invalid(path, "", "cannot set both port name & port number")
    elif name:
        errors.each(f"{path}.service.port.name", name, port_name(name))
    elif number:
        errors.each(f"{path}.service.port.number", number, port_number(number))
    else:
        errors.required(path, "port name or number is required")


def local_reference(errors: Errors, path: str, reference: Struct) -> None:
    """A reference to an object of any kind, by names that fit into a URL."""
    if (group := reference.get("apiGroup")) is not None:
        errors.each(f"{path}.apiGroup", group, dns_subdomain(group))
    segments(errors, path, reference, "kind", "name")


def segments(errors: Errors, path: str, struct: Struct, *names: str) -> None:
    """These fields must be there and fit into a URL."""
    for name in names:
        if errors.non_empty(f"{path}.{name}", struct.get(name)):
            errors.each(f"{path}.{name}", struct[name], path_segment(struct[name]))
