"""scale: the number of replicas of any kind that has them, as autoscaling/v1 Scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tiphys.api import errors
from tiphys.api.kinds.autoscaling.scale import TYPE, Scale
from tiphys.api.kinds.base import ScalePaths, invalid
from tiphys.api.patch.request import APPLY
from tiphys.api.selectors import from_labels, from_object
from tiphys.api.validation.metadata import validate_metadata
from tiphys.apiserver import options, patching, reading, respond, tables
from tiphys.apiserver.applying import configuration, forced
from tiphys.apiserver.entries import Entry
from tiphys.apiserver.metadata import match_name, match_namespace
from tiphys.apiserver.parts import Parts
from tiphys.apiserver.resource import Call
from tiphys.apiserver.subresources.bodies import decode
from tiphys.apiserver.updating import RETRIES, Change, update
from tiphys.base.http.types import Response

Object = Mapping[str, Any]
GROUP, VERSION, KIND = "autoscaling", "v1", "Scale"
SCALE = Scale()


async def get(parts: Parts, call: Call) -> Response:
    """GET scale."""
    entry = await reading.get(parts, call, call.info.name)
    return _answer(call, scale_of(await _shown(call, entry), _paths(call)))


async def put(parts: Parts, call: Call) -> Response:
    """PUT scale."""
    options.read_write_options(call)
    wanted = decode(parts, call, GROUP, VERSION, KIND)
    match_name(wanted.setdefault("metadata", {}), call.info.name)
    match_namespace(wanted["metadata"], call.namespace)

    async def scale(*_: object) -> tuple[Object, None]:
        return wanted, None

    return await _write(parts, call, scale, conditional=bool(wanted["metadata"].get("resourceVersion")))


async def patch(parts: Parts, call: Call) -> Response:
    """PATCH scale: the patch applies to the Scale, not to the object behind it."""
    options.read_write_options(call)
    type = parts.codec.definitions.of(GROUP, VERSION, KIND)
    paths = _paths(call)

    async def scale(shown: Object, old: Entry) -> tuple[Object, bytes | None]:
        if patching.check_media(call) == APPLY:
            config = configuration(call)
            return parts.ownership.scale_applied(call, old, shown, config, paths.replicas, force=forced(call))
        return await patching.patched(parts, call, shown, type), None

    return await _write(parts, call, scale, conditional=False)


async def _write(parts: Parts, call: Call, scale: Any, *, conditional: bool) -> Response:
    paths = _paths(call)

    managed: bytes | None = None

    async def make(current: Object, old: Entry) -> dict[str, Any]:
        nonlocal managed
        shown = scale_of(current, paths)
        wanted, managed = await scale(shown, old)
        wanted = {**wanted, "metadata": dict(wanted["metadata"])}
        await parts.admission.consult(call, "UPDATE", wanted, shown)
        replicas = (wanted.get("spec") or {}).get("replicas") or 0
        problems = validate_metadata(wanted, "dns_subdomain", call.resource.namespaced)
        if replicas < 0:
            problems.append(invalid("spec.replicas", replicas, "must be greater than or equal to 0"))
        if problems:
            raise errors.invalid(GROUP, KIND, call.info.name, problems)
        if managed is None:
            managed = parts.ownership.scaled(call, old, shown, wanted, paths.replicas)
        metadata = dict(current["metadata"])
        for field in ("uid", "resourceVersion"):
            metadata[field] = wanted["metadata"].get(field) or metadata[field]
        return {**put_at(current, paths.replicas.split("."), replicas), "metadata": metadata}

    change = Change(make, retries=0 if conditional else RETRIES, track=lambda *_: managed)
    entry = await update(parts, replace(call, admitted=True), call.info.name, change)
    return _answer(call, scale_of(await _shown(call, entry), paths))


async def _shown(call: Call, entry: Entry) -> Object:
    if call.resource.converts:
        await call.resource.ready((entry,))
    return call.resource.current(entry)


def _answer(call: Call, scale: Object) -> Response:
    info = replace(call.resource.info, behaviour=SCALE, type_name=TYPE)
    return respond.plain(call.request, scale, tabulate=tables.unstored(call.request, info, [scale], call.now))


def scale_of(obj: Object, paths: ScalePaths) -> dict[str, Any]:
    """The Scale of an object."""
    metadata = obj["metadata"]
    shown = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    status: dict[str, Any] = {"replicas": get_at(obj, paths.status_replicas.split(".")) or 0}
    selector = _selector(get_at(obj, paths.selector.split(".")))
    if selector:
        status["selector"] = selector
    replicas = get_at(obj, paths.replicas.split(".")) or 0
    return {
        "kind": KIND,
        "apiVersion": f"{GROUP}/{VERSION}",
        "metadata": {field: metadata[field] for field in shown if field in metadata},
        "spec": {"replicas": replicas} if replicas else {},
        "status": status,
    }


def get_at(obj: Any, path: list[str]) -> Any:
    """What stands at a path, None if nothing does."""
    for key in path:
        obj = (obj or {}).get(key)
    return obj


def put_at(obj: Object, path: list[str], value: Any) -> dict[str, Any]:
    """A copy of the path with another value at its end; the rest is shared."""
    key, *rest = path
    return {**obj, key: put_at(obj.get(key) or {}, rest, value) if rest else value}


def _selector(value: Any) -> str:
    if isinstance(value, str) or not value:
        return value or ""
    labelled = "matchLabels" in value or "matchExpressions" in value
    return str(from_object(value) if labelled else from_labels(value))


def _paths(call: Call) -> ScalePaths:
    return call.resource.kind.scale or ScalePaths()
