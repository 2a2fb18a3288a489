"""Objects for tests of the gateway, in short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.gateway.definitions import CONTROLLER

GROUP = "gateway.networking.k8s.io"
NGINX = "nginx.ingress.kubernetes.io/"


def metadata(
    name: str, namespace: str = "default", created: str = "2026-01-01T00:00:00Z", **more: Any
) -> dict[str, Any]:
    return {"name": name, "namespace": namespace, "uid": f"uid-{name}", "creationTimestamp": created, **more}


def ingress(
    name: str,
    *rules: tuple[str, str, str],
    kind: str = "Prefix",
    annotations: Mapping[str, str] | None = None,
    created: str = "2026-01-01T00:00:00Z",
    class_name: str | None = "tiphys",
    **spec: Any,
) -> dict[str, Any]:
    """Rules are (host, path, service:port); annotations are ingress-nginx's."""
    made: list[dict[str, Any]] = []
    for host, path, backend in rules:
        service, _, port = backend.partition(":")
        where = {"number": int(port)} if port.isdecimal() else {"name": port}
        entry = {"path": path, "pathType": kind, "backend": {"service": {"name": service, "port": where}}}
        made.append({**({"host": host} if host else {}), "http": {"paths": [entry]}})
    meta = metadata(name, created=created)
    meta["annotations"] = {NGINX + key: value for key, value in (annotations or {}).items()}
    body = {"rules": made, **({"ingressClassName": class_name} if class_name is not None else {}), **spec}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta, "spec": body}


def ingress_class(name: str = "tiphys", controller: str = "tiphys.io/ingress", *, default: str = "") -> dict[str, Any]:
    annotations = {"ingressclass.kubernetes.io/is-default-class": default} if default else {}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"controller": controller},
    }


def service(name: str, *ports: tuple[str, int], namespace: str = "default", **spec: Any) -> dict[str, Any]:
    entries = [{"name": port, "port": number, "protocol": "TCP"} for port, number in ports]
    return {"kind": "Service", "metadata": metadata(name, namespace), "spec": {"ports": entries, **spec}}


def endpoint_slice(
    name: str, addresses: Sequence[str], ports: Mapping[str, int], namespace: str = "default", **conditions: bool
) -> dict[str, Any]:
    return {
        "kind": "EndpointSlice",
        "metadata": metadata(f"{name}-1", namespace, labels={"kubernetes.io/service-name": name}),
        "addressType": "IPv6" if any(":" in one for one in addresses) else "IPv4",
        "endpoints": [{"addresses": [one], "conditions": conditions} for one in addresses],
        "ports": [{"name": port, "port": number, "protocol": "TCP"} for port, number in ports.items()],
    }


def gateway_class(name: str = "tiphys", controller: str = CONTROLLER, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "GatewayClass",
        "metadata": {"name": name, "generation": 1, "uid": name},
        "spec": {"controllerName": controller, **spec},
    }


def gateway(name: str, *listeners: Mapping[str, Any], namespace: str = "default", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "Gateway",
        "metadata": metadata(name, namespace, generation=3),
        "spec": {"gatewayClassName": "tiphys", "listeners": list(listeners), **spec},
    }


def listener(name: str, port: int = 80, protocol: str = "HTTP", source: str = "Same", **more: Any) -> dict[str, Any]:
    return {"name": name, "port": port, "protocol": protocol, "allowedRoutes": {"namespaces": {"from": source}}, **more}


def http_route(
    name: str,
    *parents: Mapping[str, Any],
    rules: Sequence[Mapping[str, Any]] = (),
    hostnames: Sequence[str] = (),
    namespace: str = "default",
) -> dict[str, Any]:
    refs = [{"group": GROUP, "kind": "Gateway", **one} for one in parents]
    spec: dict[str, Any] = {"parentRefs": refs, "rules": list(rules) or [{"backendRefs": [backend("web")]}]}
    if hostnames:
        spec["hostnames"] = list(hostnames)
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "HTTPRoute",
        "metadata": metadata(name, namespace, generation=2),
        "spec": spec,
    }


def backend(name: str, port: int = 80, **more: Any) -> dict[str, Any]:
    return {"group": "", "kind": "Service", "name": name, "port": port, "weight": 1, **more}


def grant(namespace: str, source: tuple[str, str], to: tuple[str, str], name: str = "") -> dict[str, Any]:
    """`source` is (kind, namespace) of who refers, `to` (group, kind)."""
    target = {"group": to[0], "kind": to[1], **({"name": name} if name else {})}
    return {
        "kind": "ReferenceGrant",
        "metadata": metadata(f"grant-{namespace}", namespace),
        "spec": {"from": [{"group": GROUP, "kind": source[0], "namespace": source[1]}], "to": [target]},
    }


def condition(conditions: Sequence[Mapping[str, Any]], type: str) -> tuple[str, str]:
    """Status and reason."""
    return next((one["status"], one["reason"]) for one in conditions if one["type"] == type)
