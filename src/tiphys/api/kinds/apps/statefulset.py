"""StatefulSet (API reference, apps/v1)."""

from __future__ import annotations

from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, FieldError, MutableObject, Object
from tiphys.api.kinds.common import child, fill_empty, setdefaults
from tiphys.api.kinds.core.persistentvolumeclaim import fraction_warnings
from tiphys.api.kinds.core.pod_update import same
from tiphys.api.kinds.core.pod_warnings import pod_warnings
from tiphys.api.kinds.intorpercent import at_most_all, number
from tiphys.api.kinds.intorpercent import non_negative as non_negative_share
from tiphys.api.kinds.podspec import default_claim_spec, default_template
from tiphys.api.kinds.workload import (
    SCALE,
    Struct,
    Workload,
    at_most,
    non_negative,
    not_decremented,
    runs_for_ever,
    selector,
    selects,
    shown_selector,
    spec_of,
    template_of,
    usable,
)
from tiphys.api.validation.claims import claim_spec
from tiphys.api.validation.errors import Errors
from tiphys.api.validation.names import dns_label
from tiphys.api.validation.pods import pod_template

_MUTABLE = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)
_FROZEN = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)
_COUNTERS = ("replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")


class StatefulSet(Workload):
    group, plural, kind = "apps", "statefulsets", "StatefulSet"
    name_check = "dns_label"
    scale = SCALE
    empty_status = {"replicas": 0, "availableReplicas": 0}  # noqa: RUF012 - read only
    columns = (
        printing.NAME,
        Column("Ready", description="Number of the pod with ready state"),
        printing.AGE,
        printing.CONTAINERS,
        printing.IMAGES,
    )

    def default(self, obj: MutableObject, version: str) -> None:
        spec = child(obj, "spec")
        default_template(spec)
        for claim in spec.get("volumeClaimTemplates") or ():
            claim.update(kind="PersistentVolumeClaim", apiVersion="v1")
            default_claim_spec(child(claim, "spec"))
            fill_empty(child(claim, "status"), phase="Pending")
        fill_empty(spec, podManagementPolicy="OrderedReady")
        strategy = child(spec, "updateStrategy")
        if not strategy.get("type"):
            strategy["type"] = "RollingUpdate"
            child(strategy, "rollingUpdate")
        if strategy["type"] == "RollingUpdate" and strategy.get("rollingUpdate") is not None:
            setdefaults(strategy["rollingUpdate"], partition=0)
            strategy["rollingUpdate"].pop("maxUnavailable", None)
        policy = child(spec, "persistentVolumeClaimRetentionPolicy")
        fill_empty(policy, whenDeleted="Retain", whenScaled="Retain")
        setdefaults(spec, replicas=1, revisionHistoryLimit=10)

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        spec = spec_of(obj)
        self._spec(errors, spec, is_new=True)

    def _spec(self, errors: Errors, spec: Struct, *, is_new: bool) -> None:
        policy = spec.get("podManagementPolicy", "")
        if errors.non_empty("spec.podManagementPolicy", policy) and policy not in ("OrderedReady", "Parallel"):
            errors.invalid("spec.podManagementPolicy", policy, "must be 'OrderedReady' or 'Parallel'")
        _strategy(errors, "spec.updateStrategy", spec.get("updateStrategy") or {})
        retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
        for name in ("whenDeleted", "whenScaled"):
            errors.one_of(
                f"spec.persistentVolumeClaimRetentionPolicy.{name}", retention.get(name), ("Retain", "Delete")
            )
        claims = spec.get("volumeClaimTemplates") or ()
        if is_new:
            for i, claim in enumerate(claims):
                claim_spec(errors, f"spec.volumeClaimTemplates[{i}].spec", claim.get("spec") or {})
        non_negative(errors, "spec", spec, "replicas", "minReadySeconds")
        if ordinals := spec.get("ordinals"):
            errors.non_negative("spec.ordinals.start", ordinals.get("start"))
        if is_new and (service := spec.get("serviceName")):
            errors.each("spec.serviceName", service, dns_label(service))
        wanted, template = spec.get("selector"), spec.get("template") or {}
        selector(errors, "spec.selector", wanted, "statefulset")
        if usable(wanted):
            _template(errors, "spec.template", wanted, template, claims)
        elif wanted is not None:
            errors.invalid("spec.selector", shown_selector(wanted), "")
        runs_for_ever(errors, "spec.template", template, "StatefulSet")

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        spec, was = spec_of(new), spec_of(old)
        self._spec(errors, spec, is_new=False)
        names = {*spec, *was} - set(_MUTABLE)
        if not all(same(spec.get(name), was.get(name)) for name in names):
            errors.forbidden("spec", _FROZEN)

    def validate_status_update(self, new: Object, old: Object, context: Context) -> list[FieldError]:
        errors = Errors()
        status = new.get("status") or {}
        non_negative(errors, "status", status, *_COUNTERS, "observedGeneration", "collisionCount")
        at_most(errors, status, _COUNTERS[1:], "replicas", "cannot be greater than status.replicas")
        at_most(errors, status, _COUNTERS[4:], "readyReplicas", "cannot be greater than status.readyReplicas")
        not_decremented(errors, status, old.get("status") or {})
        return errors

    def warnings(self, obj: Object, old: Object | None, context: Context) -> list[str]:
        found = []
        if old is None or not same(spec_of(obj), spec_of(old)):
            template = template_of(obj)
            found = pod_warnings(template.get("spec") or {}, template.get("metadata") or {}, "spec.template")
        for i, claim in enumerate(spec_of(obj).get("volumeClaimTemplates") or ()):
            path = f"spec.volumeClaimTemplates[{i}]" + ("" if old is None else ".Spec")
            found += fraction_warnings(path, claim.get("spec") or {})
        if (spec_of(obj).get("revisionHistoryLimit") or 0) < 0:
            text = "a negative value retains all historical revisions; a value >= 0 is recommended"
            found.append(f"spec.revisionHistoryLimit: {text}")
        return found

    def cells(self, obj: Object, now: float) -> list[Any]:
        spec, status = spec_of(obj), obj.get("status") or {}
        ready = f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}"
        containers = printing.container_cells((spec.get("template") or {}).get("spec"))
        return [printing.name(obj), ready, printing.age(obj, now), *containers]


def _strategy(errors: Errors, path: str, strategy: Struct) -> None:
    kind, rolling = strategy.get("type", ""), strategy.get("rollingUpdate")
    if not errors.non_empty(path, kind):
        return
    if kind == "OnDelete":
        if rolling is not None:
            errors.invalid(f"{path}.rollingUpdate", _shown(rolling), "only allowed for updateStrategy 'RollingUpdate'")
    elif kind == "RollingUpdate":
        _rolling(errors, f"{path}.rollingUpdate", rolling or {})
    else:
        shown = {"Type": kind, "RollingUpdate": None if rolling is None else _shown(rolling)}
        errors.invalid(path, shown, "must be 'RollingUpdate' or 'OnDelete'")


def _shown(rolling: Struct) -> dict[str, Any]:
    return {"Partition": rolling.get("partition") or 0, "MaxUnavailable": rolling.get("maxUnavailable")}


def _rolling(errors: Errors, path: str, rolling: Struct) -> None:
    non_negative(errors, path, rolling, "partition")
    if (most := rolling.get("maxUnavailable")) is None:
        return
    non_negative_share(errors, f"{path}.maxUnavailable", most)
    if number(most) == 0:
        errors.invalid(f"{path}.maxUnavailable", most, "cannot be 0")
    at_most_all(errors, f"{path}.maxUnavailable", most)


def _template(errors: Errors, path: str, wanted: Struct | None, template: Struct, claims: Any) -> None:
    """Host name and subdomain are the set's own, and its claims are volumes of every pod."""
    selects(errors, path, wanted, template)
    spec = {k: v for k, v in (template.get("spec") or {}).items() if k not in ("hostname", "subdomain")}
    if claims:
        names = [(claim.get("metadata") or {}).get("name", "") for claim in claims]
        own = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in dict.fromkeys(names)]
        others = [v for v in spec.get("volumes") or () if v.get("name", "") not in names]
        spec["volumes"] = [*own, *others]
    pod_template(errors, path, {**template, "spec": spec})
