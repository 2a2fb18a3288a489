"""Ingress of extensions/v1beta1 and networking.k8s.io/v1beta1: a backend is a service's name and port."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiphys.api.kinds.base import MutableObject
from tiphys.api.kinds.common import setdefaults
from tiphys.api.kinds.former.base import Former, move, structs
from tiphys.api.kinds.networking.ingress import Ingress


class FormerIngress(Former, Ingress):
    def default(self, obj: MutableObject, version: str) -> None:
        for path in _paths(obj):
            setdefaults(path, pathType="ImplementationSpecific")
        super().default(obj, version)

    def renew(self, obj: MutableObject) -> None:
        _convert(obj, "backend", "defaultBackend", _renewed)

    def restore(self, obj: MutableObject) -> None:
        _convert(obj, "defaultBackend", "backend", _restored)


def _convert(obj: MutableObject, source: str, target: str, change: Callable[[Any], Any]) -> None:
    move(obj.get("spec") or {}, source, target, change)
    for path in _paths(obj):
        move(path, "backend", "backend", change)


def _paths(obj: MutableObject) -> list[dict[str, Any]]:
    rules = structs((obj.get("spec") or {}).get("rules"))
    return [path for rule in rules for path in structs((rule.get("http") or {}).get("paths"))]


def _renewed(backend: Any) -> Any:
    backend = dict(backend or {})
    name, port = backend.pop("serviceName", ""), backend.pop("servicePort", 0)
    if name or port or isinstance(port, str):
        field = "name" if isinstance(port, str) else "number"
        backend["service"] = {"name": name, "port": {field: port} if port else {}}
    return backend


def _restored(backend: Any) -> Any:
    backend = dict(backend or {})
    service = backend.pop("service", None)
    if service is not None:
        port = service.get("port") or {}
        backend |= {"serviceName": service.get("name", ""), "servicePort": port.get("name") or port.get("number") or 0}
    return backend
