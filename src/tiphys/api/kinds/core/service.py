"""Service (API reference, core/v1). Addresses and node ports are handed out by the API server, not here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, FieldError, MutableObject, Object, quote
from tiphys.api.kinds.common import StatusKind, child, fill_empty, setdefaults
from tiphys.api.kinds.core.service_families import settle
from tiphys.api.kinds.core.service_rules import load_balancer_status, service, service_update
from tiphys.api.validation.addresses import cidr_warnings, ip_warnings
from tiphys.api.validation.errors import Errors

_ROUTED = ("NodePort", "LoadBalancer", "ClusterIP")
_EXTERNAL = ("NodePort", "LoadBalancer")
_AFFINITY_SECONDS = 10800


def externally_accessible(spec: Mapping[str, Any]) -> bool:
    return spec.get("type") in _EXTERNAL or (spec.get("type") == "ClusterIP" and bool(spec.get("externalIPs")))


def needs_health_check(spec: Mapping[str, Any]) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def is_headless(spec: Mapping[str, Any]) -> bool:
    return spec.get("clusterIPs") == ["None"]


class Service(StatusKind):
    plural, kind = "services", "Service"
    name_check = "dns_label"
    counts_generation = False
    allow_create_on_update = True
    empty_status: Mapping[str, Any] = {"loadBalancer": {}}
    columns = (
        printing.NAME,
        Column("Type", description="@ServiceSpec.type"),
        Column("Cluster-IP", description="@ServiceSpec.clusterIP"),
        Column("External-IP", description="@ServiceSpec.externalIPs"),
        Column("Port(s)", description="@ServiceSpec.ports"),
        printing.AGE,
        Column("Selector", description="@ServiceSpec.selector", priority=1),
    )

    def default(self, obj: MutableObject, version: str) -> None:
        spec = child(obj, "spec")
        fill_empty(spec, sessionAffinity="None", type="ClusterIP")
        _affinity(spec)
        for port in spec.get("ports") or ():
            fill_empty(port, protocol="TCP")
            if port.get("targetPort") in (None, 0, ""):
                port["targetPort"] = port.get("port") or 0
        if externally_accessible(spec):
            fill_empty(spec, externalTrafficPolicy="Cluster")
        if spec["type"] in _ROUTED:
            setdefaults(spec, internalTrafficPolicy="Cluster")
        if spec["type"] == "LoadBalancer":
            setdefaults(spec, allocateLoadBalancerNodePorts=True)
            status = obj.get("status") or {}
            for ingress in (status.get("loadBalancer") or {}).get("ingress") or ():
                if ingress.get("ip"):
                    setdefaults(ingress, ipMode="VIP")

    def prepare_create(self, obj: MutableObject, context: Context) -> None:
        super().prepare_create(obj, context)
        normalize_cluster_ips(obj["spec"], None)
        _drop_internal_policy(obj["spec"])

    def prepare_update(self, new: MutableObject, old: Object, context: Context) -> None:
        super().prepare_update(new, old, context)
        spec, was = new["spec"], old.get("spec") or {}
        _carry_over(spec, was)
        normalize_cluster_ips(spec, was)
        _drop_by_type(spec, was)
        _drop_internal_policy(spec)
        if spec.get("type") != "LoadBalancer":
            new["status"] = {**(new.get("status") or {}), "loadBalancer": {}}

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        service(errors, obj, None)

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        service_update(errors, new, old)
        service(errors, new, old)

    def validate_status_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        errors = Errors()
        load_balancer_status(errors, new, old)
        return errors

    def warnings(self, obj: Object, old: Object | None, context: Context) -> list[str]:
        return list(_warnings(obj.get("spec") or {}, obj.get("metadata") or {}))

    def fields(self, obj: Object) -> Mapping[str, str]:
        spec = obj.get("spec") or {}
        return {"spec.clusterIP": spec.get("clusterIP", ""), "spec.type": spec.get("type", "")}

    def cells(self, obj: Object, now: float) -> list[Any]:
        spec = obj.get("spec") or {}
        return [
            printing.name(obj),
            spec.get("type", ""),
            (spec.get("clusterIPs") or (printing.NONE,))[0],
            _external(obj),
            ",".join(map(_port_cell, spec.get("ports") or ())) or printing.NONE,
            printing.age(obj, now),
            printing.labels_text(spec.get("selector")),
        ]


def _affinity(spec: MutableObject) -> None:
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        config = spec.get("sessionAffinityConfig") or {}
        if (config.get("clientIP") or {}).get("timeoutSeconds") is None:
            spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": _AFFINITY_SECONDS}}


def normalize_cluster_ips(spec: MutableObject, old: Mapping[str, Any] | None) -> None:
    """clusterIP is the first of clusterIPs: an old client that knows only one of them changes both."""
    single, listed = spec.get("clusterIP") or "", spec.get("clusterIPs") or []
    if old is None:
        if single and not listed:
            spec["clusterIPs"] = [single]
        return
    was, were = old.get("clusterIP") or "", old.get("clusterIPs") or []
    if were and not listed and single == was:
        spec["clusterIPs"] = list(were)
    if single != was:
        if not single and listed == were:
            spec.pop("clusterIPs", None)
        elif single and listed == were:
            spec["clusterIPs"] = [single]


def _carry_over(spec: MutableObject, was: Mapping[str, Any]) -> None:
    """What a client leaves out of an update stays as it was handed out."""
    if spec.get("type") == "ExternalName" or was.get("type") == "ExternalName":
        return
    for name in ("clusterIP", "clusterIPs"):
        if was.get(name):
            fill_empty(spec, **{name: was[name]})
    if needs_health_check(spec) and needs_health_check(was) and was.get("healthCheckNodePort"):
        fill_empty(spec, healthCheckNodePort=was["healthCheckNodePort"])
    if _needs_node_ports(spec) and _needs_node_ports(was):
        _carry_node_ports(spec, was)


def _carry_node_ports(spec: MutableObject, was: Mapping[str, Any]) -> None:
    handed_out = {p.get("name", ""): p.get("nodePort") for p in was.get("ports") or ()}
    taken = {p.get("nodePort") for p in spec.get("ports") or ()}
    for port in spec.get("ports") or ():
        number = handed_out.get(port.get("name", ""))
        if number and not port.get("nodePort") and number not in taken:
            port["nodePort"] = number


def _needs_node_ports(spec: Mapping[str, Any]) -> bool:
    if spec.get("type") == "LoadBalancer":
        return spec.get("allocateLoadBalancerNodePorts") is not False
    return spec.get("type") == "NodePort"


def _drop_by_type(spec: MutableObject, was: Mapping[str, Any]) -> None:
    """When the type changes, fields of the old type that the client only sent back go away."""
    kind, before = spec.get("type"), was.get("type")
    if before in _ROUTED and kind == "ExternalName":
        if spec.get("clusterIPs", []) == was.get("clusterIPs", []):
            spec.pop("clusterIP", None)
            spec.pop("clusterIPs", None)
        _drop_same(spec, was, "ipFamilies", "ipFamilyPolicy")
    if before in _EXTERNAL and kind not in _EXTERNAL:
        known = {port.get("nodePort") for port in was.get("ports") or ()} | {None}
        if known.issuperset(port.get("nodePort") or None for port in spec.get("ports") or ()):
            for port in spec.get("ports") or ():
                port.pop("nodePort", None)
    if needs_health_check(was) and not needs_health_check(spec):
        _drop_same(spec, was, "healthCheckNodePort")
    if before == "LoadBalancer" and kind != "LoadBalancer":
        _drop_same(spec, was, "allocateLoadBalancerNodePorts", "loadBalancerClass")
    if externally_accessible(was) and not externally_accessible(spec):
        _drop_same(spec, was, "externalTrafficPolicy")


def _drop_internal_policy(spec: MutableObject) -> None:
    """An ExternalName has no traffic; what makes no sense at all is left for validation to tell."""
    if spec.get("type") == "ExternalName" and spec.get("internalTrafficPolicy") in ("Cluster", "Local"):
        del spec["internalTrafficPolicy"]


def _drop_same(spec: MutableObject, was: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if spec.get(name) == was.get(name):
            spec.pop(name, None)


def settle_families(spec: MutableObject, old: Object | None, families: Sequence[str]) -> list[FieldError]:
    """Fill in policy and families of `spec`, in a cluster that has `families`.

    Returns why addresses cannot be handed out as they are asked for: then that is all that is said of a Service."""
    errors = Errors()
    settle(errors, spec, (old or {}).get("spec") or {}, families)
    return errors


def _external(obj: Object) -> str:
    spec = obj.get("spec") or {}
    ips, kind = spec.get("externalIPs") or [], spec.get("type")
    if kind in ("ClusterIP", "NodePort"):
        return ",".join(ips) or printing.NONE
    if kind == "ExternalName":
        return str(spec.get("externalName", ""))
    if kind != "LoadBalancer":
        return printing.UNKNOWN
    ingresses = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    known = {i.get("ip") or i.get("hostname") or "" for i in ingresses} - {""}
    return ",".join([*sorted(known), *ips]) or "<pending>"


def _port_cell(port: Mapping[str, Any]) -> str:
    node = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port.get('port', 0)}{node}/{port.get('protocol', '')}"


def _warnings(spec: Mapping[str, Any], meta: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    kind, headless = spec.get("type"), spec.get("type") == "ClusterIP" and spec.get("clusterIP") == "None"
    hints = "service.kubernetes.io/topology-aware-hints"
    if hints in (meta.get("annotations") or {}):
        found.append(f"annotation {hints} is deprecated, please use service.kubernetes.io/topology-mode instead")
    if not headless and kind != "ExternalName":
        for i, address in enumerate(spec.get("clusterIPs") or ()):
            found += ip_warnings(f"spec.clusterIPs[{i}]", address)
    if headless:
        ignored = {"loadBalancerIP": "loadBalancerIP", "externalIPs": "externalIPs"}
        found += [f"spec.{name} is ignored for headless services" for name in ignored if spec.get(name)]
        if spec.get("sessionAffinity") != "None":
            found.append("spec.SessionAffinity is ignored for headless services")
    for i, address in enumerate(spec.get("externalIPs") or ()):
        found += ip_warnings(f"spec.externalIPs[{i}]", address)
    if spec.get("externalIPs") and not is_headless(spec) and kind != "ExternalName":
        found.append("spec.externalIPs is deprecated and may no longer be implemented in some clusters")
    if address := spec.get("loadBalancerIP"):
        found += ip_warnings("spec.loadBalancerIP", address)
    for i, cidr in enumerate(spec.get("loadBalancerSourceRanges") or ()):
        found += cidr_warnings(f"spec.loadBalancerSourceRanges[{i}]", cidr)
    if kind == "ExternalName" and spec.get("externalIPs"):
        found.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
    if kind != "ExternalName" and spec.get("externalName"):
        found.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    if spec.get("trafficDistribution") == "PreferClose":
        found.append(f"spec.trafficDistribution: {quote('PreferClose')} is deprecated; use {quote('PreferSameZone')}")
    return found
