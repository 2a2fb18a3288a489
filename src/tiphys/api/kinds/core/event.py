"""Event, of core/v1 and of events.k8s.io/v1: two shapes of one stored object (the core one)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, MutableObject, Object
from tiphys.api.kinds.common import PlainKind
from tiphys.api.validation.errors import IMMUTABLE, Errors
from tiphys.api.validation.names import dns_subdomain, qualified_name

_RENAMED = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
"""events.k8s.io/v1 to core/v1."""
_SHORT = 128
_MESSAGE = 1024
_UNSET = "needs to be unset"


class Event(PlainKind):
    """core/v1 Event. Version 'events.k8s.io/v1' of `convert` is the other group's shape."""

    plural, kind = "events", "Event"
    name_check = "path_segment"
    qualified_finalizers = False
    allow_create_on_update = True
    columns = (
        Column("Last Seen", description="@io.k8s.api.core.v1.Event.lastTimestamp"),
        Column("Type", description="@io.k8s.api.core.v1.Event.type"),
        Column("Reason", description="@io.k8s.api.core.v1.Event.reason"),
        Column("Object", description="@io.k8s.api.core.v1.Event.involvedObject"),
        Column("Subobject", description="@ObjectReference.fieldPath", priority=1),
        Column("Source", description="@io.k8s.api.core.v1.Event.source", priority=1),
        Column("Message", description="@io.k8s.api.core.v1.Event.message"),
        Column("First Seen", description="@io.k8s.api.core.v1.Event.firstTimestamp", priority=1),
        Column("Count", description="@io.k8s.api.core.v1.Event.count", priority=1),
        Column("Name", format="name", description="@ObjectMeta.name", priority=1),
    )

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        _common(errors, obj, "reportingComponent")

    def fields(self, obj: Object) -> Mapping[str, str]:
        about, source = obj.get("involvedObject") or {}, obj.get("source") or {}
        names = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
        component = obj.get("reportingComponent", "")
        return {
            **{f"involvedObject.{name}": about.get(name, "") for name in names},
            "reason": obj.get("reason", ""),
            "reportingComponent": component,
            "source": source.get("component") or component,
            "type": obj.get("type", ""),
        }

    def cells(self, obj: Object, now: float) -> list[Any]:
        about, source, series = (obj.get(name) or {} for name in ("involvedObject", "source", "series"))
        first = printing.since(obj.get("firstTimestamp") or obj.get("eventTime"), now)
        last = printing.since(obj["lastTimestamp"], now) if obj.get("lastTimestamp") else first
        if series:
            last = printing.since(series.get("lastObservedTime"), now)
        kind, name = about.get("kind", "").lower(), about.get("name", "")
        component = source.get("component") or obj.get("reportingComponent", "")
        host = source.get("host") or obj.get("reportingInstance", "")
        return [
            last,
            obj.get("type", ""),
            obj.get("reason", ""),
            f"{kind}/{name}" if name else kind,
            about.get("fieldPath", ""),
            f"{component}, {host}" if host else component,
            obj.get("message", "").strip(),
            first,
            series.get("count", 0) if series else obj.get("count") or 1,
            printing.name(obj),
        ]


class NewEvent(Event):
    """events.k8s.io/v1 Event. `convert` turns it into the core shape, which is what all methods get."""

    group = "events.k8s.io"
    name_check = "dns_subdomain"
    qualified_finalizers = True
    error_group = ""
    stored_version = "core/v1"

    def convert(self, obj: MutableObject, source: str, target: str) -> MutableObject:
        """Between 'v1' (this group's shape) and 'core/v1'."""
        if source == target:
            return obj
        return to_core(obj) if target == self.stored_version else from_core(obj)

    def fields(self, obj: Object) -> Mapping[str, str]:
        named = {"reportingComponent": "reportingController"}
        return {
            named.get(name, name.replace("involvedObject", "regarding")): value
            for name, value in super().fields(obj).items()
            if name != "source"
        }

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        _common(errors, obj, "reportingController")
        _series(errors, obj)
        if not obj.get("eventTime"):
            errors.required("eventTime")
        if (kind := obj.get("type", "")) not in ("Normal", "Warning"):
            errors.invalid("type", "", f"has invalid value: {kind}")
        for name in ("firstTimestamp", "lastTimestamp", "count"):
            if obj.get(name):
                errors.invalid(name, "", _UNSET)
        source = obj.get("source") or {}
        if source.get("component") or source.get("host"):
            errors.invalid("source", "", _UNSET)

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        _common(errors, new, "reportingController")
        if new.get("series") != old.get("series"):
            _series(errors, new)
        if (new.get("involvedObject") or {}) != (old.get("involvedObject") or {}):
            errors.invalid("involvedObject", _reference(new.get("involvedObject") or {}), IMMUTABLE)
        for name in (
            "reason",
            "message",
            "source",
            "firstTimestamp",
            "lastTimestamp",
            "count",
            "reason",  # once more, as upstream looks at it
            "type",
            "eventTime",
            "action",
        ):
            errors.immutable(name, new.get(name, "" if name in _TEXTS else None), old.get(name))
        if (new.get("related") or None) != (old.get("related") or None):
            related = new.get("related")
            errors.invalid("related", None if related is None else _reference(related), IMMUTABLE)
        errors.immutable("reportingController", new.get("reportingComponent", ""), old.get("reportingComponent"))
        errors.immutable("reportingInstance", new.get("reportingInstance", ""), old.get("reportingInstance"))


_TEXTS = frozenset(("reason", "message", "type", "action"))


def _reference(value: Mapping[str, Any]) -> dict[str, str]:
    """An object reference as messages show it: all fields, under their internal names."""
    names = {"kind": "Kind", "namespace": "Namespace", "name": "Name", "uid": "UID", "apiVersion": "APIVersion"}
    names |= {"resourceVersion": "ResourceVersion", "fieldPath": "FieldPath"}
    return {shown: value.get(name, "") for name, shown in names.items()}


def to_core(obj: MutableObject) -> MutableObject:
    converted = {_RENAMED.get(name, name): value for name, value in obj.items()}
    converted["apiVersion"] = "v1"
    return converted


def from_core(obj: MutableObject) -> MutableObject:
    names = {core: new for new, core in _RENAMED.items()}
    converted = {names.get(name, name): value for name, value in obj.items()}
    converted["apiVersion"] = "events.k8s.io/v1"
    return converted


def _common(errors: Errors, obj: Object, controller: str) -> None:
    """`controller` is how the version at hand calls the reporting controller."""
    namespace = (obj.get("metadata") or {}).get("namespace", "")
    about = (obj.get("involvedObject") or {}).get("namespace", "")
    mismatch = "does not match event.namespace"
    if not obj.get("eventTime"):
        wrong = namespace not in ("", "default") if not about else namespace != about
        if wrong:
            errors.invalid("involvedObject.namespace", about, mismatch)
    else:
        if not about and namespace not in ("default", "kube-system"):
            errors.invalid("involvedObject.namespace", about, mismatch)
        _reporter(errors, obj, controller)
    errors.each("namespace", namespace, dns_subdomain(namespace))


def _reporter(errors: Errors, obj: Object, controller: str) -> None:
    name = obj.get("reportingComponent", "")
    errors.non_empty(controller, name)
    errors.each(controller, name, qualified_name(name))
    for field in ("reportingInstance", "action", "reason"):
        value = obj.get(field, "")
        errors.non_empty(field, value)
        if len(value) > _SHORT:
            errors.invalid(field, "", f"can have at most {_SHORT} characters")
    if len(obj.get("message", "")) > _MESSAGE:
        errors.invalid("message", "", f"can have at most {_MESSAGE} characters")


def _series(errors: Errors, obj: Object) -> None:
    series = obj.get("series")
    if series is None:
        return
    if (series.get("count") or 0) < 2:
        errors.invalid("series.count", "", "should be at least 2")
    if not series.get("lastObservedTime"):
        errors.required("series.lastObservedTime")
