"""DELETE and DELETECOLLECTION: preconditions, admission, then what `deletion.plan` says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api import errors
from tiphys.apiserver import creating, deletion
from tiphys.apiserver.entries import Entry
from tiphys.apiserver.parts import Parts
from tiphys.apiserver.resource import Call, Resource
from tiphys.apiserver.updating import RETRIES, modified
from tiphys.base.clock import rfc3339
from tiphys.store.types import Mismatch

Options = Mapping[str, Any]
RETURNS_OBJECT = frozenset(
    {
        ("", "namespaces"), ("", "pods"), ("", "services"), ("", "serviceaccounts"), ("", "podtemplates"),
        ("", "persistentvolumes"), ("", "persistentvolumeclaims"), ("", "resourcequotas"),
        ("resource.k8s.io", "deviceclasses"), ("resource.k8s.io", "resourceclaims"),
        ("resource.k8s.io", "resourceclaimtemplates"), ("resource.k8s.io", "resourceslices"),
        ("storage.k8s.io", "csidrivers"), ("storage.k8s.io", "csinodes"), ("storage.k8s.io", "storageclasses"),
        ("storage.k8s.io", "volumeattachments"), ("storage.k8s.io", "volumeattributesclasses"),
    }
)  # fmt: skip
"""Resources whose deletion answers with the object even when it is gone at once; the others answer a Status."""
PLURAL_IN_CONFLICT = {("", "namespaces"), ("apiextensions.k8s.io", "customresourcedefinitions")}


async def delete(parts: Parts, call: Call, name: str, options: Options) -> tuple[Entry, bool]:
    """Delete one object; (what it was or has become, whether it is gone). Raises NotFound, Conflict."""
    for _ in range(RETRIES + 1):
        old = call.resource.cache.get(call.namespace, name)
        if old is None:
            raise errors.not_found(call.resource.group, call.resource.plural, name)
        try:
            return await _attempt(parts, call, old, options)
        except Mismatch as error:
            if error.current is None:
                raise errors.not_found(call.resource.group, call.resource.plural, name) from None
    raise modified(call, name)


async def _attempt(parts: Parts, call: Call, old: Entry, options: Options) -> tuple[Entry, bool]:
    resource = call.resource
    if resource.converts:
        await resource.ready((old,))
    current = resource.current(old)
    _preconditions(resource, current, options)
    attributes = parts.admission.attributes(call, "DELETE", None, current)
    attributes.old_managed = old.managed
    await parts.admission.admit(call, attributes)
    await parts.admission.validate(call, attributes)
    plan = _own_plan(current, call)
    plan = plan or deletion.plan(resource.kind, resource.cache.obj(old), options, call.now)
    if call.dry_run:
        if plan.marked is None:
            return old, plan.gone
        return creating.transient(resource, old.key, plan.marked, old.revision, old.managed), plan.gone
    if plan.gone:
        # A pod that goes at once is shown marked as deleted, with a grace period of zero.
        gone = await parts.storage.remove(resource.cache, old, call.author)
        await parts.released(resource.group, resource.plural, current)
        if plan.marked is not None:
            gone = creating.transient(resource, old.key, plan.marked, gone.revision, old.managed)
        return gone, True
    if plan.marked is None or plan.marked == resource.cache.obj(old):
        return old, False
    return await parts.storage.replace(resource.cache, old, plan.marked, call.author), False


def _preconditions(resource: Resource, current: Options, options: Options) -> None:
    if (resource.group, resource.plural) not in PLURAL_IN_CONFLICT:
        deletion.check_preconditions(resource.kind, current, options)
        return
    for title, field in (("UID", "uid"), ("ResourceVersion", "resourceVersion")):
        wanted, found = (options.get("preconditions") or {}).get(field), current["metadata"][field]
        if wanted is not None and wanted != found:
            text = f"Precondition failed: {title} in precondition: {wanted}, {title} in object meta: {found}"
            raise errors.conflict(resource.group, resource.plural, current["metadata"]["name"], text)


def _is_namespace(resource: Resource) -> bool:
    return (resource.group, resource.plural) == ("", "namespaces")


def _own_plan(current: Options, call: Call) -> deletion.Plan | None:
    """Namespaces and definitions of custom resources have a way of their own to go."""
    if _is_namespace(call.resource):
        return _namespace_plan(current, call)
    if (call.resource.group, call.resource.plural) == ("apiextensions.k8s.io", "customresourcedefinitions"):
        return _definition_plan(current, call)
    return None


def _definition_plan(current: Options, call: Call) -> deletion.Plan | None:
    """A definition waits until all of its objects are deleted (`extensions.instances`)."""
    metadata = dict(current["metadata"])
    if "deletionTimestamp" in metadata:
        return None
    from tiphys.apiserver.extensions.status import FINALIZER, terminating

    metadata["deletionTimestamp"] = rfc3339(call.now)
    finalizers = list(metadata.get("finalizers") or ())
    metadata["finalizers"] = finalizers if FINALIZER in finalizers else [*finalizers, FINALIZER]
    text = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
    status = terminating(current, "True", "InstanceDeletionPending", text, call.now)
    return deletion.Plan({**current, "metadata": metadata, "status": status}, gone=False)


def _namespace_plan(current: Options, call: Call) -> deletion.Plan | None:
    """A namespace with finalizers in its spec only begins to terminate; its controller empties it."""
    if not (current.get("spec") or {}).get("finalizers"):
        return None
    metadata = dict(current["metadata"])
    if "deletionTimestamp" not in metadata:
        metadata["deletionTimestamp"] = rfc3339(call.now)
    status = {**(current.get("status") or {}), "phase": "Terminating"}
    return deletion.Plan({**current, "metadata": metadata, "status": status}, gone=False)


def answer(resource: Resource, entry: Entry, *, gone: bool) -> dict[str, Any] | None:
    """The Status to answer with, None if the object itself is the answer."""
    if not gone or (resource.group, resource.plural) in RETURNS_OBJECT:
        return None
    metadata = resource.cache.obj(entry)["metadata"]
    details = {"name": metadata["name"], "group": resource.group, "kind": resource.plural, "uid": metadata["uid"]}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {key: value for key, value in details.items() if value},
    }
