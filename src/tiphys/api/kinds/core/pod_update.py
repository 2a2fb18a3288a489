"""What may change in a pod: images, deadlines, added tolerations, gates; resources by resize; ephemeral containers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.kinds.base import Object
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.goform import difference, shown
from tiphys.api.validation.pod_annotations import APP_ARMOR, MIRROR
from tiphys.api.validation.pod_resources import qos_class
from tiphys.api.validation.pods import MAX_INT32
from tiphys.api.validation.quantities import amount
from tiphys.api.validation.scheduling import tolerations

Struct = Mapping[str, Any]

_UPDATABLE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_SCALABLE = ("cpu", "memory")
_TERM = "NodeSelectorTerm"


_MAPS = frozenset(
    [
        "nodeSelector",
        "limits",
        "requests",
        "overhead",
        "labels",
        "annotations",
        "matchLabels",
        "options",
        "userAnnotations",
        "volumeAttributes",
        "matchExpressions",
    ]
)


def same(one: Any, other: Any, key: str = "") -> bool:
    """Semantically equal: an empty list or map is the same as none, an empty struct is not."""
    if one == other:
        return True
    if one is None or other is None:
        left = other if one is None else one
        return left == [] or (left == {} and key in _MAPS)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return all(same(one.get(name), other.get(name), name) for name in {*one, *other})
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return False


def annotation_updates(errors: Errors, new: Object, old: Object) -> None:
    """Annotations that say what a running pod is cannot change."""
    after = (new.get("metadata") or {}).get("annotations") or {}
    before = (old.get("metadata") or {}).get("annotations") or {}
    for key in sorted(before):
        if after.get(key) == before[key]:
            continue
        path = f"metadata.annotations[{key}]"
        if key.startswith(APP_ARMOR):
            errors.forbidden(path, "may not remove or update AppArmor annotations")
        if key == MIRROR:
            errors.forbidden(path, "may not remove or update mirror pod annotation")
    for key in sorted(set(after) - set(before)):
        path = f"metadata.annotations[{key}]"
        if key.startswith(APP_ARMOR):
            errors.forbidden(path, "may not add AppArmor annotations")
        if key == MIRROR:
            errors.forbidden(path, "may not add mirror pod annotation")


def _images(errors: Errors, path: str, new: Sequence[Struct], old: Sequence[Struct]) -> bool:
    """False: containers came or went, and there is no more to compare."""
    if len(new) != len(old):
        errors.forbidden(path, "pod updates may not add or remove containers")
        return False
    for i, container in enumerate(new):
        image, where = container.get("image", ""), f"{path}[{i}].image"
        errors.non_empty(where, image)
        if image != image.strip():
            errors.invalid(where, image, "must not have leading or trailing whitespace")
    return True


def _deadline(errors: Errors, new: Struct, old: Struct) -> bool:
    path, after, before = (
        "spec.activeDeadlineSeconds",
        new.get("activeDeadlineSeconds"),
        old.get("activeDeadlineSeconds"),
    )
    count = len(errors)
    if after is None:
        if before is not None:
            errors.invalid(path, None, "must not update from a positive integer to nil value")
        return True
    if not 0 <= after <= MAX_INT32:
        errors.invalid(path, after, f"must be between 0 and {MAX_INT32}, inclusive")
    elif before is not None and before < after:
        errors.invalid(path, after, "must be less than or equal to previous value")
    return len(errors) == count


def _added_tolerations(errors: Errors, new: Sequence[Struct], old: Sequence[Struct]) -> None:
    def key(toleration: Struct) -> tuple[str, ...]:
        return tuple(toleration.get(name, "") for name in ("key", "operator", "value", "effect"))

    kept = {key(toleration) for toleration in new}
    if any(key(toleration) not in kept for toleration in old):
        detail = "existing toleration can not be modified except its tolerationSeconds"
        errors.forbidden("spec.tolerations", detail)
    else:
        tolerations(errors, "spec.tolerations", new)


def _gates(errors: Errors, new: Sequence[Struct], old: Sequence[Struct]) -> None:
    known = {gate.get("name") for gate in old}
    for name, i in {gate.get("name", ""): i for i, gate in enumerate(new)}.items():
        if name not in known:
            detail = f"only deletion is allowed, but found new scheduling gate '{name}'"
            errors.forbidden(f"spec.schedulingGates[{i}].name", detail)


def _with_images(new: Sequence[Struct], old: Sequence[Struct]) -> list[Struct]:
    return [{**a, "image": b.get("image", "")} for a, b in zip(new, old, strict=True)]


def spec_update(errors: Errors, new: Struct, old: Struct) -> None:
    for name in ("containers", "initContainers"):
        if not _images(errors, f"spec.{name}", new.get(name) or (), old.get(name) or ()):
            return
    if not _deadline(errors, new, old):
        return
    _added_tolerations(errors, new.get("tolerations") or (), old.get("tolerations") or ())
    _gates(errors, new.get("schedulingGates") or (), old.get("schedulingGates") or ())
    if same(new, old):
        return
    munged = dict(new)
    for name in ("containers", "initContainers"):
        if listed := new.get(name):
            munged[name] = _with_images(listed, old.get(name) or ())
    for name in ("activeDeadlineSeconds", "schedulingGates", "tolerations"):
        munged[name] = old.get(name)
    grace = "terminationGracePeriodSeconds"
    if (old.get(grace) or 0) < 0 and munged.get(grace) == 1:
        munged[grace] = old[grace]
    if old.get("schedulingGates"):
        _gated(errors, munged, old)
    if not same(munged, old):
        errors.forbidden("spec", f"{_UPDATABLE}\n{difference('PodSpec', old, munged)}")


def _gated(errors: Errors, munged: dict[str, Any], old: Struct) -> None:
    """While a gate holds a pod back, where it may run can still be narrowed (KEP-3838)."""
    before, after = old.get("nodeSelector") or {}, munged.get("nodeSelector") or {}
    if any(after.get(key) != value for key, value in before.items()):
        detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        errors.invalid("spec.nodeSelector", dict(after), detail)
    munged["nodeSelector"] = old.get("nodeSelector")
    was = (old.get("affinity") or {}).get("nodeAffinity")
    now = (munged.get("affinity") or {}).get("nodeAffinity")
    if not same(was, now):
        node_affinity_narrowed(errors, "spec.affinity.nodeAffinity", now or {}, was or {})
        munged["affinity"] = {**(munged.get("affinity") or {}), "nodeAffinity": was}


def node_affinity_narrowed(errors: Errors, path: str, new: Struct, old: Struct) -> None:
    """Required terms may be made stricter, never dropped or changed."""
    name = "requiredDuringSchedulingIgnoredDuringExecution"
    if old.get(name) is None:
        return
    before = old[name].get("nodeSelectorTerms") or []
    after = (new.get(name) or {}).get("nodeSelectorTerms") or []
    where = f"{path}.{name}.nodeSelectorTerms"
    if before and len(before) != len(after):
        errors.invalid(
            where,
            [shown(_TERM, term) for term in after],
            "no additions/deletions to non-empty NodeSelectorTerms list are allowed",
        )
        return
    for i, (one, other) in enumerate(zip(after, before, strict=False)):
        if not _only_added(one, other):
            errors.invalid(f"{where}[{i}]", shown(_TERM, one), "only additions are allowed (no mutations or deletions)")


def _only_added(new: Struct, old: Struct) -> bool:
    names = ("matchExpressions", "matchFields")
    if not any(old.get(name) for name in names):
        return not any(new.get(name) for name in names)
    return all((new.get(n) or [])[: len(old.get(n) or ())] == (old.get(n) or []) for n in names)


def ephemeral_update(errors: Errors, new: Struct, old: Struct) -> None:
    """Ephemeral containers are only ever added."""
    now = {c.get("name"): c for c in new.get("ephemeralContainers") or ()}
    for container in old.get("ephemeralContainers") or ():
        name = container.get("name", "")
        if name not in now:
            errors.forbidden("spec.ephemeralContainers", f'existing ephemeral containers "{name}" may not be removed\n')
        elif not same(now[name], container):
            changes = difference("EphemeralContainer", container, now[name])
            detail = f'existing ephemeral containers "{name}" may not be changed\n{changes}'
            errors.forbidden("spec.ephemeralContainers", detail)


def resize(errors: Errors, new: Object, old: Object) -> None:
    """cpu and memory of containers and of the pod may change, nothing else (KEP-1287)."""
    spec, was = new.get("spec") or {}, old.get("spec") or {}
    status = old.get("status") or {}
    if (status.get("qosClass") or qos_class(was)) != qos_class(spec):
        errors.invalid("spec", status.get("qosClass", ""), "Pod QOS Class may not change as a result of resizing")
    if any("running" in (c.get("state") or {}) and c.get("resources") is None for c in _running(status)):
        errors.forbidden("spec", "Pod running on node without support for resize")
    if not _same_containers(errors, spec, was):
        return
    for name in ("initContainers", "containers"):
        pairs = zip(spec.get(name) or (), was.get(name) or (), strict=True)
        for i, (one, other) in enumerate(pairs):
            _removed(errors, f"spec.{name}[{i}].resources", one.get("resources") or {}, other.get("resources") or {})
            if not same(_without_scalable(one), _without_scalable(other)):
                errors.forbidden("spec", "only cpu and memory resources are mutable")
    if (before := was.get("resources")) is not None and spec.get("resources") is None:
        errors.forbidden("spec.resources", "pod-level resources cannot be removed")
    elif before is not None:
        _removed(errors, "spec.resources", spec["resources"], before, "pod-level resource")
    rest = ("containers", "initContainers", "resources")
    if not errors and not same(
        {k: v for k, v in spec.items() if k not in rest}, {k: v for k, v in was.items() if k not in rest}
    ):
        errors.forbidden("spec", "only cpu and memory resources are mutable")


def _running(status: Struct) -> Sequence[Struct]:
    running = [c for c in status.get("containerStatuses") or () if (c.get("state") or {}).get("running") is not None]
    return running[:1]


def _same_containers(errors: Errors, new: Struct, old: Struct) -> bool:
    count = len(errors)
    for name in ("containers", "initContainers"):
        after, before = new.get(name) or (), old.get(name) or ()
        if len(after) != len(before):
            errors.forbidden(f"spec.{name}", f"{name} may not be added or removed on resize")
            continue
        for i, (one, other) in enumerate(zip(after, before, strict=True)):
            if one.get("name") != other.get("name"):
                errors.forbidden(f"spec.{name}[{i}].name", f"{name} may not be renamed or reordered on resize")
    return len(errors) == count


def _removed(errors: Errors, path: str, new: Struct, old: Struct, what: str = "resource") -> None:
    for name in ("requests", "limits"):
        if set(old.get(name) or ()) - set(new.get(name) or ()):
            errors.forbidden(f"{path}.{name}", f"{what} {name} cannot be removed")


def _without_scalable(container: Struct) -> Struct:
    resources = container.get("resources") or {}
    kept = {
        name: {k: amount(v) for k, v in (resources.get(name) or {}).items() if k not in _SCALABLE}
        for name in ("limits", "requests")
    }
    return {**container, "resources": kept, "resizePolicy": None}
