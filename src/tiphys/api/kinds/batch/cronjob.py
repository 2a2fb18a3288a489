"""CronJob (API reference, batch/v1); batch/v1beta1, which old manifests name, has the same shape."""

from __future__ import annotations

import re
from typing import Any

from tiphys.api.kinds import printing
from tiphys.api.kinds.base import Column, Context, MutableObject, Object
from tiphys.api.kinds.batch.job import default_job_spec
from tiphys.api.kinds.batch.job_rules import job_spec, job_warnings
from tiphys.api.kinds.batch.schedule import problem
from tiphys.api.kinds.common import StatusKind, child, fill_empty, has_changed, hostname_warning, setdefaults
from tiphys.api.kinds.workload import non_negative, shown_selector, spec_of
from tiphys.api.validation.errors import Errors

_is_zone_part = re.compile(r"[A-Za-z._0-9+-]{1,14}").fullmatch
_POLICIES = ("Allow", "Forbid", "Replace")


class CronJob(StatusKind):
    group, plural, kind = "batch", "cronjobs", "CronJob"
    columns = (
        printing.NAME,
        Column("Schedule", description="@CronJobSpec.schedule"),
        Column("Timezone", description="@CronJobSpec.timeZone"),
        Column("Suspend", "boolean", description="@CronJobSpec.suspend"),
        Column("Active", "integer", description="@CronJobStatus.active"),
        Column("Last Schedule", description="@CronJobStatus.lastScheduleTime"),
        printing.AGE,
        printing.CONTAINERS,
        printing.IMAGES,
        Column("Selector", description="@JobSpec.selector", priority=1),
    )

    def default(self, obj: MutableObject, version: str) -> None:
        spec = child(obj, "spec")
        template = child(spec, "jobTemplate")
        child(template, "metadata")
        default_job_spec(child(template, "spec"))
        fill_empty(spec, concurrencyPolicy="Allow")
        setdefaults(spec, suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)

    def convert(self, obj: MutableObject, source: str, target: str) -> MutableObject:
        """v1beta1 and v1 differ in nothing but the name of the version."""
        obj["apiVersion"] = f"batch/{target}"
        return obj

    def check(self, errors: Errors, obj: Object, context: Context) -> None:
        self._spec(errors, obj, None)
        name = printing.name(obj)
        if len(name) > 52:
            errors.invalid("metadata.name", name, "must be no more than 52 characters")

    def check_update(self, errors: Errors, new: Object, old: Object, context: Context) -> None:
        self._spec(errors, new, old)

    def _spec(self, errors: Errors, obj: Object, old: Object | None) -> None:
        spec, was = spec_of(obj), spec_of(old or {})
        zone = spec.get("timeZone")
        if errors.non_empty("spec.schedule", schedule := spec.get("schedule", "")):
            _schedule(errors, schedule, zone, had_zone="TZ" in was.get("schedule", ""))
        non_negative(errors, "spec", spec, "startingDeadlineSeconds")
        if old is None or zone != was.get("timeZone"):
            _zone(errors, "spec.timeZone", zone)
        errors.enum("spec.concurrencyPolicy", spec.get("concurrencyPolicy"), _POLICIES)
        template = (spec.get("jobTemplate") or {}).get("spec") or {}
        job_spec(errors, "spec.jobTemplate.spec", template)
        if (selector := template.get("selector")) is not None:
            shown = shown_selector(selector)
            errors.invalid("spec.jobTemplate.spec.selector", shown, "`selector` will be auto-generated")
        if template.get("manualSelector"):
            errors.unsupported("spec.jobTemplate.spec.manualSelector", True, ("nil", "false"))
        non_negative(errors, "spec", spec, "successfulJobsHistoryLimit", "failedJobsHistoryLimit")

    def warnings(self, obj: Object, old: Object | None, context: Context) -> list[str]:
        spec = spec_of(obj)
        found = hostname_warning(obj) if old is None else []
        if old is None or has_changed(obj, old, "spec"):
            found += job_warnings((spec.get("jobTemplate") or {}).get("spec") or {}, "spec.jobTemplate.spec")
        if old is not None and "TZ" in spec.get("schedule", ""):
            found.append(
                "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see"
                " https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
            )
        return found

    def cells(self, obj: Object, now: float) -> list[Any]:
        spec, status = spec_of(obj), obj.get("status") or {}
        template = (spec.get("jobTemplate") or {}).get("spec") or {}
        last = status.get("lastScheduleTime")
        return [
            printing.name(obj),
            spec.get("schedule", ""),
            printing.NONE if spec.get("timeZone") is None else spec["timeZone"],
            printing.true_false(spec.get("suspend")),
            len(status.get("active") or ()),
            printing.since(last, now) if last else printing.NONE,
            printing.age(obj, now),
            *printing.container_cells((template.get("template") or {}).get("spec")),
            # A selector that is null is printed as one that cannot be read.
            printing.format_selector(template.get("selector")),
        ]


def _schedule(errors: Errors, schedule: str, zone: str | None, *, had_zone: bool) -> None:
    if text := problem(schedule):
        errors.invalid("spec.schedule", schedule, text)
    if "TZ" not in schedule:
        return
    if not had_zone:
        detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        errors.invalid("spec.schedule", schedule, detail)
    elif zone is not None:
        errors.invalid("spec.schedule", schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule")


def _zone(errors: Errors, path: str, zone: str | None) -> None:
    if zone is None:
        return
    if not zone:
        errors.invalid(path, zone, "timeZone must be nil or non-empty string")
        return
    unknown = f"unknown time zone {zone}"
    for part in zone.split("/"):
        if part in (".", "..") or part.startswith("-") or not _is_zone_part(part):
            errors.invalid(path, zone, unknown)
            return
    if zone.lower() == "local":
        detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        errors.invalid(path, zone, detail)
    elif not known_zone(zone):
        errors.invalid(path, zone, unknown)


def known_zone(name: str) -> bool:
    """Whether this machine's time zone database, or the tzdata package, has the zone."""
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return name == "UTC"
    return True
