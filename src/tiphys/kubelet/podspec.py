"""Reading a pod: its containers, their restart policies, names as upstream prints them. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Object = Mapping[str, Any]


def uid_of(pod: Object) -> str:
    return str(pod["metadata"]["uid"])


def name_of(pod: Object) -> str:
    return str(pod["metadata"]["name"])


def namespace_of(pod: Object) -> str:
    return str(pod["metadata"].get("namespace") or "default")


def full_name(pod: Object) -> str:
    """name_namespace(uid): how messages name a pod."""
    return f"{name_of(pod)}_{namespace_of(pod)}({uid_of(pod)})"


def generation_of(pod: Object) -> int:
    return int(pod["metadata"].get("generation") or 0)


def main_containers(pod: Object) -> list[Object]:
    return list(pod["spec"].get("containers") or ())


def init_containers(pod: Object) -> list[Object]:
    return list(pod["spec"].get("initContainers") or ())


def ephemeral_containers(pod: Object) -> list[Object]:
    return list(pod["spec"].get("ephemeralContainers") or ())


def all_containers(pod: Object) -> Iterator[Object]:
    """Init, main and ephemeral containers, in this order."""
    yield from init_containers(pod)
    yield from main_containers(pod)
    yield from ephemeral_containers(pod)


def find_container(pod: Object, name: str) -> Object | None:
    return next((container for container in all_containers(pod) if container["name"] == name), None)


def field_path(pod: Object, name: str) -> str:
    """The fieldPath of an event's involvedObject: spec.containers{web}, spec.initContainers{setup} ..."""
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        if any(container["name"] == name for container in pod["spec"].get(kind) or ()):
            return f"spec.{kind}{{{name}}}"
    return ""


def is_sidecar(container: Object) -> bool:
    """Whether an init container is restartable: it runs beside the main containers."""
    return container.get("restartPolicy") == "Always"


def restart_policy(pod: Object, container: Object) -> str:
    """The container's own policy, or the pod's."""
    return str(container.get("restartPolicy") or pod["spec"].get("restartPolicy") or "Always")


def matching_rule(container: Object, exit_code: int) -> Object | None:
    """The first restart rule for this exit code (KEP-5307)."""
    for rule in container.get("restartPolicyRules") or ():
        codes = rule.get("exitCodes")
        operator = (codes or {}).get("operator")
        listed = exit_code in ((codes or {}).get("values") or ())
        if (operator == "In" and listed) or (operator == "NotIn" and not listed):
            return dict(rule)
    return None


def should_restart(pod: Object, container: Object, exit_code: int) -> bool:
    """Whether a container that ended with this code runs again: rules first, then the policy (KEP-5307)."""
    rule = matching_rule(container, exit_code) if container.get("restartPolicy") else None
    if rule is not None and rule.get("action") in ("Restart", "RestartAllContainers"):
        return True
    policy = restart_policy(pod, container)
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def restarts_killed(pod: Object, container: Object) -> bool:
    """Whether a container that is killed for a failed probe runs again."""
    return restart_policy(pod, container) != "Never"


def is_host_network(pod: Object) -> bool:
    return bool(pod["spec"].get("hostNetwork"))


def is_deleted(pod: Object) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def phase_of(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase") or "Pending")


def is_terminal(pod: Object) -> bool:
    """Whether its phase is final."""
    return phase_of(pod) in ("Succeeded", "Failed")


def grace_seconds(pod: Object) -> float:
    """How long its containers may take to stop: what the deletion asked for, else what the spec says."""
    asked = pod["metadata"].get("deletionGracePeriodSeconds")
    if asked is None:
        asked = pod["spec"].get("terminationGracePeriodSeconds")
    return 30.0 if asked is None else float(asked)


def status_of(statuses: Object | None, name: str) -> Object | None:
    """The container status of that name in a pod's status."""
    for kind in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for entry in (statuses or {}).get(kind) or ():
            if entry["name"] == name:
                return dict(entry)
    return None
