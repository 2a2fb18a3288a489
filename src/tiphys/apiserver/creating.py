"""Create: decode, default, admit, prepare, validate, write; in the order of upstream's create handler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiphys.api import errors
from tiphys.api.kinds.base import Context, FieldError
from tiphys.api.validation.metadata import validate_metadata, validate_new_names
from tiphys.apiserver import bodies, codec, metadata
from tiphys.apiserver.entries import Entry
from tiphys.apiserver.parts import Parts
from tiphys.apiserver.refusing import refused
from tiphys.apiserver.resource import Call, Resource
from tiphys.base.errors import ApiError, BadRequest
from tiphys.store.types import Mismatch

ATTEMPTS = 8
"""Names tried for a generateName before the collision is reported (KEP-4420)."""


async def create(parts: Parts, call: Call) -> Entry:
    """POST on a collection. Raises the ApiError that says why not."""
    obj = body(parts, call)
    generated = not obj.get("metadata", {}).get("name") and bool(obj.get("metadata", {}).get("generateName"))
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return await insert(parts, call, _fresh(obj) if generated else obj)
        except Mismatch:
            if not generated or attempt == ATTEMPTS:
                raise _exists(call, obj) from None
    raise AssertionError("unreachable: the last attempt raises")


async def insert(parts: Parts, call: Call, obj: dict[str, Any], managed: bytes | None = None) -> Entry:
    """Create `obj`, decoded and defaulted, in the stored version. Raises Mismatch when its name is taken.

    `managed` are its managedFields as JSON; None: whoever creates it manages what it says."""
    resource = call.resource
    version = (obj.get("metadata") or {}).get("resourceVersion")
    meta = metadata.wipe(obj)
    metadata.match_namespace(meta, call.namespace)
    supplied = meta.pop("managedFields", None)
    if managed is None:
        managed = parts.ownership.created(call, obj, supplied)
    if resource.terminating:
        text = "create not allowed while custom resource definition is terminating"
        raise errors.forbidden(resource.group, resource.plural, meta.get("name", ""), text)
    attributes = parts.admission.attributes(call, "CREATE", obj, None)
    attributes.managed = managed
    await parts.admission.admit(call, attributes)
    metadata.match_namespace(meta, call.namespace)
    metadata.initialize(meta, call.now)
    if resource.kind.counts_generation:
        meta["generation"] = 1
    context = call.context()
    resource.kind.prepare_create(obj, context)
    async with parts.reserving(resource.group, resource.plural, obj, None, dry_run=call.dry_run):
        check(parts, call, obj, context)
        await parts.admission.validate(call, attributes)
        key = resource.cache.stored.key(call.namespace, meta["name"])
        if not call.dry_run:
            if _is_version(version) and call.info.verb == "create":
                raise BadRequest("resourceVersion should not be set on objects to be created")
            stored = await resource.to_store(obj) if resource.converts else obj
            return await parts.storage.create(resource.cache, key, stored, call.author, managed)
        if resource.cache.at(key) is not None:
            raise Mismatch(key, None)
        return transient(resource, key, obj, 0, managed)


def _is_version(text: str | None) -> bool:
    """Whether it is a revision. What is no number of 64 bits, as the "v1" of some clients, counts as none."""
    return bool(text and text.isascii() and text.isdigit() and 0 < int(text[:21]) < 2**64)


def check(parts: Parts, call: Call, obj: dict[str, Any], context: Context) -> None:
    """What the kind says about a new object. Raises Invalid."""
    kind = call.resource.kind

    def problems(obj: Mapping[str, Any]) -> list[FieldError]:
        found = [
            *validate_metadata(obj, kind.name_check, call.resource.namespaced, finalizers=kind.qualified_finalizers),
            *kind.validate(obj, context),
        ]
        return found or validate_new_names(obj)

    if found := problems(obj):
        raise refused(parts, call, obj, found, problems)
    call.warn(*kind.warnings(obj, None, context))


def body(parts: Parts, call: Call) -> dict[str, Any]:
    """The request's object: decoded, defaulted, in the stored version. Raises BadRequest."""
    request, resource = call.request, call.resource
    decoded = bodies.decode(resource.codec or parts.codec, request, resource.expected, call.validation)
    call.warn(*decoded.warnings, *metadata.distinct_owners(decoded.obj.get("metadata") or {}))
    obj = to_stored(resource, decoded.obj)
    if "audit" in request.attributes:
        request.attributes["audit"].request_object(obj)
    return obj


def to_stored(resource: Resource, obj: dict[str, Any]) -> dict[str, Any]:
    """Default an object of the served version and turn it into the stored one."""
    resource.kind.default(obj, resource.version)
    if resource.foreign:
        stored = resource.cache.stored
        obj = resource.kind.convert(obj, resource.version, resource.kind.stored_version)
        obj["kind"], obj["apiVersion"] = stored.kind, stored.api_version
    return obj


def transient(resource: Resource, key: str, obj: Mapping[str, Any], revision: int, managed: bytes) -> Entry:
    """An Entry of an object that is not in the store: what a dry run answers with."""
    return resource.transient(key, obj, revision, managed)


def _fresh(obj: dict[str, Any]) -> dict[str, Any]:
    """A copy to try another name with: the attempt before changed its own."""
    copy: dict[str, Any] = codec.loads(codec.dumps(obj))
    return dict(copy)


def _exists(call: Call, obj: dict[str, Any]) -> ApiError:
    resource = call.resource
    error = errors.already_exists(resource.group, resource.plural, obj["metadata"].get("name", ""))
    if obj["metadata"].get("generateName"):
        error.message += ", the server was not able to generate a unique name for the object"
        error.retry_after = 1
    return error
