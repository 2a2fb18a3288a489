"""APIService (API reference, apiregistration.k8s.io/v1)."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, FieldError, MutableObject, Object
from tiphys.api.kinds.common import StatusKind, setdefaults
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.metadata import validate_metadata
from tiphys.api.validation.names import dns1035_label, dns_subdomain, path_segment, port_number
from tiphys.base.clock import rfc3339

Struct = Mapping[str, Any]

_MAX_GROUP_PRIORITY, _MAX_VERSION_PRIORITY = 20_000, 1000


class APIService(StatusKind):
    """The name is made of the version and the group: `v1.apps`; `v1.` for the core group."""

    group, plural, kind = "apiregistration.k8s.io", "apiservices", "APIService"
    name_check = "none"
    counts_generation = False
    unconditional_update = False
    qualified_finalizers = False
    columns = (
        printing.NAME,
        Column("Service", description="The reference to the service that hosts this API endpoint."),
        Column("Available", description="Whether this service is available."),
        printing.AGE,
    )

    def default(self, obj: MutableObject, version: str) -> None:
        if (service := (obj.get("spec") or {}).get("service")) is not None:
            setdefaults(service, port=443)

    def prepare_create(self, obj: MutableObject, context: Context) -> None:
        obj["status"] = {}
        if (obj.get("spec") or {}).get("service") is None:
            condition = {
                "type": "Available",
                "status": "True",
                "lastTransitionTime": rfc3339(context.now),
                "reason": "Local",
                "message": "Local APIServices are always available",
            }
            obj["status"] = {"conditions": [condition]}

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        spec: Struct = obj.get("spec") or {}
        group, version = spec.get("group", ""), spec.get("version", "")
        for name in ("generateName", "name"):
            _name(errors, f"metadata.{name}", (obj.get("metadata") or {}).get(name, ""), f"{version}.{group}")
        if not group and version != "v1":
            errors.required("spec.group", "only v1 may have an empty group and it better be legacy kube")
        if group:
            errors.each("spec.group", group, dns_subdomain(group))
        errors.each("spec.version", version, dns1035_label(version))
        for name, most in (("groupPriorityMinimum", _MAX_GROUP_PRIORITY), ("versionPriority", _MAX_VERSION_PRIORITY)):
            if not 0 < (value := spec.get(name) or 0) <= most:
                errors.invalid(f"spec.{name}", value, f"must be positive and less than {most}")
        if (service := spec.get("service")) is None:
            _local(errors, spec)
        else:
            _remote(errors, spec, service)

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        errors.extend(validate_metadata(new, self.name_check, namespaced=False, finalizers=False))
        self.check(errors, new, context)

    def validate_status_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        errors = Errors()
        for i, condition in enumerate((new.get("status") or {}).get("conditions") or ()):
            path = f"status.conditions[{i}].status"
            errors.one_of(path, condition.get("status", ""), ("True", "False", "Unknown"))
        return errors

    def cells(self, obj: Object, now: float) -> list[Any]:
        service = (obj.get("spec") or {}).get("service")
        host = "Local" if service is None else f"{service.get('namespace', '')}/{service.get('name', '')}"
        return [printing.name(obj), host, _available(obj), printing.age(obj, now)]


def _available(obj: Object) -> str:
    for condition in (obj.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "Available":
            status, reason = condition.get("status", ""), condition.get("reason")
            return f"{status} ({reason})" if reason and status != "True" else str(status)
    return "Unknown"


def _name(errors: Errors, path: str, name: str, wanted: str) -> None:
    if not name:
        return
    if found := path_segment(name):
        errors.each(path, name, found)
    elif name != wanted:
        errors.invalid(path, name, f'must be `spec.version+"."+spec.group`: "{wanted}"')


def _local(errors: Errors, spec: Struct) -> None:
    if bundle := spec.get("caBundle"):
        errors.invalid("spec.caBundle", f"{len(b64decode(bundle))} bytes", "local APIServices may not have a caBundle")
    if spec.get("insecureSkipTLSVerify"):
        errors.invalid("spec.insecureSkipTLSVerify", True, "local APIServices may not have insecureSkipTLSVerify")


def _remote(errors: Errors, spec: Struct, service: Struct) -> None:
    errors.fields("spec.service", service, "namespace", "name")
    port = service.get("port") or 0
    if found := port_number(port):
        errors.invalid("spec.service.port", port, f"port is not valid: {', '.join(found)}")
    if spec.get("insecureSkipTLSVerify") and spec.get("caBundle"):
        errors.invalid("spec.insecureSkipTLSVerify", True, "may not be true if caBundle is present")
