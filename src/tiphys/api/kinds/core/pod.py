"""Pod (API reference, core/v1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiphys.api.kinds.base import Context, FieldError, MutableObject, Object
from tiphys.api.kinds.common import StatusKind, hostname_warning, keep, setdefaults
from tiphys.api.kinds.core import pod_cells, pod_update
from tiphys.api.kinds.core.pod_memory import GoodSpecs, key_of
from tiphys.api.kinds.core.pod_status import pod_status
from tiphys.api.kinds.core.pod_warnings import pod_warnings
from tiphys.api.kinds.podspec import default_pod_spec, host_ports, requests_from_limits
from tiphys.api.quantity import parse
from tiphys.api.validation.containers import image_spaces
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.pod_annotations import APP_ARMOR, MIRROR, pod_annotations, profiles_match
from tiphys.api.validation.pod_resources import aggregate, qos_class
from tiphys.api.validation.pods import pod_spec
from tiphys.base.clock import rfc3339


class Pod(StatusKind):
    plural, kind = "pods", "Pod"
    revalidates_metadata = True
    columns = pod_cells.COLUMNS

    def __init__(self) -> None:
        self._valid, self._silent = GoodSpecs(), GoodSpecs()
        self._checked: tuple[Object, bytes | None] = ({}, None)
        """The spec that was checked last and its key: mostly its warnings are asked for next."""

    def default(self, obj: MutableObject, version: str) -> None:
        spec: MutableObject = obj.setdefault("spec", {})
        requests_from_limits(spec)
        default_pod_spec(spec)
        setdefaults(spec, enableServiceLinks=True)
        if spec.get("hostNetwork"):
            host_ports(spec)
        if spec["terminationGracePeriodSeconds"] < 0:
            spec["terminationGracePeriodSeconds"] = 1
        if spec.get("resources"):
            _pod_level_requests(spec)
        _addresses(obj.get("status") or {})

    def prepare_create(self, obj: MutableObject, context: Context) -> None:
        spec = obj["spec"]
        obj["status"] = {"phase": "Pending", "qosClass": qos_class(spec)}
        if spec.get("schedulingGates"):
            obj["status"]["conditions"] = [_gated(context)]
        labels = (obj.get("metadata") or {}).get("labels") or {}
        _merge_label_keys(spec, labels)
        _app_armor(obj, spec)

    def prepare_update(self, new: MutableObject, old: Object, context: Context) -> None:
        if context.subresource == "ephemeralcontainers":
            wanted = (new.get("spec") or {}).get("ephemeralContainers")
            new["spec"] = {**(old.get("spec") or {}), "ephemeralContainers": wanted or []}
            if not wanted:
                new["spec"].pop("ephemeralContainers")
        elif context.subresource == "resize":
            _only_resources(new, old)
        keep(new, old, "status")

    def prepare_status_update(self, new: MutableObject, old: Object, context: Context) -> None:
        status, was = new.setdefault("status", {}), old.get("status") or {}
        if not status.get("qosClass") and was.get("qosClass"):
            status["qosClass"] = was["qosClass"]
        if not status.get("observedGeneration") and was.get("observedGeneration"):
            status["observedGeneration"] = was["observedGeneration"]
        if owners := (old.get("metadata") or {}).get("ownerReferences"):
            new["metadata"]["ownerReferences"] = owners

    def _metadata_and_spec(self, errors: Errors, obj: Object) -> None:
        meta: Mapping[str, Any] = obj.get("metadata") or {}
        spec: Mapping[str, Any] = obj.get("spec") or {}
        if values := meta.get("annotations"):
            pod_annotations(errors, "metadata.annotations", values, spec)
        pod_spec(errors, "spec", spec, meta)
        if not spec.get("serviceAccountName"):
            _no_tokens(errors, spec)
        for name in ("containers", "initContainers"):
            for i, container in enumerate(spec.get(name) or ()):
                image_spaces(errors, f"spec.{name}[{i}]", container)

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        spec: Mapping[str, Any] = obj.get("spec") or {}
        key = key_of(spec, obj.get("metadata") or {})
        self._checked = spec, key
        if key is None or key not in self._valid:
            before = len(errors)
            self._whole(errors, obj, spec)
            if key is not None and len(errors) == before:
                self._valid.add(key)

    def _whole(self, errors: Errors, obj: Object, spec: Object) -> None:
        self._metadata_and_spec(errors, obj)
        if spec.get("ephemeralContainers"):
            errors.forbidden("spec.ephemeralContainers", "cannot be set on create")
        if spec.get("nodeName") and spec.get("schedulingGates"):
            errors.forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared")
        if values := (obj.get("metadata") or {}).get("annotations"):
            profiles_match(errors, "spec", values, spec)

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        is_mirror = MIRROR in ((old.get("metadata") or {}).get("annotations") or {})
        if context.subresource in ("ephemeralcontainers", "resize") and is_mirror:
            texts = {"resize": "static pods cannot be resized"}
            errors.forbidden("", texts.get(context.subresource, "static pods do not support ephemeral containers"))
            return
        self._metadata_and_spec(errors, new)
        if context.subresource == "resize":
            pod_update.resize(errors, new, old)
            return
        pod_update.annotation_updates(errors, new, old)
        update = pod_update.ephemeral_update if context.subresource else pod_update.spec_update
        update(errors, new.get("spec") or {}, old.get("spec") or {})

    def validate_status_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        errors = Errors()
        pod_update.annotation_updates(errors, new, old)
        pod_status(errors, new, old)
        return errors

    def warnings(self, obj: Object, old: Object | None, context: Context) -> list[str]:
        if old is not None:
            return []
        found, meta = hostname_warning(obj, "the Pod's hostname"), obj.get("metadata") or {}
        checked, key = self._checked
        self._checked = {}, None
        if checked is not obj["spec"]:
            key = key_of(obj["spec"], meta)
        if key is None or key not in self._silent:
            texts = pod_warnings(obj["spec"], meta)
            if key is not None and not texts:
                self._silent.add(key)
            found += texts
        return found

    def fields(self, obj: Object) -> Mapping[str, str]:
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        addresses: Sequence[Object] = status.get("podIPs") or ({},)
        return {
            "spec.nodeName": spec.get("nodeName", ""),
            "spec.restartPolicy": spec.get("restartPolicy", ""),
            "spec.schedulerName": spec.get("schedulerName", ""),
            "spec.serviceAccountName": spec.get("serviceAccountName", ""),
            "spec.hostNetwork": "true" if spec.get("hostNetwork") else "false",
            "status.phase": status.get("phase", ""),
            "status.podIP": addresses[0].get("ip", ""),
            "status.nominatedNodeName": status.get("nominatedNodeName", ""),
        }

    def cells(self, obj: Object, now: float) -> list[Any]:
        return pod_cells.cells(obj, now)

    def delete_grace(self, obj: Object, wanted: int | None) -> int | None:
        """A pod on no node or at its end goes at once; others get the grace that was asked for."""
        spec, phase = obj.get("spec") or {}, (obj.get("status") or {}).get("phase")
        if not spec.get("nodeName") or phase in ("Failed", "Succeeded"):
            return 0
        seconds = wanted if wanted is not None else spec.get("terminationGracePeriodSeconds") or 0
        return seconds if seconds >= 0 else 1


def _addresses(status: MutableObject) -> None:
    """podIP is the first of podIPs; clients that know one of them set both."""
    first, listed = status.get("podIP") or "", status.get("podIPs") or []
    if first and (not listed or listed[0].get("ip") != first):
        status["podIPs"] = [{"ip": first}]
    elif listed and not first:
        status["podIP"] = listed[0].get("ip", "")


def _gated(context: Context) -> dict[str, Any]:
    return {
        "type": "PodScheduled",
        "status": "False",
        "lastProbeTime": None,
        "lastTransitionTime": rfc3339(context.now),
        "reason": "SchedulingGated",
        "message": "Scheduling is blocked due to non-empty scheduling gates",
    }


def _pod_level_requests(spec: MutableObject) -> None:
    """A pod with limits of its own asks for what its containers ask for, or for its limits."""
    resources = spec["resources"]
    limits = dict(resources.get("limits") or {})
    requests = dict(resources.get("requests") or {})
    if not limits and not requests:
        return
    for name, quantity in aggregate(spec, "limits").items():
        if name.startswith("hugepages-") and name not in requests:
            limits.setdefault(name, str(quantity))
    if resources.get("limits"):
        for name, quantity in aggregate(spec, "requests").items():
            if name in ("cpu", "memory"):
                requests.setdefault(name, str(quantity))
        for name, value in limits.items():
            if name in ("cpu", "memory") or name.startswith("hugepages-"):
                requests.setdefault(name, str(parse(str(value))))
    for name, values in (("limits", limits), ("requests", requests)):
        if values:
            resources[name] = values


def _merge_label_keys(spec: MutableObject, labels: Mapping[str, str]) -> None:
    """matchLabelKeys become requirements with the pod's own values (KEP-3633, KEP-3243)."""
    affinity = spec.get("affinity") or {}
    for kind in ("podAffinity", "podAntiAffinity"):
        own = affinity.get(kind) or {}
        for term in own.get("requiredDuringSchedulingIgnoredDuringExecution") or ():
            _add_requirements(term, labels)
        for weighted in own.get("preferredDuringSchedulingIgnoredDuringExecution") or ():
            _add_requirements(weighted.get("podAffinityTerm") or {}, labels)
    for constraint in spec.get("topologySpreadConstraints") or ():
        _add_requirements(constraint, labels)


def _add_requirements(term: MutableObject, labels: Mapping[str, str]) -> None:
    selector = term.get("labelSelector")
    if selector is None:
        return
    for field, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")):
        for key in term.get(field) or ():
            if key in labels:
                requirement = {"key": key, "operator": operator, "values": [labels[key]]}
                selector["matchExpressions"] = [*(selector.get("matchExpressions") or ()), requirement]


def _app_armor(obj: MutableObject, spec: MutableObject) -> None:
    """AppArmor annotations of old clients become fields; fields of a container keep theirs."""
    values = (obj.get("metadata") or {}).get("annotations") or {}
    for name in ("initContainers", "containers"):
        for container in spec.get(name) or ():
            text = values.get(APP_ARMOR + container.get("name", ""))
            context = container.get("securityContext") or {}
            if text is None or context.get("appArmorProfile") is not None:
                continue
            if profile := _profile(text):
                container["securityContext"] = {**context, "appArmorProfile": profile}


def _profile(text: str) -> dict[str, str] | None:
    if text == "unconfined":
        return {"type": "Unconfined"}
    if text == "runtime/default":
        return {"type": "RuntimeDefault"}
    if text.startswith("localhost/"):
        return {"type": "Localhost", "localhostProfile": text.removeprefix("localhost/")}
    return None


def _only_resources(new: MutableObject, old: Object) -> None:
    """Of a resize, take the resources and resize policies only."""
    spec, was = new.get("spec") or {}, old.get("spec") or {}
    merged = dict(was)
    if "resources" in spec:
        merged["resources"] = spec["resources"]
    for name in ("containers", "initContainers"):
        after, before = spec.get(name) or [], was.get(name) or []
        if [c.get("name") for c in after] != [c.get("name") for c in before]:
            merged[name] = after
        elif before:
            fields = ("resources", "resizePolicy")
            merged[name] = [{**b, **{f: a[f] for f in fields if f in a}} for a, b in zip(after, before, strict=True)]
    new["spec"] = merged


def _no_tokens(errors: Errors, spec: Mapping[str, Any]) -> None:
    for i, volume in enumerate(spec.get("volumes") or ()):
        for j, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
            if source.get("serviceAccountToken") is not None:
                path = f"spec.volumes[{i}].projected.sources[{j}].serviceAccountToken"
                errors.forbidden(path, "must not be specified when serviceAccountName is not set")
