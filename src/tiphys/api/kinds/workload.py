"""What controllers of pods have in common: a selector that must match the template, a template that runs for ever."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, Object, ScalePaths
from tiphys.api.kinds.common import StatusKind, has_changed, hostname_warning
from tiphys.api.kinds.core.pod_update import same
from tiphys.api.kinds.core.pod_warnings import pod_warnings
from tiphys.api.validation.errors import IMMUTABLE, NEGATIVE, Errors
from tiphys.api.validation.labels import is_empty, label_selector, matches
from tiphys.api.validation.pods import pod_template

Struct = Mapping[str, Any]

MISMATCH = "`selector` does not match template `labels`"
SCALE = ScalePaths()


def replicas_columns(spec: str, status: str) -> tuple[Column, ...]:
    """Desired, current, ready: replication controllers and replica sets."""
    return (
        printing.NAME,
        Column("Desired", "integer", description=f"@{spec}.replicas"),
        Column("Current", "integer", description=f"@{status}.replicas"),
        Column("Ready", "integer", description=f"@{status}.readyReplicas"),
        printing.AGE,
        printing.CONTAINERS,
        printing.IMAGES,
        Column("Selector", description=f"@{spec}.selector", priority=1),
    )


class Workload(StatusKind):
    """A kind with spec.template; warnings are those of pods made from it."""

    warns_of_name = True

    def warnings(self, obj: Object, old: Object | None, context: Context) -> list[str]:
        if old is not None and not has_changed(obj, old, "spec"):
            return []
        template = template_of(obj)
        found = hostname_warning(obj) if self.warns_of_name and old is None else []
        return [*found, *pod_warnings(template.get("spec") or {}, template.get("metadata") or {}, "spec.template")]


def spec_of(obj: Object) -> Struct:
    return obj.get("spec") or {}


def template_of(obj: Object) -> Struct:
    return spec_of(obj).get("template") or {}


def template_labels(template: Struct) -> Mapping[str, str]:
    return (template.get("metadata") or {}).get("labels") or {}


def shown_labels(template: Struct) -> dict[str, str] | None:
    """The labels as a bad value: sorted, and none is not the same as an empty map."""
    labels = (template.get("metadata") or {}).get("labels")
    return None if labels is None else dict(sorted(labels.items()))


def selector(errors: Errors, path: str, value: Struct | None, what: str) -> None:
    """A LabelSelector that has to be there and to select something."""
    if value is None:
        errors.required(path)
        return
    label_selector(errors, path, value)
    if is_empty(value):
        errors.invalid(path, shown_selector(value), f"empty selector is invalid for {what}")


def shown_selector(value: Struct | None) -> dict[str, Any] | None:
    """A LabelSelector with its fields in the order in which messages show them."""
    if value is None:
        return None
    shown: dict[str, Any] = {}
    if labels := value.get("matchLabels"):
        shown["matchLabels"] = dict(sorted(labels.items()))
    if expressions := value.get("matchExpressions"):
        names = ("key", "operator", "values")
        shown["matchExpressions"] = [
            {name: e.get(name, "") for name in names if name != "values" or e.get(name)} for e in expressions
        ]
    return shown


def same_selector(errors: Errors, new: Object, old: Object) -> None:
    """A workload's selector never changes: its pods would be lost to it."""
    value = spec_of(new).get("selector")
    if not same(value, spec_of(old).get("selector")):
        errors.invalid("spec.selector", shown_selector(value), IMMUTABLE)


def usable(value: Struct | None) -> bool:
    """Whether a selector has no unknown operators or empty value lists, so that it can be asked."""
    errors = Errors()
    label_selector(errors, "", value)
    return not errors


def selects(errors: Errors, path: str, value: Struct | None, template: Struct) -> None:
    """The template's labels must be what the selector looks for; `path` is the template's."""
    labels = template_labels(template)
    if value is None or (not is_empty(value) and not matches(value, labels)):
        errors.invalid(f"{path}.metadata.labels", shown_labels(template), MISMATCH)


def runs_for_ever(errors: Errors, path: str, template: Struct, what: str) -> None:
    """Only Always as restart policy, and no deadline."""
    spec = template.get("spec") or {}
    if (policy := spec.get("restartPolicy", "")) != "Always":
        errors.unsupported(f"{path}.spec.restartPolicy", policy, ("Always",))
    if spec.get("activeDeadlineSeconds") is not None:
        errors.forbidden(f"{path}.spec.activeDeadlineSeconds", f"activeDeadlineSeconds in {what} is not Supported")


def replica_set_template(errors: Errors, path: str, value: Struct | None, template: Struct) -> None:
    selects(errors, path, value, template)
    pod_template(errors, path, template)
    runs_for_ever(errors, path, template, "ReplicaSet")


def non_negative(errors: Errors, path: str, struct: Struct, *names: str) -> None:
    for name in names:
        value = struct.get(name)
        if value is not None and value < 0:
            errors.invalid(f"{path}.{name}", value, NEGATIVE)


def at_most(errors: Errors, status: Struct, names: tuple[str, ...], limit: str, text: str) -> None:
    """Counters that cannot exceed another one."""
    most = status.get(limit) or 0
    for name in names:
        if (value := status.get(name) or 0) > most:
            errors.invalid(f"status.{name}", value, text)


def not_decremented(errors: Errors, new: Struct, old: Struct, name: str = "collisionCount") -> None:
    value, was = new.get(name), old.get(name)
    if was is not None and (value is None or value < was):
        errors.invalid(f"status.{name}", value or 0, "cannot be decremented")
