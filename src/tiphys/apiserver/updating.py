"""Update: read the current object, let a change make the new one, admit, prepare, validate, compare-and-swap.

PUT, PATCH and every subresource that writes go through `update`; they differ in the `Change` that they hand in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tiphys.api import errors
from tiphys.api.apply.managed import same_but_times
from tiphys.api.kinds.base import FieldError, invalid
from tiphys.api.validation.metadata import validate_metadata_update
from tiphys.apiserver import creating, metadata
from tiphys.apiserver.deletion import finished
from tiphys.apiserver.entries import Entry
from tiphys.apiserver.parts import Parts
from tiphys.apiserver.refusing import refused
from tiphys.apiserver.resource import Call
from tiphys.base.errors import Conflict
from tiphys.store.types import Mismatch

Object = Mapping[str, Any]
Make = Callable[[Object, Entry], Awaitable[dict[str, Any]]]
"""The new object, made from the current one (shared: never change it) and its entry, which has the managedFields.
What it returns is the caller's own."""
Track = Callable[[Entry, Object, Object], bytes | None]
"""managedFields (JSON) after a change: entry and object before, object after. None: as they were."""

RETRIES = 5
"""Attempts of a conditional-free write against other writers, beyond the first; upstream's patch handler has five."""
STATUS_LIKE = ("status", "approval")
"""Subresources that write nothing but status and metadata."""
MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


@dataclass(frozen=True, slots=True)
class Change:
    """How an update makes its object, and which rules it goes by."""

    make: Make
    subresource: str = ""
    """"" for the object itself, status for everything else that only its owner writes."""
    retries: int = RETRIES
    raw: bool = False
    """The server's own change (binding, finalize): no preparation, no validation, only admission."""
    track: Track | None = None
    """Who manages what afterwards; None: whoever changes a field takes it over."""


async def update(parts: Parts, call: Call, name: str, change: Change) -> Entry:
    """Change the object `name`. Raises NotFound, Conflict, Invalid and what admission refuses with."""
    cache = call.resource.cache
    attempt = 0
    while True:
        old = cache.get(call.namespace, name)
        if old is None:
            raise errors.not_found(call.resource.group, call.resource.plural, name)
        try:
            return await _attempt(parts, call, old, change)
        except Mismatch as error:
            if error.current is None:
                raise errors.not_found(call.resource.group, call.resource.plural, name) from None
            attempt += 1
            if attempt > change.retries:
                raise modified(call, name) from None


async def _attempt(parts: Parts, call: Call, old: Entry, change: Change) -> Entry:
    resource = call.resource
    if resource.converts:
        await resource.ready((old,))
    current = resource.current(old)
    new = await change.make(current, old)
    check_version(call, new, current)
    _settle(new, current)
    if change.subresource in STATUS_LIKE:
        _only_status(new, current)
    managed = _track(parts, call, old, current, new, change)
    attributes = parts.admission.attributes(call, "UPDATE", new, current)
    attributes.managed, attributes.old_managed = old.managed if managed is None else managed, old.managed
    await parts.admission.admit(call, attributes)
    if change.subresource in STATUS_LIKE:
        _only_status(new, current)
    if not change.raw:
        prepare(call, new, current, change.subresource)
    async with parts.reserving(resource.group, resource.plural, new, current, dry_run=call.dry_run):
        if not change.raw:
            check(parts, call, new, current, change.subresource)
        await parts.admission.validate(call, attributes)
        return await _store(parts, call, old, current, new, managed)


def _track(parts: Parts, call: Call, old: Entry, current: Object, new: dict[str, Any], change: Change) -> bytes | None:
    supplied = new["metadata"].pop("managedFields", None)
    if change.track is not None:
        return change.track(old, current, new)
    return None if change.raw else parts.ownership.updated(call, old, current, new, change.subresource, supplied)


async def _store(
    parts: Parts, call: Call, old: Entry, current: Object, new: dict[str, Any], managed: bytes | None
) -> Entry:
    resource = call.resource
    if managed is None:
        managed = old.managed
    ends = "deletionTimestamp" in current["metadata"] and finished(new) and _may_end(call, new)
    same = not ends and new == current and same_but_times(managed, old.managed)
    if same and not old.outdated and not parts.storage.stale(old):
        return old
    if call.dry_run:
        return creating.transient(resource, old.key, new, old.revision, managed)
    if ends:
        await parts.storage.remove(resource.cache, old, call.author)
        await parts.released(resource.group, resource.plural, current)
        return creating.transient(resource, old.key, new, old.revision, managed)
    stored = await resource.to_store(new) if resource.converts else new
    return await parts.storage.replace(resource.cache, old, stored, call.author, managed)


def prepare(call: Call, new: dict[str, Any], current: Object, subresource: str) -> None:
    """Let the kind carry over what a change may not touch."""
    kind, context = call.resource.kind, call.context(subresource)
    if subresource in STATUS_LIKE:
        kind.prepare_status_update(new, current, context)
    else:
        kind.prepare_update(new, current, context)


def check(parts: Parts, call: Call, new: dict[str, Any], current: Object, subresource: str) -> None:
    """Count generations, then ask the kind about the change. Raises Invalid."""
    kind, context = call.resource.kind, call.context(subresource)
    validate = kind.validate_status_update if subresource in STATUS_LIKE else kind.validate_update
    if subresource not in STATUS_LIKE and kind.counts_generation and _differs(new, current):
        new["metadata"]["generation"] = (current["metadata"].get("generation") or 0) + 1

    def problems(new: Object) -> list[FieldError]:
        metadata_problems = validate_metadata_update(
            new, current, namespaced=call.resource.namespaced, finalizers=kind.qualified_finalizers
        )
        return [*metadata_problems, *validate(new, current, context)]

    if found := problems(new):
        raise refused(parts, call, new, found, problems)
    if not subresource:
        call.warn(*kind.warnings(new, current, context))


def check_version(call: Call, new: dict[str, Any], current: Object) -> None:
    """The uid and resourceVersion that `new` names must be those of now. Raises Conflict, Invalid."""
    resource = call.resource
    meta, found = new["metadata"], current["metadata"]
    name = found["name"]
    # A patch that changes it is refused by the rules of metadata.
    if meta.get("uid") and meta["uid"] != found["uid"] and call.info.verb != "patch":
        raise errors.conflict(
            resource.group,
            resource.plural,
            name,
            f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {found['uid']}",
        )
    version = meta.get("resourceVersion") or "0"
    if version == "0":
        if not resource.kind.unconditional_update:
            problem = invalid("metadata.resourceVersion", 0, "must be specified for an update")
            problem = replace(problem, message="Invalid value: 0: must be specified for an update")
            raise errors.invalid(resource.group, resource.plural, name, [problem])
        meta["resourceVersion"] = found["resourceVersion"]
    elif version != found["resourceVersion"]:
        raise modified(call, name)


def modified(call: Call, name: str) -> Conflict:
    """409: somebody else was faster."""
    return errors.conflict(call.resource.group, call.resource.plural, name, MODIFIED)


def _settle(new: dict[str, Any], current: Object) -> None:
    new["metadata"] = dict(new["metadata"])
    metadata.carry_over(new["metadata"], current["metadata"])
    new["kind"], new["apiVersion"] = current["kind"], current["apiVersion"]


def _only_status(new: dict[str, Any], current: Object) -> None:
    """A write to /status changes status and metadata; all else is as it is stored."""
    for field in [field for field in new if field not in ("status", "metadata")]:
        if field not in current:
            del new[field]
    new.update({field: value for field, value in current.items() if field not in ("status", "metadata")})


def _differs(new: Object, current: Object) -> bool:
    """Whether anything but metadata and status changed."""
    for field in new.keys() | current.keys():
        if field not in ("metadata", "status") and new.get(field) != current.get(field):
            return True
    return False


def _may_end(call: Call, new: Object) -> bool:
    """Namespaces also wait for the finalizers in their spec."""
    if (call.resource.group, call.resource.plural) == ("", "namespaces"):
        return not (new.get("spec") or {}).get("finalizers")
    return True


async def put(parts: Parts, call: Call, name: str) -> tuple[Entry, bool]:
    """PUT on an object or its status; (the entry, whether it was created)."""
    obj = creating.body(parts, call)
    meta = obj.setdefault("metadata", {})
    metadata.match_name(meta, name)
    metadata.match_namespace(meta, call.namespace)
    conditional = bool(meta.get("resourceVersion"))
    resource = call.resource
    missing = resource.cache.get(call.namespace, name) is None
    if missing and resource.kind.allow_create_on_update and not call.info.subresource:
        return await _create_on_update(parts, call, obj, name), True

    async def make(_: Object, __: Entry) -> dict[str, Any]:
        return {**obj, "metadata": dict(meta)}

    change = Change(make, call.info.subresource, retries=0 if conditional else RETRIES)
    return await update(parts, call, name, change), False


async def _create_on_update(parts: Parts, call: Call, obj: dict[str, Any], name: str) -> Entry:
    meta = obj["metadata"]
    if meta.get("uid"):
        detail = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: "
        raise errors.conflict(call.resource.group, call.resource.plural, name, detail)
    try:
        return await creating.insert(parts, call, obj)
    except Mismatch:
        raise modified(call, name) from None
