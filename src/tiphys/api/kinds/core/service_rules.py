"""Rules of Services: types, ports, addresses and families, traffic policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.kinds.base import Object
from tiphys.api.validation.addresses import endpoint_ip, is_ipv6, legacy_cidr, legacy_ip, parse
from tiphys.api.validation.containers import PROTOCOLS
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.labels import labels
from tiphys.api.validation.names import dns_label, dns_subdomain, qualified_name
from tiphys.api.validation.probes import port as port_or_name

Struct = Mapping[str, Any]

TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_ROUTED = ("NodePort", "LoadBalancer", "ClusterIP")
_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
_SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
_HINTS = "service.kubernetes.io/topology-aware-hints"
_MODE = "service.kubernetes.io/topology-mode"
_ONLY_BALANCER = "may only be used when `type` is 'LoadBalancer'"
_ONE_FAMILY = "may specify no more than one IP for each IP family"
_AFFINITY_LIMIT = 86400


def _spec(obj: Object | None) -> Struct:
    return (obj or {}).get("spec") or {}


def _headless(spec: Struct) -> bool:
    return spec.get("clusterIPs") == ["None"]


def service(errors: Errors, obj: Object, old: Object | None) -> None:
    spec, was = _spec(obj), _spec(old)
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    if _HINTS in annotations and _MODE in annotations and annotations[_HINTS] != annotations[_MODE]:
        detail = f"must match annotations[{_HINTS}] when both are specified"
        errors.invalid(f"metadata.annotations[{_MODE}]", annotations[_MODE], detail)
    ports = spec.get("ports") or ()
    if not ports and not _headless(spec) and spec.get("type") != "ExternalName":
        errors.required("spec.ports")
    _type(errors, spec)
    names: set[str] = set()
    for i, port in enumerate(ports):
        _port(errors, f"spec.ports[{i}]", port, names, needs_name=len(ports) > 1)
    labels(errors, "spec.selector", spec.get("selector"))
    _affinity(errors, spec)
    cluster_ips(errors, spec, was.get("clusterIPs") or ())
    for i, address in enumerate(spec.get("externalIPs") or ()):
        path = f"spec.externalIPs[{i}]"
        if legacy_ip(errors, path, address, was.get("externalIPs") or ()):
            endpoint_ip(errors, path, address)
    errors.enum("spec.type", spec.get("type"), TYPES)
    _port_numbers(errors, spec, ports)
    _source_ranges(errors, obj, old)
    _balancer(errors, spec)
    _traffic(errors, spec)


def _type(errors: Errors, spec: Struct) -> None:
    kind = spec.get("type")
    if kind in ("LoadBalancer", "NodePort") and _headless(spec):
        errors.invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services")
    if kind != "ExternalName":
        return
    for name in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if spec.get(name) or (name == "ipFamilyPolicy" and name in spec):
            errors.forbidden(f"spec.{name}", "may not be set for ExternalName services")
    name = spec.get("externalName", "").removesuffix(".")
    if errors.non_empty("spec.externalName", name):
        errors.each("spec.externalName", name, dns_subdomain(name))


def _port(errors: Errors, path: str, port: Struct, names: set[str], *, needs_name: bool) -> None:
    name = port.get("name", "")
    if name:
        errors.each(f"{path}.name", name, dns_label(name))
        if name in names:
            errors.duplicate(f"{path}.name", name)
        names.add(name)
    elif needs_name:
        errors.required(f"{path}.name")
    errors.within(f"{path}.port", port.get("port") or 0, 1, 65535)
    errors.enum(f"{path}.protocol", port.get("protocol"), PROTOCOLS)
    port_or_name(errors, f"{path}.targetPort", port.get("targetPort"))
    if (protocol := port.get("appProtocol")) is not None:
        errors.each(f"{path}.appProtocol", protocol, qualified_name(protocol))


def _affinity(errors: Errors, spec: Struct) -> None:
    kind, config = spec.get("sessionAffinity"), spec.get("sessionAffinityConfig")
    errors.enum("spec.sessionAffinity", kind, ("ClientIP", "None"))
    path = "spec.sessionAffinityConfig"
    if kind == "None" and config is not None:
        errors.forbidden(path, "must not be set when session affinity is None")
    if kind != "ClientIP":
        return
    for name in ("", "clientIP", "timeoutSeconds"):
        config = (config or {}).get(name) if name else config
        path = f"{path}.{name}" if name else path
        if config is None:
            errors.required(path, "when session affinity type is ClientIP")
            return
    if isinstance(config, int) and not 0 < config <= _AFFINITY_LIMIT:
        errors.invalid(path, config, f"must be greater than 0 and less than {_AFFINITY_LIMIT}")


def cluster_ips(errors: Errors, spec: Struct, known: Sequence[str]) -> None:
    if spec.get("type") == "ExternalName":
        return
    single, listed, path = spec.get("clusterIP") or "", spec.get("clusterIPs") or [], "spec.clusterIPs"
    if single and not listed:
        errors.required(path)
    elif single and listed[0] != single:
        errors.invalid(path, listed, "first value must match `clusterIP`")
    elif not single and listed:
        errors.invalid(path, listed, "must be empty when `clusterIP` is not specified")
    families = spec.get("ipFamilies") or []
    for i, family in enumerate(families):
        errors.one_of(f"spec.ipFamilies[{i}]", family, ("IPv4", "IPv6"))
        if family in families[:i]:
            errors.duplicate(f"spec.ipFamilies[{i}]", family)
    policies = ("PreferDualStack", "RequireDualStack", "SingleStack")
    errors.one_of("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), policies)
    if _valid_ips(errors, listed, known):
        _families(errors, listed, families)


def _valid_ips(errors: Errors, listed: list[str], known: Sequence[str]) -> bool:
    well = True
    for i, address in enumerate(listed):
        if i == 0 and address == "None":
            if len(listed) > 1:
                well = False
                errors.invalid("spec.clusterIPs", listed, "'None' must be the first and only value")
        else:
            well = legacy_ip(errors, f"spec.clusterIPs[{i}]", address, known) and well
    if len(listed) > 2:
        errors.invalid("spec.clusterIPs", listed, "may only hold up to 2 values")
    return well


def _families(errors: Errors, listed: list[str], families: list[str]) -> None:
    if len(listed) > 1 and len({is_ipv6(address) for address in listed}) < 2:
        errors.invalid("spec.clusterIPs", listed, _ONE_FAMILY)
    if listed == ["None"]:
        return
    for i, (address, family) in enumerate(zip(listed, families, strict=False)):
        if family in ("IPv4", "IPv6") and is_ipv6(address) != (family == "IPv6"):
            detail = f"expected an {family} value as indicated by `ipFamilies[{i}]`"
            errors.invalid(f"spec.clusterIPs[{i}]", address, detail)


def _port_numbers(errors: Errors, spec: Struct, ports: Sequence[Struct]) -> None:
    node_ports: set[tuple[Any, Any]] = set()
    seen: set[tuple[Any, Any]] = set()
    if spec.get("type") == "ClusterIP":
        for i, port in enumerate(ports):
            if port.get("nodePort"):
                errors.forbidden(f"spec.ports[{i}].nodePort", "may not be used when `type` is 'ClusterIP'")
    for i, port in enumerate(ports):
        if number := port.get("nodePort"):
            if (port.get("protocol"), number) in node_ports:
                errors.duplicate(f"spec.ports[{i}].nodePort", number)
            node_ports.add((port.get("protocol"), number))
    for i, port in enumerate(ports):
        key = (port.get("protocol", ""), port.get("port") or 0)
        if key in seen:
            errors.duplicate(f"spec.ports[{i}]", _port_shown(*key))
        seen.add(key)


def _port_shown(protocol: str, number: int) -> dict[str, Any]:
    """A port as the message shows it: all its fields, under their internal names."""
    return {
        "Name": "",
        "Protocol": protocol,
        "AppProtocol": None,
        "Port": number,
        "TargetPort": 0,
        "NodePort": 0,
    }


def _source_ranges(errors: Errors, obj: Object, old: Object | None) -> None:
    spec, was = _spec(obj), _spec(old)
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    is_balancer = spec.get("type") == "LoadBalancer"
    if ranges := spec.get("loadBalancerSourceRanges"):
        path = "spec.LoadBalancerSourceRanges"
        if not is_balancer:
            errors.forbidden(path, _ONLY_BALANCER)
        known = [value.strip() for value in was.get("loadBalancerSourceRanges") or ()]
        for i, value in enumerate(ranges):
            legacy_cidr(errors, f"{path}[{i}]", value.strip(), known)
    elif _SOURCE_RANGES in annotations:
        path, text = f"metadata.annotations[{_SOURCE_RANGES}]", annotations[_SOURCE_RANGES]
        if not is_balancer:
            errors.forbidden(path, _ONLY_BALANCER)
        before = ((old or {}).get("metadata") or {}).get("annotations") or {}
        if before.get(_SOURCE_RANGES) != text and text.strip():
            for value in text.strip().split(","):
                legacy_cidr(errors, path, value.strip())


def _balancer(errors: Errors, spec: Struct) -> None:
    is_balancer, allocate = spec.get("type") == "LoadBalancer", spec.get("allocateLoadBalancerNodePorts")
    if allocate is not None and not is_balancer:
        errors.forbidden("spec.allocateLoadBalancerNodePorts", _ONLY_BALANCER)
    if is_balancer and allocate is None:
        errors.required("allocateLoadBalancerNodePorts")
    if (name := spec.get("loadBalancerClass")) is not None:
        if is_balancer:
            errors.each("spec.loadBalancerClass", name, qualified_name(name))
        else:
            errors.forbidden("spec.loadBalancerClass", _ONLY_BALANCER)


def _traffic(errors: Errors, spec: Struct) -> None:
    kind, external = spec.get("type"), spec.get("externalTrafficPolicy") or ""
    accessible = kind in ("NodePort", "LoadBalancer") or (kind == "ClusterIP" and spec.get("externalIPs"))
    path = "spec.externalTrafficPolicy"
    if accessible:
        errors.enum(path, external, ("Cluster", "Local"))
    elif external:
        errors.invalid(path, external, "may only be set for externally-accessible services")
    port, path = spec.get("healthCheckNodePort") or 0, "spec.healthCheckNodePort"
    if kind == "LoadBalancer" and external == "Local":
        if errors.non_empty(path, port):
            errors.within(path, port, 1, 65535)
    elif port:
        detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        errors.invalid(path, port, detail)
    internal, path = spec.get("internalTrafficPolicy"), "spec.internalTrafficPolicy"
    if internal is None and kind in _ROUTED:
        errors.required(path)
    errors.one_of(path, internal, ("Cluster", "Local"))
    errors.one_of("spec.trafficDistribution", spec.get("trafficDistribution"), _DISTRIBUTIONS)


def service_update(errors: Errors, new: Object, old: Object) -> None:
    spec, was = _spec(new), _spec(old)
    if "ExternalName" not in (spec.get("type"), was.get("type")):
        if not (_headless(spec) and _headless(was)):
            _addresses_update(errors, spec, was)
        if not _headless(spec) and not _headless(was):
            _families_update(errors, spec, was)
    if spec.get("type") == was.get("type") == "LoadBalancer":
        name = spec.get("loadBalancerClass")
        if name != was.get("loadBalancerClass"):
            errors.invalid("spec.loadBalancerClass", name, "may not change once set")
    both_local = all(s.get("type") == "LoadBalancer" and s.get("externalTrafficPolicy") == "Local" for s in (spec, was))
    if both_local and (spec.get("healthCheckNodePort") or 0) != (was.get("healthCheckNodePort") or 0):
        errors.forbidden("spec.healthCheckNodePort", "field is immutable")


def _release(errors: Errors, spec: Struct, what: str) -> None:
    policy = spec.get("ipFamilyPolicy")
    if policy != "SingleStack":
        detail = f"must be set to 'SingleStack' when releasing the secondary {what}"
        errors.invalid("spec.ipFamilyPolicy", policy, detail)


def _addresses_update(errors: Errors, spec: Struct, was: Struct) -> None:
    now, before, changed = spec.get("clusterIPs") or [], was.get("clusterIPs") or [], "may not change once set"
    if len(now) == len(before):
        for i, (one, other) in enumerate(zip(now, before, strict=True)):
            if one != other:
                errors.invalid(f"spec.clusterIPs[{i}]", now, changed)
        return
    if len(before) > len(now) and not now:
        errors.invalid("spec.clusterIPs[0]", None, "primary clusterIP can not be unset")
    if before and now and now[0] != before[0]:
        errors.invalid("spec.clusterIPs[0]", now, changed)
    if len(before) > len(now) == 1:
        _release(errors, spec, "clusterIP")


def _families_update(errors: Errors, spec: Struct, was: Struct) -> None:
    now, before, path = spec.get("ipFamilies") or [], was.get("ipFamilies") or [], "spec.ipFamilies[0]"
    if len(now) == len(before):
        for one, other in zip(now, before, strict=True):
            if one != other:
                errors.invalid(path, now, "may not change once set")
        return
    if len(before) > len(now) and not spec.get("clusterIPs"):
        errors.invalid(path, now or None, "primary ipFamily can not be unset")
    if before and now and now[0] != before[0]:
        errors.invalid(path, spec.get("clusterIPs") or None, "may not change once set")
    if len(before) > len(now) == 1:
        _release(errors, spec, "ipFamily")


def load_balancer_status(errors: Errors, new: Object, old: Object) -> None:
    path = "status.loadBalancer.ingress"
    listed = _ingresses(new)
    if listed and _spec(new).get("type") != "LoadBalancer":
        errors.forbidden(path, "may only be used when `spec.type` is 'LoadBalancer'")
        return
    known = [ingress.get("ip", "") for ingress in _ingresses(old)]
    for i, ingress in enumerate(listed):
        _ingress(errors, f"{path}[{i}]", ingress, known)


def _ingresses(obj: Object) -> Sequence[Struct]:
    return ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()


def _ingress(errors: Errors, path: str, ingress: Struct, known: Sequence[str]) -> None:
    address, mode, host = ingress.get("ip", ""), ingress.get("ipMode"), ingress.get("hostname", "")
    if address:
        legacy_ip(errors, f"{path}.ip", address, known)
    if mode is None:
        if address:
            errors.required(f"{path}.ipMode", "must be specified when `ip` is set")
    elif not address:
        errors.forbidden(f"{path}.ipMode", "may not be specified when `ip` is not set")
    else:
        errors.one_of(f"{path}.ipMode", mode, ("Proxy", "VIP"))
    if host:
        balancer_host(errors, f"{path}.hostname", host)


def balancer_host(errors: Errors, path: str, host: str) -> None:
    """The name of a load balancer."""
    errors.each(path, host, dns_subdomain(host))
    if parse(host) is not None:
        errors.invalid(path, host, "must be a DNS name, not an IP address")
