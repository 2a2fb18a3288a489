"""What a kubelet may report about a pod."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.kinds.base import Object
from tiphys.api.validation.addresses import legacy_ip, parse
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.names import dns_subdomain, qualified_name

Struct = Mapping[str, Any]


def pod_status(errors: Errors, new: Object, old: Object) -> None:
    status, was = new.get("status") or {}, old.get("status") or {}
    spec = old.get("spec") or {}
    _conditions(errors, status.get("conditions") or ())
    _nominated(errors, status.get("nominatedNodeName") or "", was.get("nominatedNodeName") or "", spec)
    if (generation := status.get("observedGeneration") or 0) < 0:
        errors.invalid("status.observedGeneration", generation, "must be a non-negative integer")
    errors.immutable("status.qosClass", status.get("qosClass", ""), was.get("qosClass"))
    for field, containers in (("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")):
        restartable = {c.get("name", ""): c for c in spec.get(containers) or ()}
        if not _may_restart_all(spec):
            _transitions(errors, field, status, was, spec, restartable)
    _transitions(errors, "ephemeralContainerStatuses", status, was, {"restartPolicy": "Never"}, {})
    _addresses(errors, "podIPs", status, was)
    if hosts := status.get("hostIPs"):
        if status.get("hostIP", "") != hosts[0].get("ip", ""):
            errors.invalid("status.hostIPs[0].ip", hosts[0].get("ip", ""), "must be equal to `hostIP`")
        _addresses(errors, "hostIPs", status, was)


def _conditions(errors: Errors, conditions: Sequence[Struct]) -> None:
    for i, condition in enumerate(conditions):
        path, kind = f"status.conditions[{i}]", condition.get("type", "")
        if (generation := condition.get("observedGeneration") or 0) < 0:
            errors.invalid(f"{path}.observedGeneration", generation, "must be a non-negative integer")
        if kind not in ("PodScheduled", "Ready", "Initialized"):
            errors.each(f"{path}.Type", kind, qualified_name(kind))


def _nominated(errors: Errors, name: str, was: str, spec: Struct) -> None:
    path = "status.nominatedNodeName"
    if name and name != was:
        errors.each(path, name, dns_subdomain(name))
        if spec.get("nodeName"):
            errors.forbidden(path, "may not be set on pods that are already bound to a node")


def _may_restart_all(spec: Struct) -> bool:
    """Whether the end of some container may restart the whole pod: then every container may run again."""
    containers = (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))
    rules = (rule for container in containers for rule in container.get("restartPolicyRules") or ())
    return any(rule.get("action") == "RestartAllContainers" for rule in rules)


def _may_restart(spec: Struct, container: Struct | None, code: int, *, is_init: bool) -> bool:
    """Whether a container that ended with `code` may run again, by its own policy or the pod's."""
    for rule in (container or {}).get("restartPolicyRules") or ():
        codes = rule.get("exitCodes") or {}
        if (code in (codes.get("values") or ())) == (codes.get("operator") == "In"):
            return True
    own = (container or {}).get("restartPolicy")
    policy = own or spec.get("restartPolicy", "Always")
    if is_init and not own and policy == "Always":
        policy = "OnFailure"
    return policy == "Always" or (policy == "OnFailure" and code != 0)


def _transitions(
    errors: Errors, field: str, status: Struct, was: Struct, spec: Struct, containers: Mapping[str, Struct]
) -> None:
    """A container that ended for good stays so."""
    now = {c.get("name", ""): c for c in status.get(field) or ()}
    for i, old in enumerate(was.get(field) or ()):
        ended, name = (old.get("state") or {}).get("terminated"), old.get("name", "")
        if ended is None or name not in now or (now[name].get("state") or {}).get("terminated") is not None:
            continue
        is_init = field == "initContainerStatuses"
        if spec.get("restartPolicy") == "Always" and is_init:
            continue
        if not _may_restart(spec, containers.get(name), ended.get("exitCode") or 0, is_init=is_init):
            errors.forbidden(f"status.{field}[{i}].state", "may not be transitioned to non-terminated state")


def _addresses(errors: Errors, field: str, status: Struct, was: Struct) -> None:
    listed = [entry.get("ip", "") for entry in status.get(field) or ()]
    known = [entry.get("ip", "") for entry in was.get(field) or ()]
    for i, address in enumerate(listed):
        legacy_ip(errors, f"status.{field}[{i}]", address, known)
    families = {parsed.version for address in listed if (parsed := parse(address))}
    if len(listed) > 2 or (len(listed) == 2 and len(families) < 2):
        shown = [{"IP": address} for address in listed]
        errors.invalid(f"status.{field}", shown, "may specify no more than one IP for each IP family")
